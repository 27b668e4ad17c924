// Words beside attention, with the real model: what words pinned is in the span, is told as a
// source, and survives a restart.
#include <algorithm>
#include <cstring>

#include "sdk/document_reader.h"
#include "sdk/session.h"
#include "tests/sdk/sdk_fixture.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using memory::RecallPolicy;

constexpr char kFact[] = " The keeper of the lighthouse at Skerryvore was named Barnabas Quill. ";
constexpr char kQuestion[] = "Who kept the Skerryvore lighthouse?";

class WordRecallTest : public SdkTest {
 protected:
  static std::string StoryWithFact(size_t bytes = 3000) {
    const std::string prose = Prose(bytes);
    const size_t at = prose.find(". ", 900) + 1;
    return prose.substr(0, at) + kFact + prose.substr(at);
  }
  static IngestResult Ingest(memory::Archive* archive, const std::string& source,
                             const std::string& text) {
    IngestOptions options;
    options.collection = "stories";
    options.source = source;
    options.window = 256;
    return Must(IngestDocument(*HybridEngine(), archive, text, options));
  }
  static SessionOptions By(RecallPolicy policy) {
    SessionOptions options;
    options.window = 256;
    options.query_offset = 256;
    options.segment = 128;
    options.policy = policy;
    return options;
  }
  static std::unique_ptr<Session> Fresh(RecallPolicy policy,
                                        const std::shared_ptr<memory::Archive>& archive) {
    auto session = Must(Session::Create(HybridEngine(), By(policy), nullptr));
    MustOk(session->Attach(archive, "stories"));
    return session;
  }
  static void Ask(Session* session, const std::string& question) {
    MustOk(session->Append(HybridEngine()->tokenizer().Encode(question, false), true, {}));
  }
  // Answers with `tokens` tokens; the text and the bits of the logits behind it.
  static std::string Answer(Session* session, int tokens = 6) {
    GenerateOptions greedy;
    greedy.max_tokens = tokens;
    std::string said = Must(session->Generate(greedy)).text;
    const std::vector<float>& logits = session->logits();
    return said.append(reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(float));
  }
  static std::vector<Passage> Sources(const Session& session) {
    return Must(session.Sources(0, PassageOrder::kByFocus));
  }
  static bool Holds(const Passage& passage, const std::string& text) {
    return passage.text.find(text) != std::string::npos;
  }
};

TEST_F(WordRecallTest, ThePlaceThatSpeaksOfTheQuestionIsThereWithItsNeighbours) {
  auto archive = OpenArchive();
  const std::string story = StoryWithFact();
  Ingest(archive.get(), "story.txt", story);
  auto session = Fresh(RecallPolicy::kWords, archive);
  Ask(session.get(), kQuestion);
  Answer(session.get());
  const std::vector<Passage> sources = Sources(*session);
  ASSERT_FALSE(sources.empty());
  EXPECT_TRUE(Holds(sources[0], "Barnabas Quill")) << sources[0].text;
  EXPECT_EQ(sources[0].blocks, 5u);
  for (const Passage& passage : sources) {
    EXPECT_TRUE(passage.by_words);
    EXPECT_FALSE(passage.by_attention);
    EXPECT_GT(passage.word_score, 0);
    EXPECT_LE(passage.word_score, sources[0].word_score);
    EXPECT_GT(passage.attention, 0);  // it was attended to
    EXPECT_EQ(passage.presence, 1);   // in every span of every layer
    EXPECT_EQ(passage.text,
              story.substr(passage.byte_begin, passage.byte_end - passage.byte_begin));
  }
}

TEST_F(WordRecallTest, BothHoldsWhatWordsPinnedAndWhatAttentionChose) {
  auto archive = OpenArchive();
  // So long that attention finds passages that do not touch those of the words.
  Ingest(archive.get(), "story.txt", StoryWithFact(6000));
  auto session = Fresh(RecallPolicy::kBoth, archive);
  Ask(session.get(), kQuestion);
  Answer(session.get());
  const std::vector<Passage> sources = Sources(*session);
  ASSERT_FALSE(sources.empty());
  EXPECT_TRUE(Holds(sources[0], "Barnabas Quill")) << sources[0].text;
  EXPECT_TRUE(sources[0].by_words);
  EXPECT_TRUE(std::any_of(sources.begin(), sources.end(), [](const Passage& passage) {
    return passage.by_attention && !passage.by_words;
  }));
}

TEST_F(WordRecallTest, NothingPinnedChangesNoBit) {
  auto archive = OpenArchive();
  Ingest(archive.get(), "story.txt", StoryWithFact());
  std::vector<std::string> said;
  for (const RecallPolicy policy : {RecallPolicy::kAttention, RecallPolicy::kBoth}) {
    auto session = Fresh(policy, archive);
    Ask(session.get(), "Xyzzyx plughq?");  // words of no text
    said.push_back(Answer(session.get()));
    for (const Passage& passage : Sources(*session)) EXPECT_FALSE(passage.by_words);
  }
  EXPECT_TRUE(said[0] == said[1]);
  auto alone = Fresh(RecallPolicy::kWords, archive);
  Ask(alone.get(), "Xyzzyx plughq?");
  Answer(alone.get());
  EXPECT_TRUE(Sources(*alone).empty());
}

