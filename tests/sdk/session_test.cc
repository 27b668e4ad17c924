#include "sdk/session.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "memory/format.h"
#include "memory/session_format.h"
#include "sdk/document_reader.h"
#include "sdk/session_record.h"
#include "tests/sdk/sdk_fixture.h"

extern char** environ;

namespace eidetic::sdk {
namespace {

using memory::Code;

constexpr char kNeedle[] = " One of the special magic numbers for ancient-dragon is: 6986384. ";
constexpr char kQuestion[] =
    " What is the special magic number for ancient-dragon mentioned in the provided text? The "
    "special magic number for ancient-dragon mentioned in the provided text is";

// A window so small that a page of prose overflows it.
SessionOptions SmallWindow() {
  SessionOptions options;
  options.window = 256;
  options.query_offset = 256;
  options.segment = 128;
  return options;
}

class SessionTest : public SdkTest {
 protected:
  static std::string HaystackWithNeedle() {
    const std::string prose = Prose(6000);
    const size_t at = prose.find(". ", 1500) + 1;
    return prose.substr(0, at) + kNeedle + prose.substr(at);
  }
};

TEST_F(SessionTest, StreamRecallsWhatLeftTheWindowAndSaysWhere) {
  const auto engine = HybridEngine();
  const std::string haystack = HaystackWithNeedle();
  auto session = Must(Session::Create(engine, SmallWindow(), nullptr));
  MustOk(session->Append(Tokens(*engine, haystack), /*use_span=*/false, {}));
  MustOk(session->Append(Tokens(*engine, kQuestion), /*use_span=*/true, {}));
  GenerateOptions greedy;
  greedy.max_tokens = 12;
  const GenerateResult answer = Must(session->Generate(greedy));
  EXPECT_NE(answer.text.find("6986384"), std::string::npos) << answer.text;

  const std::vector<Passage> sources = Must(session->Sources(1, PassageOrder::kByFocus));
  ASSERT_EQ(sources.size(), 1u);
  EXPECT_NE(sources[0].text.find("6986384"), std::string::npos) << sources[0].text;
  const size_t needle_at = haystack.find("6986384");
  EXPECT_LE(sources[0].byte_begin, needle_at);
  EXPECT_GE(sources[0].byte_end, needle_at + 7);
  EXPECT_GT(sources[0].attention, 0);
  EXPECT_LE(sources[0].attention, 1);
  EXPECT_GT(sources[0].focus, sources[0].attention);  // a layer looked it up; most do not
  EXPECT_LE(sources[0].focus, 1);
}

TEST_F(SessionTest, WindowAloneForgetsWhatLeftIt) {
  const auto engine = HybridEngine();
  SessionOptions options = SmallWindow();
  options.mode = SessionMode::kWindow;
  auto session = Must(Session::Create(engine, options, nullptr));
  MustOk(session->Append(Tokens(*engine, HaystackWithNeedle()), /*use_span=*/false, {}));
  MustOk(session->Append(Tokens(*engine, kQuestion), /*use_span=*/true, {}));
  GenerateOptions greedy;
  greedy.max_tokens = 12;
  const GenerateResult answer = Must(session->Generate(greedy));
  EXPECT_EQ(answer.text.find("6986384"), std::string::npos) << answer.text;
  EXPECT_TRUE(Must(session->Sources(0, PassageOrder::kByFocus)).empty());
}

// What a session says after it was opened: token ids as text, then the raw logits.
std::string Continue(Session* session) {
  const GenerateResult said = Must(session->Generate(Sampled(16)));
  std::string out = said.text;
  out.append(reinterpret_cast<const char*>(session->logits().data()),
             session->logits().size() * sizeof(float));
  return out;
}

// Not a test of its own: what the child process of the next test runs.
TEST_F(SessionTest, ChildContinuesASavedSession) {
  const char* archive_path = std::getenv("EIDETIC_TEST_CHILD_ARCHIVE");
  if (archive_path == nullptr) {
    SUCCEED() << "run by RestoredSessionContinuesBitForBitInANewProcess";
    return;
  }
  memory::ArchiveOptions options;
  options.path = archive_path;
  auto session = Must(Session::Open(HybridEngine(), Must(memory::Archive::Open(options)), "talk"));
  std::ofstream(std::getenv("EIDETIC_TEST_CHILD_OUTPUT"), std::ios::binary)
      << Continue(session.get());
}

TEST_F(SessionTest, RestoredSessionContinuesBitForBitInANewProcess) {
  const auto engine = HybridEngine();
  const std::vector<int32_t> text = Tokens(*engine, Prose(4000));
  std::string uninterrupted;
  {
    auto archive = OpenArchive();
    SessionOptions options = SmallWindow();
    options.name = "talk";
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Append(text, /*use_span=*/true, {}));
    Must(session->Generate(Sampled(5)));
    MustOk(session->Save());
    uninterrupted = Continue(session.get());  // goes on after the save; never saved itself
  }

