// Turns with the real hybrid model: what forks, rewinds and restarts leave of the logits, to the
// bit.
#include <sys/types.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "memory/blob.h"
#include "memory/format.h"
#include "memory/session_format.h"
#include "model/packed_floats.h"
#include "sdk/document_reader.h"
#include "sdk/session.h"
#include "sdk/session_record.h"
#include "sdk/session_reports.h"
#include "sdk/turn_record.h"
#include "tests/model/packed_floats_before.h"
#include "tests/sdk/sdk_fixture.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using nlohmann::json;

std::string Bits(const std::vector<float>& numbers) {
  return std::string(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float));
}

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class SessionTurnsTest : public SdkTest {
 protected:
  // The text that turn `turn` of a story reads.
  static std::string Line(int turn, const std::string& story) {
    const std::string prose = Prose(20000);
    return story + " " + prose.substr(static_cast<size_t>(1000 + 700 * turn), 140 + turn % 3 * 60);
  }

  // One turn: something read, something answered. Gives what was answered and the logits after it.
  static std::string Turn(Session* session, int turn, const std::string& story) {
    MustOk(session->Append(Tokens(session->engine(), Line(turn, story)), /*use_span=*/true, {}));
    const GenerateResult said = Must(session->Generate(Sampled(6)));
    return said.text + Bits(session->logits());
  }
  static std::string CommittedTurn(Session* session, int turn, const std::string& story,
                                   const std::string& name = "") {
    const std::string left = Turn(session, turn, story);
    EXPECT_GT(Must(session->CommitTurn(name)).bytes, 0u);
    return left;
  }

  // Puts other content in the place of a turn's.
  static void PutContent(memory::Archive* archive, const memory::TurnHeader& turn,
                         const memory::TurnContent& content) {
    const std::string key = memory::format::ContentKey(turn.lineage, turn.turn);
    memory::RecordBatch batch;
    batch.Put(memory::Family::kSessions, key, memory::format::EncodeContent(key, content));
    MustOk(archive->store().records().Write(batch, true));
  }

  // Saves `content` of a turn of "diary" with one pin instead of its own.
  static void PutPin(memory::Archive* archive, const memory::TurnHeader& turn,
                     memory::TurnContent content, const SavedPin& pin) {
    TurnResume resume = Must(DecodeResume(content.resume, "diary"));
    resume.pins = {pin};
    content.resume = EncodeResume(resume);
    PutContent(archive, turn, content);
  }

  std::unique_ptr<Session> Open(const std::shared_ptr<memory::Archive>& archive,
                                const std::string& name) const {
    return Must(Session::Open(HybridEngine(), archive, name));
  }

  static std::set<uint64_t> Snapshots(const memory::Archive& archive, const std::string& name) {
    std::set<uint64_t> turns;
    for (const memory::TurnHeader& turn : Must(archive.sessions().Turns(name))) {
      if (turn.has_snapshot()) turns.insert(turn.turn);
    }
    return turns;
  }

  static void ExpectClean(const memory::Archive& archive) {
    const memory::VerifyReport report = Must(archive.Verify({}));
    for (const memory::Damage& damage : report.damage) ADD_FAILURE() << damage.what;
  }
};

TEST_F(SessionTurnsTest, BranchesNeverChangeEachOthersLogits) {
  const auto engine = HybridEngine();
  // What the trunk says when nobody else is there: in RAM, in one go.
  std::vector<std::string> alone;
  {
    SessionOptions options = SmallWindow("");
    auto session = Must(Session::Create(engine, options, nullptr));
    for (int turn = 1; turn <= 6; ++turn) alone.push_back(Turn(session.get(), turn, "trunk"));
  }
  auto archive = OpenArchive();
  {
    auto trunk = Must(Session::Create(engine, SmallWindow("trunk"), archive));
    for (int turn = 1; turn <= 3; ++turn) {
      EXPECT_TRUE(CommittedTurn(trunk.get(), turn, "trunk") == alone[turn - 1]) << turn;
    }
  }
  MustOk(archive->sessions().Fork("trunk", 2, "branch", 1));
  std::string branch_said;
  {
    auto trunk = Open(archive, "trunk");
    auto branch = Open(archive, "branch");
    branch_said = CommittedTurn(branch.get(), 3, "branch");
    EXPECT_TRUE(CommittedTurn(trunk.get(), 4, "trunk") == alone[3]);
    CommittedTurn(branch.get(), 4, "branch");
    CommittedTurn(branch.get(), 5, "branch");
  }
  MustOk(archive->sessions().Rewind("branch", 3, 2));
  {
    auto branch = Open(archive, "branch");
    EXPECT_TRUE(Bits(branch->logits()) ==
                branch_said.substr(branch_said.size() - Bits(branch->logits()).size()));
  }
  ExpectClean(*archive);
  archive.reset();
  archive = OpenArchive();
  EXPECT_TRUE(CommittedTurn(Open(archive, "trunk").get(), 5, "trunk") == alone[4]);
  MustOk(archive->sessions().Remove("branch"));
  EXPECT_TRUE(CommittedTurn(Open(archive, "trunk").get(), 6, "trunk") == alone[5]);
  ExpectClean(*archive);

  // And the other way round: the branch outlives the trunk.
  MustOk(archive->sessions().Fork("trunk", 2, "branch", 3));
  MustOk(archive->sessions().Remove("trunk"));
  EXPECT_TRUE(CommittedTurn(Open(archive, "branch").get(), 3, "trunk") == alone[2]);
  ExpectClean(*archive);
}