TEST_F(WordRecallTest, AnotherQuestionPinsOtherPlacesAndTextThatDoesNotAskPinsNone) {
  auto archive = OpenArchive();
  Ingest(archive.get(), "story.txt", StoryWithFact());
  auto session = Fresh(RecallPolicy::kWords, archive);
  Ask(session.get(), kQuestion);
  MustOk(session->Append(HybridEngine()->tokenizer().Encode(" Irene Adler", false),
                         /*use_span=*/false, {}));
  Answer(session.get());
  EXPECT_TRUE(Holds(Sources(*session).at(0), "Barnabas Quill"));
  // The words to search may be others than the text.
  MustOk(session->Append(HybridEngine()->tokenizer().Encode(" Well?", false), true, {},
                         "the coldly precise mind of Holmes"));
  Answer(session.get());
  const std::vector<Passage> sources = Sources(*session);
  ASSERT_FALSE(sources.empty());
  EXPECT_FALSE(Holds(sources[0], "Barnabas Quill")) << sources[0].text;
}

TEST_F(WordRecallTest, ASessionsOwnPastIsSearchedAsItGrows) {
  const auto engine = HybridEngine();
  auto session = Must(Session::Create(engine, By(RecallPolicy::kWords), nullptr));
  const std::string story = StoryWithFact();
  MustOk(session->Append(engine->tokenizer().Encode(story, false), /*use_span=*/false, {}));
  Ask(session.get(), kQuestion);
  Answer(session.get());
  std::vector<Passage> sources = Sources(*session);
  ASSERT_FALSE(sources.empty());
  EXPECT_TRUE(Holds(sources[0], "Barnabas Quill")) << sources[0].text;
  EXPECT_TRUE(sources[0].by_words);
  EXPECT_EQ(sources[0].collection, "");
  MustOk(session->Append(
      engine->tokenizer().Encode(" The harbour pilot of Anstruther is Euphemia Gow. " + Prose(4000),
                                 false),
      false, {}));
  Ask(session.get(), "Who is the pilot of Anstruther?");
  Answer(session.get());
  sources = Sources(*session);
  ASSERT_FALSE(sources.empty());
  EXPECT_TRUE(Holds(sources[0], "Euphemia Gow")) << sources[0].text;
}

TEST_F(WordRecallTest, WhatWasPinnedIsSavedWithTheSession) {
  const auto engine = HybridEngine();
  std::string uninterrupted;
  {
    auto archive = OpenArchive();
    Ingest(archive.get(), "story.txt", StoryWithFact());
    SessionOptions options = By(RecallPolicy::kWords);
    options.name = "talk";
    auto session = Must(Session::Create(engine, options, archive));
    MustOk(session->Attach(archive, "stories"));
    MustOk(session->Append(engine->tokenizer().Encode(Prose(3000), false), false, {}));
    Ask(session.get(), std::string(kQuestion) + " Or was it Irene Adler?");
    MustOk(session->Save());
    uninterrupted = Answer(session.get(), 8);
    const std::vector<Passage> sources = Sources(*session);
    EXPECT_TRUE(std::any_of(sources.begin(), sources.end(), [](const Passage& passage) {
      return passage.collection.empty();  // of its own past
    }));
  }
  {
    auto archive = OpenArchive();
    // A place that would be pinned before the others now.
    Ingest(archive.get(), "newer.txt", std::string(kQuestion) + " " + kQuestion);
    auto session = Must(Session::Open(engine, archive, "talk"));
    EXPECT_EQ(session->options().policy, RecallPolicy::kWords);
    EXPECT_TRUE(Answer(session.get(), 8) == uninterrupted);
  }
}

TEST_F(WordRecallTest, ARemovedDocumentIsPinnedNoLonger) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const IngestResult read = Ingest(archive.get(), "story.txt", StoryWithFact());
  auto session = Fresh(RecallPolicy::kBoth, archive);
  Ask(session.get(), kQuestion);
  Answer(session.get(), 2);
  EXPECT_FALSE(Sources(*session).empty());
  MustOk(archive->RemoveDocument(read.document));
  Answer(session.get(), 2);  // the question is not asked again
  EXPECT_TRUE(Sources(*session).empty());
  Ask(session.get(), kQuestion);
  Answer(session.get(), 2);
  EXPECT_TRUE(Sources(*session).empty());
}

TEST_F(WordRecallTest, ADocumentReplacedInTheMiddleOfAnAnswerIsLetGo) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  Ingest(archive.get(), "story.txt", StoryWithFact());
  SessionOptions all_of_both = By(RecallPolicy::kBoth);
  all_of_both.words.attention_threshold = 0;  // this story is gone on with then
  auto session = Must(Session::Create(engine, all_of_both, nullptr));
  MustOk(session->Attach(archive, "stories"));
  Ask(session.get(), kQuestion);
  bool replaced = false;
  GenerateOptions options;
  options.max_tokens = 6;
  options.on_text = [&](std::string_view) {
    if (!std::exchange(replaced, true)) Ingest(archive.get(), "story.txt", Prose(2000));
    return true;
  };
  EXPECT_EQ(Must(session->Generate(options)).tokens, 6u);
  ASSERT_TRUE(replaced);
  for (const Passage& passage : Sources(*session)) {
    EXPECT_FALSE(Holds(passage, "Barnabas Quill")) << passage.text;
  }
}

TEST_F(WordRecallTest, WordsNeedTheStreamAndAShareInRange) {
  const auto engine = HybridEngine();
  for (const SessionMode mode : {SessionMode::kWindow, SessionMode::kFull, SessionMode::kRandom}) {
    SessionOptions options = By(RecallPolicy::kBoth);
    options.mode = mode;
    EXPECT_EQ(Session::Create(engine, options, nullptr).status().code(), Code::kInvalidArgument);
  }
  SessionOptions options = By(RecallPolicy::kBoth);
  options.words.places = -1;
  EXPECT_EQ(Session::Create(engine, options, nullptr).status().code(), Code::kInvalidArgument);
  options.words.places = 3;
  options.words.attention_threshold = 1.5;
  EXPECT_EQ(Session::Create(engine, options, nullptr).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace eidetic::sdk