  const std::string output = folder_ / "child-output";
  setenv("EIDETIC_TEST_CHILD_ARCHIVE", ArchivePath().c_str(), 1);
  setenv("EIDETIC_TEST_CHILD_OUTPUT", output.c_str(), 1);
  std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  std::string filter = "--gtest_filter=SessionTest.ChildContinuesASavedSession";
  char* arguments[] = {program.data(), filter.data(), nullptr};
  pid_t child = 0;
  ASSERT_EQ(posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environ), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  unsetenv("EIDETIC_TEST_CHILD_ARCHIVE");
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);

  std::ifstream in(output, std::ios::binary);
  std::stringstream restored;
  restored << in.rdbuf();
  EXPECT_GT(uninterrupted.size(), engine->model().config().vocabulary * sizeof(float));
  EXPECT_TRUE(restored.str() == uninterrupted);
}

// The blocks in the span of the last answer.
std::vector<std::pair<uint64_t, uint64_t>> SpanOf(const Session& session) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const Passage& passage : Must(session.Sources(0, PassageOrder::kByScore))) {
    ranges.emplace_back(passage.token_begin, passage.token_end);
  }
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST_F(SessionTest, ARestoredRandomSessionGoesOnWithTheSameDraws) {
  const auto engine = HybridEngine();
  SessionOptions options = SmallWindow();
  options.mode = SessionMode::kRandom;
  options.span_blocks = 4;
  options.seed = 11;
  options.name = "talk";
  std::vector<std::pair<uint64_t, uint64_t>> blocks;
  std::string uninterrupted;
  {
    auto archive = OpenArchive();
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Append(Tokens(*engine, Prose(4000)), /*use_span=*/false, {}));
    Must(session->Generate(Sampled(3)));  // draws
    MustOk(session->Save());
    uninterrupted = Continue(session.get());
    blocks = SpanOf(*session);
  }
  auto session = Must(Session::Open(engine, OpenArchive(), "talk"));
  EXPECT_EQ(Continue(session.get()), uninterrupted);
  EXPECT_EQ(SpanOf(*session), blocks);
  EXPECT_FALSE(blocks.empty());
}

TEST_F(SessionTest, TheSeedOfTheFirstAnswerThatDrawsCounts) {
  const auto engine = HybridEngine();
  std::vector<std::string> answers;
  for (uint64_t seed : {1, 2, 1}) {
    auto session = Must(Session::Create(engine, SmallWindow(), nullptr));
    MustOk(session->Append(Tokens(*engine, "Once upon a time there was"), false, {}));
    GenerateOptions options;
    options.max_tokens = 2;
    Must(session->Generate(options));  // greedy
    options = Sampled(12);
    options.seed = seed;
    answers.push_back(Must(session->Generate(options)).text);
  }
  EXPECT_EQ(answers[0], answers[2]);
  EXPECT_NE(answers[0], answers[1]);
}

// Every file of a folder, by path: its bytes.
std::map<std::string, std::string> Contents(const std::string& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::string& bytes = contents[entry.path().string()];
    bytes.resize(entry.file_size());
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  return contents;
}