TEST_F(SessionTurnsTest, BlocksAreBroughtOnTheOtherSideOfAForkToo) {
  constexpr int kTurns = 8, kFork = 5;
  const auto alone = [&](int successors, int turns) {
    SessionOptions options = SmallWindow("");
    options.successor_blocks = successors;
    auto session = Must(Session::Create(HybridEngine(), options, nullptr));
    std::vector<std::string> said;
    for (int turn = 1; turn <= turns; ++turn) said.push_back(Turn(session.get(), turn, "talk"));
    return said;
  };
  const std::vector<std::string> whole = alone(1, kTurns);
  EXPECT_FALSE(whole[kFork - 1] == alone(0, kFork).back());  // blocks are brought by then
  auto archive = OpenArchive();
  {
    auto trunk = Must(Session::Create(HybridEngine(), SmallWindow("trunk"), archive));
    for (int turn = 1; turn <= kFork + 1; ++turn) CommittedTurn(trunk.get(), turn, "talk");
  }
  MustOk(archive->sessions().Fork("trunk", kFork, "branch", 1));
  for (int turn = kFork + 1; turn < kTurns; ++turn) {
    EXPECT_TRUE(CommittedTurn(Open(archive, "branch").get(), turn, "talk") == whole[turn - 1])
        << turn;
  }
  archive.reset();
  memory::ArchiveOptions read_only;
  read_only.path = ArchivePath();
  read_only.read_only = true;
  archive = Must(memory::Archive::Open(read_only));
  auto session = Open(archive, "branch");  // its new blocks stay in RAM
  EXPECT_TRUE(Turn(session.get(), kTurns, "talk") == whole.back());
}

TEST_F(SessionTurnsTest, ATurnWithoutSnapshotIsReadAgainToTheSameBits) {
  auto archive = OpenArchive();
  std::vector<std::string> left;
  {
    SessionOptions options = SmallWindow("talk");
    options.layer_group = 2;  // which must be the same when turns are read again
    auto session = Must(Session::Create(HybridEngine(), options, archive));
    for (int turn = 1; turn <= 11; ++turn) {
      left.push_back(CommittedTurn(session.get(), turn, "talk", turn == 1 ? "beginning" : ""));
    }
  }
  EXPECT_EQ(Snapshots(*archive, "talk"), (std::set<uint64_t>{1, 4, 5, 6, 7, 8, 9, 10, 11}));
  MustOk(archive->sessions().Fork("talk", 3, "second", 1));
  MustOk(archive->sessions().Fork("talk", 1, "first", 1));
  {
    auto session = Open(archive, "second");  // reads turns 2 and 3
    const std::string& then = left[2];
    EXPECT_TRUE(Bits(session->logits()) == then.substr(then.size() - session->logits().size() * 4));
    EXPECT_TRUE(CommittedTurn(session.get(), 4, "talk") == left[3]);
  }
  EXPECT_TRUE(Snapshots(*archive, "second").contains(3));  // put back where it was missing
  ExpectClean(*archive);

  // From the very beginning, when there is no snapshot at all.
  MustOk(archive->sessions().Remove("second"));
  MustOk(archive->sessions().Rewind("talk", 2, 1));
  MustOk(archive->sessions().Remove("first"));
  archive.reset();
  archive = OpenArchive();
  auto session = Open(archive, "talk");
  EXPECT_TRUE(CommittedTurn(session.get(), 3, "talk") == left[2]);
  EXPECT_TRUE(CommittedTurn(session.get(), 4, "talk") == left[3]);
  ExpectClean(*archive);
}

TEST_F(SessionTurnsTest, ReadAgainACollectionIsAsItWas) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const auto ingest = [&](const std::string& source, const std::string& text) {
    IngestOptions options;
    options.collection = "books";
    options.source = source;
    options.window = 256;
    Must(IngestDocument(*engine, archive.get(), text, options));
  };
  ingest("m.txt", Prose(6000));
  std::vector<std::string> left;
  {
    auto session = Must(Session::Create(engine, SmallWindow("talk"), archive));
    MustOk(session->Attach(archive, "books"));
    for (int turn = 1; turn <= 10; ++turn) {
      if (turn == 3) ingest("n.txt", "Another text. " + Prose(3000));
      left.push_back(CommittedTurn(session.get(), turn, "talk"));
    }
  }
  ingest("a.txt", "It sorts before the others. " + Prose(3000));
  MustOk(archive->sessions().Fork("talk", 2, "two", 1));
  {
    auto session = Open(archive, "two");  // turns 1 and 2 saw one document of three
    const std::string& then = left[1];
    EXPECT_TRUE(Bits(session->logits()) == then.substr(then.size() - session->logits().size() * 4));
    EXPECT_NE(session->InfoJson().find("books"), std::string::npos);
    // What comes now recalls from all three.
    EXPECT_FALSE(Turn(session.get(), 3, "talk") == left[2]);
  }
  MustOk(archive->sessions().Fork("talk", 1, "one", 1));
  ingest("m.txt", "Replaced. " + Prose(2000));
  EXPECT_EQ(archive->sessions().Fork("talk", 2, "again", 1).code(), Code::kOk);  // has a snapshot
  const auto gone = Session::Open(engine, archive, "one");
  EXPECT_EQ(gone.status().code(), Code::kUnsupported);
  EXPECT_NE(gone.status().message().find("books"), std::string::npos) << gone.status().message();
  EXPECT_EQ(archive->sessions().Rewind("talk", 1, 1).code(), Code::kNotFound);
  ExpectClean(*archive);
}

TEST_F(SessionTurnsTest, TwoCollectionsAndTheOwnPastAreRecalledTogetherAndStayAttached) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const auto ingest = [&](const std::string& collection, const std::string& text) {
    IngestOptions options;
    options.collection = collection;
    options.source = collection + ".txt";
    options.window = 256;
    Must(IngestDocument(*engine, archive.get(), text, options));
  };
  ingest("books", Prose(600));
  ingest("letters", "One of the special magic numbers for green-owl is: 7712345. " + Prose(300));
  SessionOptions options = SmallWindow("talk");
  options.span_blocks = 64;  // all there are
  {
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Attach(archive, "books"));
    MustOk(session->Attach(archive, "letters"));
    MustOk(session->Append(Tokens(*engine, Prose(1500).substr(700)), false, {}));
    Must(session->CommitTurn(""));
  }
  auto session = Open(archive, "talk");
  MustOk(session->Append(
      Tokens(*engine,
             "\nWhat is the special magic number for green-owl mentioned in the provided text? The "
             "special magic number for green-owl mentioned in the provided text is"),
      true, {}));
  GenerateOptions greedy;
  greedy.max_tokens = 12;
  const GenerateResult answer = Must(session->Generate(greedy));
  EXPECT_NE(answer.text.find("7712345"), std::string::npos) << answer.text;
  std::set<std::string> recalled;
  for (const Passage& passage : Must(session->Sources(100, PassageOrder::kByFocus))) {
    recalled.insert(passage.collection);
  }
  EXPECT_EQ(recalled, (std::set<std::string>{"", "books", "letters"}));
}