TEST_F(SessionTest, ASessionOfAReadOnlyArchiveGoesOnAndWritesNothing) {
  const auto engine = HybridEngine();
  const std::vector<int32_t> text = Tokens(*engine, Prose(4000));
  const std::vector<int32_t> more = Tokens(*engine, Prose(1500));
  std::string written;
  {
    auto archive = OpenArchive();
    SessionOptions options = SmallWindow();
    options.name = "talk";
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Append(text, /*use_span=*/true, {}));
    MustOk(session->Save());
    MustOk(session->Append(more, /*use_span=*/true, {}));  // more leaves the window
    written = Continue(session.get());
  }
  const auto before = Contents(ArchivePath());
  {
    auto archive = OpenArchive(/*read_only=*/true);
    auto session = Must(Session::Open(engine, archive, "talk"));
    MustOk(session->Append(more, /*use_span=*/true, {}));
    EXPECT_EQ(Continue(session.get()), written);
    for (const Passage& passage : Must(session->Sources(0, PassageOrder::kByFocus))) {
      EXPECT_EQ(passage.source, "talk");
      EXPECT_FALSE(passage.text.empty());
    }
    const memory::Status saved = session->Save();
    EXPECT_EQ(saved.code(), Code::kInvalidArgument);
    EXPECT_NE(saved.message().find("read-only"), std::string::npos) << saved.message();
    SessionOptions fresh = SmallWindow();
    fresh.name = "another";
    const memory::Status created = Session::Create(engine, fresh, archive).status();
    EXPECT_EQ(created.code(), Code::kInvalidArgument);
    EXPECT_NE(created.message().find("read-only"), std::string::npos) << created.message();
  }
  EXPECT_TRUE(Contents(ArchivePath()) == before);
}

TEST_F(SessionTest, WhatWasNotSavedIsAbsentAfterReopening) {
  const auto engine = HybridEngine();
  const std::vector<int32_t> text = Tokens(*engine, Prose(3000));
  {
    auto archive = OpenArchive();
    SessionOptions options = SmallWindow();
    options.name = "talk";
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Append(text, false, {}));
    MustOk(session->Save());
    MustOk(session->Append(text, false, {}));  // leaves blocks behind that nothing acknowledges
  }
  auto archive = OpenArchive();
  auto session = Must(Session::Open(engine, archive, "talk"));
  EXPECT_NE(session->InfoJson().find("\"position\":" + std::to_string(text.size())),
            std::string::npos);
  for (const memory::LineageRecord& lineage : Must(archive->store().Lineages())) {
    uint64_t end = 0;
    MustOk(archive->store().ScanBlocks(
        lineage.id, [&](const memory::BlockHeader& header, const std::vector<uint16_t>&) {
          end = header.position + header.tokens.size();
          return memory::Status();
        }));
    EXPECT_LE(end, text.size());
  }
  EXPECT_TRUE(Must(archive->Verify({})).clean());
}

// A session of a few tokens as it was saved before there were turns: all of it in one record.
SessionRecord SavedBeforeTurns(const Engine& engine, memory::Archive* archive,
                               const std::string& name) {
  SessionRecord record;
  record.options = SmallWindow();
  record.options.name = name;
  record.options.span_layers = engine.model().config().AttentionLayers();
  model::AttentionOptions attention;
  attention.window = record.options.window;
  attention.sinks = record.options.sinks;
  attention.query_offset = record.options.query_offset;
  attention.span_layers = record.options.span_layers;
  auto state = engine.model().NewState(attention);
  record.tokens = Tokens(engine, "Once upon a time");
  engine.model().Forward(record.tokens, state.get(), {}, &record.logits);
  record.fingerprint = engine.fingerprint();
  record.sampler = model::Sampler(0).Serialize();
  record.model_state = state->Serialize();
  auto lineage = Must(archive->store().NewLineage(
      engine.LayoutOf(record.options.span_layers, record.options.codec), "session/" + name));
  record.lineage = lineage->lineage();
  MustOk(archive->CommitSession(name, lineage.get(), EncodeSessionRecord(record)));
  return record;
}