TEST_F(SessionTurnsTest, ReadAgainWordsPinWhatTheyPinned) {
  auto archive = OpenArchive();
  IngestOptions ingest;
  ingest.collection = "books";
  ingest.source = "m.txt";
  ingest.window = 256;
  Must(IngestDocument(*HybridEngine(), archive.get(), Prose(6000), ingest));
  SessionOptions options = SmallWindow("talk");
  options.policy = memory::RecallPolicy::kBoth;
  std::vector<std::string> left;
  {
    auto session = Must(Session::Create(HybridEngine(), options, archive));
    MustOk(session->Attach(archive, "books"));
    for (int turn = 1; turn <= 10; ++turn) {
      left.push_back(CommittedTurn(session.get(), turn, "Holmes"));
    }
    EXPECT_EQ(session->InfoJson().find("\"pinned_blocks\":0"), std::string::npos);
  }
  // What is found by words depends on all that is there: another document changes it for later.
  ingest.source = "n.txt";
  Must(IngestDocument(*HybridEngine(), archive.get(), "Holmes. " + Prose(9000).substr(3000),
                      ingest));
  MustOk(archive->sessions().Fork("talk", 2, "two", 1));
  auto session = Open(archive, "two");
  const std::string& then = left[1];
  EXPECT_TRUE(Bits(session->logits()) == then.substr(then.size() - session->logits().size() * 4));
  ExpectClean(*archive);

  // A turn cannot be read again without a block that was pinned then: the error names it.
  const memory::TurnHeader first = Must(archive->sessions().Turns("talk")).front();
  memory::TurnContent forged = Must(archive->sessions().Content(first));
  std::string gone;
  for (memory::RecallView& view : forged.views) {
    std::vector<SavedPin> pins = Must(DecodePins(view.choice, "talk"));
    if (pins.empty()) continue;
    pins[0].position += 1 << 20;
    gone = "the pinned block at position " + std::to_string(pins[0].position) + " of lineage " +
           std::to_string(pins[0].lineage) + ", of collection 'books'";
    view.choice = EncodePins(pins);
  }
  ASSERT_NE(gone, "");
  PutContent(archive.get(), first, forged);
  MustOk(archive->sessions().Fork("talk", 1, "one", 1));
  const memory::Status status = Session::Open(HybridEngine(), archive, "one").status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find(gone), std::string::npos) << status.message();
}

TEST_F(SessionTurnsTest, AConversationOverManyRestartsIsThatOfOneProcess) {
  const auto engine = HybridEngine();
  const auto message = [](Session* session, int turn) {
    MustOk(session->AppendMessage("user", Line(turn, "talk"), true, {}));
    GenerateOptions options = Sampled(6);
    options.assistant_turn = true;
    return Must(session->Generate(options)).text + Bits(session->logits());
  };
  std::vector<std::string> alone;
  auto session = Must(Session::Create(engine, SmallWindow(""), nullptr));
  for (int turn = 1; turn <= 8; ++turn) alone.push_back(message(session.get(), turn));
  session = Must(Session::Create(engine, SmallWindow("talk"), OpenArchive()));
  for (int turn = 1; turn <= 8; ++turn) {
    EXPECT_TRUE(message(session.get(), turn) == alone[turn - 1]) << turn;
    MustOk(session->Save());
    if (turn % 2 == 1) continue;
    session.reset();  // and with it the archive
    session = Open(OpenArchive(), "talk");
  }
  session.reset();
  const auto archive = OpenArchive();
  const json exported = json::parse(Must(ExportSession(*archive, "talk", ExportFormat::kJson)));
  ASSERT_EQ(exported.at("turn_list").size(), 8u);
  const json& parts = exported.at("turn_list")[2].at("parts");
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].at("role"), "user");
  EXPECT_EQ(parts[0].at("text"), Line(3, "talk"));
  EXPECT_EQ(parts[1].at("role"), "assistant");
  EXPECT_TRUE(parts[1].at("generated"));
  EXPECT_TRUE(alone[2].starts_with(parts[1].at("text").get<std::string>()));
  const std::string text = Must(ExportSession(*archive, "talk", ExportFormat::kText));
  EXPECT_TRUE(text.starts_with("user: " + Line(1, "talk") + "\nassistant: ")) << text;
}

// Of plain bytes, and of how many rows and columns.
using PackBefore = std::string (*)(const std::string& plain, uint32_t rows, uint32_t columns);

std::string AsTheyAre(const std::string& plain, uint32_t, uint32_t) {
  return plain;
}

// Puts a session's states and rows, packed as they were before, in the place of those that are
// there.
void StoreAsBefore(memory::Archive* archive, const std::string& name, PackBefore pack) {
  memory::RecordStore& records = archive->store().records();
  const memory::Family family = memory::Family::kSessions;
  memory::RecordBatch batch;
  size_t changed = 0;
  for (memory::TurnHeader turn : Must(archive->sessions().Turns(name))) {
    const std::string prefix = memory::format::SnapshotPrefix(turn.lineage, turn.turn);
    const std::string state = Must(memory::ReadBlob(records, family, prefix));
    const std::string plain = model::UnpackFloats(state);
    const std::string before = pack(plain, 32, 64);
    changed += before != state ? 1 : 0;
    MustOk(memory::PutBlob(records, family, prefix, before, &batch));
    turn.snapshot_chunks = static_cast<uint32_t>((before.size() + (1u << 20) - 1) >> 20);
    const std::string key = memory::format::TurnKey(turn.lineage, turn.turn);
    batch.Put(family, key, memory::format::EncodeTurn(key, turn));
    if (turn.turn > 1) continue;
    const std::string begin = memory::format::RowsKey(turn.lineage, 0);
    MustOk(records.Scan(family, begin, memory::format::LineageEnd(begin),
                        [&](std::string_view at, std::string_view value) -> memory::Status {
                          memory::WindowRows rows = Must(memory::format::DecodeRows(at, value));
                          const std::string now = rows.bytes;
                          rows.bytes = model::UnpackFloats(std::move(rows.bytes));
                          const auto tokens = static_cast<uint32_t>(rows.end - rows.begin);
                          rows.bytes = pack(rows.bytes, tokens, 64);
                          changed += rows.bytes != now ? 1 : 0;
                          batch.Put(family, std::string(at), memory::format::EncodeRows(at, rows));
                          return {};
                        }));
  }
  EXPECT_GE(changed, 6u);
  MustOk(records.Write(batch, true));
}

TEST_F(SessionTurnsTest, WhatWasStoredBeforeThereWasPackingAndAsItWasAtFirstIsRead) {
  auto archive = OpenArchive();
  std::vector<std::string> left;
  {
    auto session = Must(Session::Create(HybridEngine(), SmallWindow("talk"), archive));
    for (int turn = 1; turn <= 2; ++turn) {
      left.push_back(CommittedTurn(session.get(), turn, "talk"));
    }
    for (const char* fork : {"same", "again"}) {
      MustOk(archive->sessions().Fork("talk", 2, fork, 1));
    }
    left.push_back(Turn(session.get(), 3, "talk"));
  }
  for (const auto& [pack, fork] : {std::pair<PackBefore, const char*>{AsTheyAre, "same"},
                                   {model::PackFloatsBefore, "again"}}) {
    SCOPED_TRACE(fork);
    StoreAsBefore(archive.get(), "talk", pack);
    archive.reset();
    archive = OpenArchive();
    ExpectClean(*archive);
    // What it writes now stands beside what was written then.
    EXPECT_TRUE(CommittedTurn(Open(archive, fork).get(), 3, "talk") == left[2]);
    ExpectClean(*archive);
  }
}

// Bytes of a block's records: all of them are whole.
uint64_t BytesOfABlock(memory::Archive* archive) {
  uint64_t bytes = 0, blocks = 0;
  for (const memory::Family family : {memory::Family::kBlocks, memory::Family::kEmbeddings}) {
    MustOk(archive->store().records().Scan(
        family, "", "", [&](std::string_view key, std::string_view value) -> memory::Status {
          bytes += key.size() + value.size();
          blocks += family == memory::Family::kEmbeddings ? 1 : 0;
          return {};
        }));
  }
  EXPECT_EQ(bytes % blocks, 0u);
  return bytes / blocks;
}

TEST_F(SessionTurnsTest, ATurnWritesItsOwnKeysAndValuesOnceAndIsQuick) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  SessionOptions options;  // the usual window
  options.name = "talk";
  auto session = Must(Session::Create(engine, options, archive));
  const std::vector<int32_t> prose = Tokens(*engine, Prose(11000));
  const auto& config = engine->model().config();
  const auto& mamba = config.mamba;
  constexpr size_t kTurnTokens = 192, kTurns = 12;
  const uint64_t rows = kTurnTokens * config.AttentionLayers().size() * 2 * config.kv_heads *
                        config.head_dim * sizeof(float);
  const uint64_t state = config.MambaLayers().size() * sizeof(float) *
                         (static_cast<size_t>(mamba.heads) * mamba.head_dim * mamba.state +
                          static_cast<size_t>(mamba.conv_width - 1) * mamba.ConvChannels());
  std::vector<uint64_t> bytes;
  std::vector<double> seconds, processor;
  for (size_t turn = 0; turn < kTurns; ++turn) {
    MustOk(session->Append(
        {prose.begin() + turn * kTurnTokens, prose.begin() + (turn + 1) * kTurnTokens}, true, {}));
    const double begin = ThreadSeconds();
    const sdk::CommittedTurn committed = Must(session->CommitTurn(""));
    ASSERT_EQ(committed.tokens, kTurnTokens);
    processor.push_back(ThreadSeconds() - begin);
    bytes.push_back(committed.bytes);
    if ((turn + 1) * kTurnTokens > 1024) seconds.push_back(committed.seconds);
  }
  const std::vector<memory::TurnHeader> turns = Must(archive->sessions().Turns("talk"));
  const uint64_t block = BytesOfABlock(archive.get());
  uint64_t blocks = 0, written = 0;
  for (size_t turn = 0; turn < kTurns; ++turn) {
    SCOPED_TRACE(turn);
    const uint64_t own = turns[turn].block_count - blocks;
    blocks = turns[turn].block_count;
    // What left the window, each token once.
    const bool left = turns[turn].window_begin > turns[turn].sinks;
    EXPECT_EQ(blocks, left ? turns[turn].window_begin / 32 : 0);
    // The bound: the state and the turn's own keys and values as they are, with the blocks that
    // left the window and all that stands beside.
    EXPECT_LE(bytes[turn], state + rows);
    // The kinds: what is packed, blocks, and tokens, text, the window's ids, headers.
    const uint64_t packed = bytes[turn] - own * block;
    EXPECT_LE(packed, state * 82 / 100 + rows * 84 / 100 + (16u << 10));
    EXPECT_GE(packed, state * 70 / 100 + rows * 80 / 100);
    written += bytes[turn];
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::sort(processor.begin(), processor.end());
#if !defined(__SANITIZE_ADDRESS__) && defined(NDEBUG)
  // By the clock 30 ms are asked for, which other work beside a test stretches.
  EXPECT_LT(processor[kTurns / 2], 0.1);
#endif
  std::cout << "commit of a turn of " << kTurnTokens << " tokens: median " << 1000 * median
            << " ms, least " << 1000 * seconds.front() << " ms, most " << 1000 * seconds.back()
            << " ms; written: " << written / kTurns << " bytes, at last " << bytes.back()
            << "; state, keys and values as they are: " << state + rows << " bytes; processor time "
            << 1000 * processor[kTurns / 2] << " ms\n";
  RecordProperty("median_ms", std::to_string(1000 * median));
}