TEST_F(SessionTest, ARecordThatContradictsItselfIsRefusedByName) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const SessionRecord saved = SavedBeforeTurns(*engine, archive.get(), "talk");
  const SessionRecord other = SavedBeforeTurns(*engine, archive.get(), "other");
  const auto refuse = [&](const char* told, auto change) {
    SessionRecord record = saved;
    change(&record);
    MustOk(archive->CommitSession("talk", nullptr, EncodeSessionRecord(record)));
    const memory::Status status = Session::Open(engine, archive, "talk").status();
    EXPECT_EQ(status.code(), Code::kCorruption) << told;
    EXPECT_NE(status.message().find("'talk'"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(told), std::string::npos) << status.message();
  };
  refuse("segment is 0", [](SessionRecord* record) { record->options.segment = 0; });
  refuse("window is -1", [](SessionRecord* record) { record->options.window = -1; });
  refuse("a span layer is 0", [](SessionRecord* record) { record->options.span_layers = {0}; });
  refuse("span layers", [](SessionRecord* record) { record->options.span_layers.clear(); });
  refuse("token 1 has id 49152", [](SessionRecord* record) { record->tokens[1] = 49152; });
  refuse("logits", [](SessionRecord* record) { record->logits.pop_back(); });
  refuse("lineage 99", [](SessionRecord* record) { record->lineage = 99; });
  refuse("belongs to session/other",
         [&](SessionRecord* record) { record->lineage = other.lineage; });
  refuse("another layout",
         [](SessionRecord* record) { record->options.codec = kernels::Codec::kFp16; });
  refuse("at token", [](SessionRecord* record) { record->tokens.pop_back(); });
  MustOk(archive->CommitSession("talk", nullptr, EncodeSessionRecord(saved)));
  Must(Session::Open(engine, archive, "talk"));
}

TEST_F(SessionTest, ADamagedSessionIsNotOverwrittenByANewOneOfItsName) {
  const auto engine = HybridEngine();
  SessionOptions options = SmallWindow();
  options.name = "talk";
  auto archive = OpenArchive();
  {
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Append(Tokens(*engine, "Once upon a time"), false, {}));
    MustOk(session->Save());
  }
  {
    memory::RecordStore& records = archive->store().records();
    const std::string key = memory::format::HeadKey("talk");
    std::string value = Must(records.Get(memory::Family::kSessions, key));
    value[value.size() / 2] = static_cast<char>(value[value.size() / 2] ^ 1);
    memory::RecordBatch batch;
    batch.Put(memory::Family::kSessions, key, value);
    MustOk(records.Write(batch, true));
  }
  archive.reset();  // a writer knows its sessions: another one reads them
  archive = OpenArchive();
  for (const memory::Status& status : {Session::Create(engine, options, archive).status(),
                                       Session::Open(engine, archive, "talk").status()}) {
    EXPECT_EQ(status.code(), Code::kCorruption);
    EXPECT_NE(status.message().find("session talk"), std::string::npos) << status.message();
  }
}

TEST_F(SessionTest, AStoppedMessageClosesTheTurnBeforeItOnce) {
  const auto engine = HybridEngine();
  SessionOptions options = SmallWindow();
  options.segment = 4;
  std::vector<size_t> lengths;
  for (const bool stop : {false, true}) {
    auto session = Must(Session::Create(engine, options, nullptr));
    MustOk(session->AppendMessage("user", "Say a word.", false, {}));
    GenerateOptions answer;
    answer.max_tokens = 1;
    answer.assistant_turn = true;
    Must(session->Generate(answer));
    const memory::Status read =
        session->AppendMessage("user", "And one more word, please.", false,
                               [stop](const AppendProgress&) { return !stop; });
    EXPECT_EQ(read.code(), stop ? Code::kCancelled : Code::kOk);
    const std::string before = session->InfoJson();
    MustOk(session->AppendMessage("user", "Another.", false, {}));
    const auto position = [](const std::string& info) {
      return nlohmann::json::parse(info).at("position").get<size_t>();
    };
    lengths.push_back(position(session->InfoJson()) - position(before));
  }
  EXPECT_EQ(lengths[0], lengths[1]);
}