TEST_F(SessionTurnsTest, TwoSessionsAtOnceOnOneEngineAreTwoSessionsAlone) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  std::vector<std::string> alone[2], together[2];
  const auto talk = [&](const std::string& name, const std::string& story,
                        std::vector<std::string>* said) {
    auto session = Must(Session::Create(engine, SmallWindow(name), archive));
    for (int turn = 1; turn <= 4; ++turn)
      said->push_back(CommittedTurn(session.get(), turn, story));
  };
  for (int i = 0; i < 2; ++i) talk("alone" + std::to_string(i), "s" + std::to_string(i), &alone[i]);
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back(
        [&, i] { talk("both" + std::to_string(i), "s" + std::to_string(i), &together[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(together[i] == alone[i]) << i;
  ExpectClean(*archive);
}

TEST_F(SessionTurnsTest, EveryModeGoesOnWhereItWas) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  for (SessionMode mode : {SessionMode::kWindow, SessionMode::kFull, SessionMode::kRandom}) {
    SCOPED_TRACE(SessionModeName(mode));
    SessionOptions options = SmallWindow(SessionModeName(mode));
    options.mode = mode;
    options.seed = 5;
    std::vector<std::string> left;
    auto session = Must(Session::Create(engine, options, archive));
    for (int turn = 1; turn <= 2; ++turn) {
      left.push_back(CommittedTurn(session.get(), turn, "talk"));
    }
    const std::string third = Turn(session.get(), 3, "talk");
    session.reset();
    MustOk(archive->sessions().Fork(options.name, 1, options.name + " fork", 1));
    EXPECT_TRUE(Turn(Open(archive, options.name).get(), 3, "talk") == third);
    EXPECT_TRUE(Turn(Open(archive, options.name + " fork").get(), 2, "talk") == left[1]);
  }
  ExpectClean(*archive);
}

TEST_F(SessionTurnsTest, ASessionSavedBeforeThereWereTurnsGoesOnWithTheSameLogits) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const std::vector<int32_t> first = Tokens(*engine, Line(1, "old")),
                             second = Tokens(*engine, Line(2, "old"));
  std::string expected;
  {
    // As it was saved then: the whole state in one record.
    SessionOptions options = SmallWindow("old");
    options.span_layers = engine->model().config().AttentionLayers();
    model::AttentionOptions attention;
    attention.window = options.window;
    attention.sinks = options.sinks;
    attention.query_offset = options.query_offset;
    attention.span_layers = options.span_layers;
    auto state = engine->model().NewState(attention);
    SessionRecord record;
    const auto read = [&](const std::vector<int32_t>& tokens, std::vector<float>* logits) {
      for (auto at = tokens.begin(); at != tokens.end();) {
        const auto end = at + std::min<std::ptrdiff_t>(options.segment, tokens.end() - at);
        engine->model().Forward({at, end}, state.get(), {}, logits);
        at = end;
      }
    };
    read(first, &record.logits);
    record.fingerprint = engine->fingerprint();
    record.options = options;
    record.tokens = first;
    record.sampler = model::Sampler(0).Serialize();
    record.model_state = state->Serialize();
    auto lineage = Must(archive->store().NewLineage(
        engine->LayoutOf(options.span_layers, options.codec), "session/old"));
    record.lineage = lineage->lineage();
    MustOk(archive->CommitSession("old", lineage.get(), EncodeSessionRecord(record)));
    std::vector<float> logits;
    read(second, &logits);
    expected = Bits(logits);
  }
  EXPECT_NE(Must(SessionsJson(*archive)).find("saved_without_turns"), std::string::npos);
  EXPECT_EQ(ExportSession(*archive, "old", ExportFormat::kText).status().code(),
            Code::kUnsupported);
  const auto continued = [&] {
    auto session = Open(archive, "old");
    MustOk(session->Append(second, false, {}));
    return Bits(session->logits());
  };
  EXPECT_TRUE(continued() == expected);
  MustOk(Open(archive, "old")->Save());
  EXPECT_EQ(archive->SessionRecord("old").status().code(), Code::kNotFound);
  EXPECT_EQ(Snapshots(*archive, "old"), std::set<uint64_t>{1});
  EXPECT_TRUE(continued() == expected);
  ExpectClean(*archive);
}

TEST_F(SessionTurnsTest, AForgottenTurnIsGoneFromEveryForkAndOthersKeepTheirBits) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  {
    auto trunk = Must(Session::Create(engine, SmallWindow("trunk"), archive));
    CommittedTurn(trunk.get(), 1, "trunk");
    MustOk(archive->sessions().Fork("trunk", 1, "other", 1));
    MustOk(trunk->Append(Tokens(*engine, " The heron's password is tangerine seven, said Irene."),
                         /*use_span=*/true, {}));
    Must(trunk->CommitTurn("the secret"));
    CommittedTurn(trunk.get(), 3, "trunk");
    MustOk(archive->sessions().Fork("trunk", 3, "deep", 1));
  }
  const std::string before = Turn(Open(archive, "other").get(), 2, "other");
  memory::ForgetRequest request;
  request.session = "deep";
  request.turn = 2;
  request.verify_files = true;
  const memory::ForgetReceipt receipt = Must(archive->Forget(request));
  EXPECT_TRUE(receipt.scan.value().clean()) << receipt.scan.value().found.front();
  EXPECT_EQ(receipt.sessions.size(), 2u);
  EXPECT_TRUE(Turn(Open(archive, "other").get(), 2, "other") == before);
  const auto gone = [&](const std::string& name) {
    const std::string text = Must(ExportSession(*archive, name, ExportFormat::kText));
    EXPECT_EQ(text.find("tangerine"), text.npos) << name;
    EXPECT_NE(text.find(Line(3, "trunk")), text.npos) << name;
  };
  gone("trunk");
  gone("deep");
  // Opened, it reads the third turn again, and goes on.
  {
    auto trunk = Open(archive, "trunk");
    EXPECT_TRUE(Must(archive->sessions().Waiting("trunk")).empty());
    EXPECT_EQ(Must(archive->sessions().Turns("trunk")).size(), 3u);
    EXPECT_TRUE(Must(archive->sessions().Turns("trunk"))[1].forgotten);
    MustOk(trunk->Append(Tokens(*engine, " What is the heron's password?"), true, {}));
    for (const Passage& passage : Must(trunk->Sources(8, PassageOrder::kByScore))) {
      EXPECT_EQ(passage.text.find("tangerine"), std::string::npos);
    }
    Must(trunk->CommitTurn(""));
  }
  gone("trunk");
  EXPECT_EQ(Must(archive->sessions().Waiting("deep")).size(), 2u);
  ExpectClean(*archive);
  // It goes on where it was, like any other.
  const std::string next = Turn(Open(archive, "trunk").get(), 5, "trunk");
  EXPECT_TRUE(Turn(Open(archive, "trunk").get(), 5, "trunk") == next);
}