TEST_F(SessionTest, FreshSessionAnswersFromAnIngestedDocument) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const std::string haystack = HaystackWithNeedle();
  IngestOptions ingest;
  ingest.collection = "books";
  ingest.source = "a book.txt";
  ingest.window = 256;
  Must(IngestDocument(*engine, archive.get(), haystack, ingest));

  SessionOptions options;
  options.forget_own_past = true;
  auto session = Must(Session::Create(engine, options, nullptr));
  MustOk(session->Attach(archive, "books"));
  MustOk(session->Append(Tokens(*engine, kQuestion + 1), /*use_span=*/true, {}));
  GenerateOptions greedy;
  greedy.max_tokens = 12;
  const GenerateResult answer = Must(session->Generate(greedy));
  EXPECT_NE(answer.text.find("6986384"), std::string::npos) << answer.text;
  const std::vector<Passage> sources = Must(session->Sources(3, PassageOrder::kByFocus));
  ASSERT_FALSE(sources.empty());
  bool found = false;
  for (const Passage& passage : sources) {
    EXPECT_EQ(passage.collection, "books");
    EXPECT_EQ(passage.source, "a book.txt");
    EXPECT_EQ(passage.text,
              haystack.substr(passage.byte_begin, passage.byte_end - passage.byte_begin));
    found = found || passage.text.find("6986384") != std::string::npos;
  }
  EXPECT_TRUE(found);
}

TEST_F(SessionTest, ARemovedDocumentLeavesTheSpanOfARunningSession) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  IngestOptions ingest;
  ingest.collection = "books";
  ingest.source = "a book.txt";
  ingest.window = 256;
  const IngestResult read = Must(IngestDocument(*engine, archive.get(), Prose(2000), ingest));
  auto session = Must(Session::Create(engine, SessionOptions(), nullptr));
  MustOk(session->Attach(archive, "books"));
  MustOk(session->Append(Tokens(*engine, kQuestion), true, {}));
  EXPECT_FALSE(Must(session->Sources(0, PassageOrder::kByScore)).empty());
  Must(session->Generate(Sampled(1)));

  MustOk(archive->RemoveDocument(read.document));
  MustOk(session->Append(Tokens(*engine, kQuestion), true, {}));
  EXPECT_TRUE(Must(session->Sources(0, PassageOrder::kByScore)).empty());
}

TEST_F(SessionTest, ADocumentReplacedInTheMiddleOfAnAnswerCostsNeitherAnswerNorSources) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  IngestOptions ingest;
  ingest.collection = "books";
  ingest.source = "a book.txt";
  ingest.window = 256;
  Must(IngestDocument(*engine, archive.get(), Prose(2000), ingest));
  auto session = Must(Session::Create(engine, SessionOptions(), nullptr));
  MustOk(session->Attach(archive, "books"));
  MustOk(session->Append(Tokens(*engine, kQuestion), true, {}));
  const std::string other = "Another text. " + Prose(1000);
  bool replaced = false;
  GenerateOptions options;
  options.max_tokens = 8;
  options.on_text = [&](std::string_view) {
    if (!std::exchange(replaced, true)) Must(IngestDocument(*engine, archive.get(), other, ingest));
    return true;
  };
  EXPECT_EQ(Must(session->Generate(options)).tokens, 8u);
  ASSERT_TRUE(replaced);
  // What was recalled before is gone and has no text; what came after is from the new version.
  bool from_the_new = false;
  for (const Passage& passage : Must(session->Sources(0, PassageOrder::kByScore))) {
    if (passage.text.empty()) continue;
    from_the_new = true;
    EXPECT_EQ(passage.text,
              other.substr(passage.byte_begin, passage.byte_end - passage.byte_begin));
  }
  EXPECT_TRUE(from_the_new);
}

TEST_F(SessionTest, MemoryOfAnotherModelIsRefusedByName) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  memory::CollectionRecord foreign;
  foreign.name = "foreign";
  foreign.layout = engine->LayoutOf({}, kernels::Codec::kInt8);
  foreign.layout.fingerprint = std::string(64, 'a');
  foreign.window = 1024;
  foreign.sinks = 32;
  foreign.segment = 512;
  Must(archive->EnsureCollection(foreign));
  auto session = Must(Session::Create(engine, SessionOptions(), nullptr));
  const memory::Status status = session->Attach(archive, "foreign");
  EXPECT_EQ(status.code(), Code::kFingerprintMismatch);
  EXPECT_NE(status.message().find("aaaaaaaaaaaa"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find(engine->fingerprint().substr(0, 12)), std::string::npos);
  IngestOptions ingest;
  ingest.collection = "foreign";
  ingest.source = "x";
  EXPECT_EQ(IngestDocument(*engine, archive.get(), "some text", ingest).status().code(),
            Code::kFingerprintMismatch);
}

TEST_F(SessionTest, BadCallsAreErrorsAndLeaveTheSessionUsable) {
  const auto engine = HybridEngine();
  auto session = Must(Session::Create(engine, SmallWindow(), nullptr));
  EXPECT_EQ(session->Append({}, false, {}).code(), Code::kInvalidArgument);
  EXPECT_EQ(session->Append({1, 2, 49152}, false, {}).code(), Code::kInvalidArgument);
  EXPECT_EQ(session->Append({-1}, false, {}).code(), Code::kInvalidArgument);
  EXPECT_EQ(session->Generate(Sampled(1)).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(session->Save().code(), Code::kInvalidArgument);
  SessionOptions wrong = SmallWindow();
  wrong.span_layers = {0};  // a Mamba layer
  EXPECT_EQ(Session::Create(engine, wrong, nullptr).status().code(), Code::kInvalidArgument);
  MustOk(session->Append(Tokens(*engine, "Once upon a time"), false, {}));
  EXPECT_EQ(Must(session->Generate(Sampled(3))).tokens, 3u);
}

TEST_F(SessionTest, LossesAreThoseOfTheLogitsBeforeEachToken) {
  const auto engine = HybridEngine();
  const std::vector<int32_t> tokens = Tokens(*engine, Prose(600));
  ASSERT_GT(tokens.size(), 100u);
  SessionOptions options = SmallWindow();
  options.segment = 32;  // several segments: their edges count too
  auto session = Must(Session::Create(engine, options, nullptr));
  std::vector<float> losses;
  MustOk(session->Append({tokens.begin(), tokens.begin() + 40}, false, {}, {}, &losses));
  MustOk(session->Append({tokens.begin() + 40, tokens.begin() + 100}, false, {}, {}, &losses));
  ASSERT_EQ(losses.size(), 100u);
  EXPECT_TRUE(std::isnan(losses[0]));

  auto slow = Must(Session::Create(engine, options, nullptr));
  for (size_t i = 0; i < 100; ++i) {
    if (i > 0) {
      double sum = 0;
      for (const float logit : slow->logits()) sum += std::exp(static_cast<double>(logit));
      // Segments of 32 and of 1 differ in fp32 rounding: logits by up to 1e-3 (docs/results.md).
      ASSERT_NEAR(std::log(sum) - slow->logits()[static_cast<size_t>(tokens[i])], losses[i], 2e-3)
          << "token " << i;
    }
    MustOk(slow->Append({tokens[i]}, false, {}));
  }
  for (size_t i = 0; i < slow->logits().size(); ++i) {
    ASSERT_NEAR(slow->logits()[i], session->logits()[i], 1e-3);
  }
}

TEST_F(SessionTest, ACancelledAppendKeepsWholeSegments) {
  const auto engine = HybridEngine();
  auto session = Must(Session::Create(engine, SmallWindow(), nullptr));
  const auto status = session->Append(Tokens(*engine, Prose(2000)), false,
                                      [](const AppendProgress& p) { return p.tokens < 256; });
  EXPECT_EQ(status.code(), Code::kCancelled);
  EXPECT_NE(session->InfoJson().find("\"position\":256,"), std::string::npos);
  EXPECT_EQ(Must(session->Generate(Sampled(2))).tokens, 2u);
}

TEST_F(SessionTest, TheStopTextEndsTheAnswerAndIsNotShown) {
  const auto engine = HybridEngine();
  auto session = Must(Session::Create(engine, SmallWindow(), nullptr));
  MustOk(session->Append(Tokens(*engine, "One, two, three, four, five, six, seven,"), false, {}));
  GenerateOptions options;
  options.max_tokens = 32;
  options.stop = ",";
  std::string streamed;
  options.on_text = [&](std::string_view piece) {
    streamed += piece;
    return true;
  };
  const GenerateResult answer = Must(session->Generate(options));
  EXPECT_EQ(answer.reason, StopReason::kText);
  EXPECT_EQ(answer.text.find(','), std::string::npos);
  EXPECT_EQ(streamed, answer.text);
}

}  // namespace
}  // namespace eidetic::sdk