TEST_F(SessionTurnsTest, APinOfWhatASessionNeverReadIsDamage) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  for (const char* name : {"diary", "stranger"}) {
    auto session = Must(Session::Create(engine, SmallWindow(name), archive));
    for (int turn = 1; turn <= 4; ++turn) CommittedTurn(session.get(), turn, name);
  }
  const memory::TurnHeader turn = Must(archive->sessions().Turns("diary")).back();
  const memory::LineageId other = Must(archive->sessions().Find("stranger")).path.back().lineage;
  ASSERT_GT(turn.blocks, 32u);
  const memory::TurnContent content = Must(archive->sessions().Content(turn));
  const auto open_with = [&](const SavedPin& pin) {
    PutPin(archive.get(), turn, content, pin);
    return Session::Open(engine, archive, "diary").status();
  };
  MustOk(open_with({"", turn.lineage, 32, 1.0}));
  for (const SavedPin& pin :
       {SavedPin{"", other, 32, 1.0}, SavedPin{"", turn.lineage, 1 << 20, 1.0},
        SavedPin{"", turn.lineage, 33, 1.0}}) {
    const memory::Status status = open_with(pin);
    EXPECT_EQ(status.code(), Code::kCorruption) << status.message();
    EXPECT_NE(status.message().find("position " + std::to_string(pin.position)), std::string::npos)
        << status.message();
  }
  // One that it read, whose record is lost.
  memory::RecordBatch loss;
  loss.Delete(memory::Family::kEmbeddings, memory::format::EmbeddingKey(turn.lineage, 32));
  MustOk(archive->store().records().Write(loss, true));
  const memory::Status status = open_with({"", turn.lineage, 32, 1.0});
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_NE(status.message().find("position 32"), std::string::npos) << status.message();
}

TEST_F(SessionTurnsTest, APinOfACollectionIsOfItsDocumentsOrIsLeftOut) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  IngestOptions ingest;
  ingest.source = "m.txt";
  ingest.window = 64;
  for (const char* collection : {"books", "letters"}) {
    ingest.collection = collection;
    Must(IngestDocument(*engine, archive.get(), Prose(400), ingest));
  }
  {
    auto session = Must(Session::Create(engine, SmallWindow("diary"), archive));
    MustOk(session->Attach(archive, "books"));
    for (int turn = 1; turn <= 2; ++turn) CommittedTurn(session.get(), turn, "diary");
  }
  const memory::TurnHeader turn = Must(archive->sessions().Turns("diary")).back();
  const memory::LineageId book = (*Must(archive->FindDocument("books", "m.txt"))).lineage;
  const memory::LineageId letter = (*Must(archive->FindDocument("letters", "m.txt"))).lineage;
  const memory::TurnContent content = Must(archive->sessions().Content(turn));
  const auto open_with = [&](const SavedPin& pin) {
    PutPin(archive.get(), turn, content, pin);
    return Session::Open(engine, archive, "diary");
  };
  // Blocks of other collections and of sessions are named (rule 4).
  for (const memory::LineageId lineage : {letter, turn.lineage}) {
    const memory::Status status = open_with({"books", lineage, 32, 1.0}).status();
    EXPECT_EQ(status.code(), Code::kCorruption);
    EXPECT_NE(status.message().find("position 32 of lineage " + std::to_string(lineage)),
              std::string::npos)
        << status.message();
  }
  // What went is pinned no longer, and no error.
  MustOk(open_with({"books", book, 32, 1.0}).status());
  MustOk(open_with({"books", book, 33, 1.0}).status());
  MustOk(open_with({"books", 9999, 32, 1.0}).status());
}

TEST_F(SessionTurnsTest, BadCallsAreErrorsAndSpoilNothing) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  auto session = Must(Session::Create(engine, SmallWindow("talk"), archive));
  const std::string left = CommittedTurn(session.get(), 1, "talk");
  EXPECT_EQ(session->CommitTurn(std::string(300, 'n')).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(session->CommitTurn(std::string("a\0b", 3)).status().code(), Code::kInvalidArgument);
  const sdk::CommittedTurn nothing = Must(session->CommitTurn(""));
  EXPECT_EQ(nothing.bytes, 0u);
  EXPECT_EQ(nothing.turn, 1u);
  EXPECT_EQ(Must(session->CommitTurn("a name for it")).turn, 2u);
  EXPECT_EQ(Session::Create(engine, SmallWindow("talk"), archive).status().code(),
            Code::kAlreadyExists);
  EXPECT_EQ(Session::Open(engine, archive, "nobody").status().code(), Code::kNotFound);
  session.reset();
  archive.reset();
  memory::ArchiveOptions read_only;
  read_only.path = ArchivePath();
  read_only.read_only = true;
  archive = Must(memory::Archive::Open(read_only));
  session = Must(Session::Open(engine, archive, "talk"));
  EXPECT_EQ(session->Save().code(), Code::kInvalidArgument);
  EXPECT_TRUE(Bits(session->logits()) == left.substr(left.size() - session->logits().size() * 4));
  EXPECT_EQ(archive->sessions().Fork("talk", 1, "x", 1).code(), Code::kInvalidArgument);
  EXPECT_EQ(archive->sessions().Rewind("talk", 1, 1).code(), Code::kInvalidArgument);
  EXPECT_EQ(archive->sessions().Remove("talk").code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace eidetic::sdk
