// The C++ interface over libeidetic.so, with the real hybrid model.
#include "eidetic/eidetic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tests/model/model_files.h"

namespace eidetic {
namespace {

class Interface : public ::testing::Test {
 protected:
  // Loaded once for the program: the tests share it.
  static const Engine& SharedEngine() {
    static const Engine engine({.model_path = model::HybridModelPath()});
    return engine;
  }
  static std::string Prose(std::size_t bytes) {
    return model::ReadFile(EIDETIC_TEST_TEXT).substr(0, bytes);
  }
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  Archive NewArchive() const { return Archive({.path = Path("archive"), .create = true}); }

 private:
  model::TemporaryFolder folder_;
};

TEST_F(Interface, ErrorsCarryStatusMessageAndRemedy) {
  const std::string path = Path("nowhere");
  try {
    Archive archive({.path = path, .read_only = true});
    FAIL() << "an archive was opened where there is none";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), EID_NOT_FOUND);
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    EXPECT_FALSE(error.remedy().empty());
  }
}

TEST_F(Interface, ANameWithANulByteIsRefusedInsteadOfCut) {
  try {
    Archive archive({.path = std::string("a\0b", 3), .create = true});
    FAIL() << "the path was cut";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), EID_INVALID_ARGUMENT);
  }
}

TEST_F(Interface, TextSurvivesTokensAndBack) {
  const std::string text = Prose(5000);
  const auto tokens = SharedEngine().tokenize(text);
  EXPECT_GT(tokens.size(), 900u);
  EXPECT_LT(tokens.size(), 2500u);
  // 5,000 bytes may cut a character: the rest must be the same.
  const std::string back = SharedEngine().detokenize(tokens);
  EXPECT_EQ(back.substr(0, 4990), text.substr(0, 4990));
  EXPECT_TRUE(SharedEngine().tokenize("").empty());
}

TEST_F(Interface, GreedyAnswersBeginWithTheLikeliestToken) {
  Session session(SharedEngine());
  session.append(Prose(400));
  const std::vector<float> logits = session.logits();
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  std::string streamed;
  const Answer answer = session.generate({.max_tokens = 1}, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  EXPECT_EQ(answer.tokens, 1u);
  EXPECT_EQ(answer.reason, EID_STOP_LIMIT);
  EXPECT_EQ(answer.text, streamed);
  EXPECT_EQ(answer.text, SharedEngine().detokenize({static_cast<std::int32_t>(best)}));
}

// Logits are made when first asked for; the loss of a segment's first token asks for them.
TEST_F(Interface, ALossAfterLogitsThatNobodyAskedForIsTheSame) {
  std::vector<std::int32_t> tokens = SharedEngine().tokenize(Prose(600));
  tokens.resize(32);
  Session asked(SharedEngine(), {.mode = EID_ATTENTION_FULL});
  Session unasked(SharedEngine(), {.mode = EID_ATTENTION_FULL});
  asked.append("The mill stood by the river.");
  const std::vector<float> before = asked.logits();
  asked.append(" It was old.");
  EXPECT_NE(asked.logits(), before);
  unasked.append("The mill stood by the river.");
  unasked.append(" It was old.");
  const std::vector<float> losses = unasked.losses(tokens);
  EXPECT_FALSE(std::isnan(losses[0]));
  EXPECT_EQ(losses, asked.losses(tokens));
}

TEST_F(Interface, ASequenceReadAtOnceHasTheLossesOfASession) {
  std::vector<std::int32_t> tokens = SharedEngine().tokenize(Prose(600));
  tokens.resize(96);
  Session session(SharedEngine(), {.mode = EID_ATTENTION_FULL});
  const std::vector<float> streamed = session.losses(tokens), last = session.logits();
  const SequenceResult whole =
      SharedEngine().read_sequence(tokens, {.mode = "full", .logit_rows = 1}, last.size());
  ASSERT_EQ(whole.losses.size(), tokens.size());
  ASSERT_EQ(whole.logits.size(), last.size());
  EXPECT_TRUE(std::isnan(whole.losses[0]));
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_NEAR(whole.losses[i], streamed[i], 1e-3) << i;
  }
  for (std::size_t i = 0; i < last.size(); ++i) EXPECT_NEAR(whole.logits[i], last[i], 1e-3);
  // The first chunk has no memory; the second one has, or not.
  const auto losses = [&](const std::string& mode) {
    return SharedEngine().read_sequence(tokens, {.mode = mode, .chunk = 48}).losses;
  };
  const std::vector<float> paper = losses("paper"), alone = losses("paper-no-memory");
  EXPECT_NEAR(paper[40], alone[40], 1e-4);
  EXPECT_GT(std::abs(paper[80] - alone[80]), 1e-4);
  EXPECT_EQ(losses("")[80], paper[80]);
}

TEST_F(Interface, ACallbackThatReturnsFalseStopsTheAnswer) {
  Session session(SharedEngine());
  session.append(Prose(400));
  int pieces = 0;
  const Answer answer =
      session.generate({.max_tokens = 50}, [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(answer.reason, EID_STOP_CALLER);
  EXPECT_EQ(pieces, 3);
}

struct Surprise {};

TEST_F(Interface, AnExceptionOfACallbackStopsTheCallAndComesOutOfIt) {
  Session session(SharedEngine());
  EXPECT_THROW(
      session.append(Prose(400), {}, [](const eid_progress&) -> bool { throw Surprise(); }),
      Surprise);
  session.append(Prose(100));
  EXPECT_THROW(
      session.generate({.max_tokens = 50}, [](std::string_view) -> bool { throw Surprise(); }),
      Surprise);
  // The session is as usable as after any other stop.
  EXPECT_EQ(session.generate({.max_tokens = 2}).tokens, 2u);
}

TEST_F(Interface, ASessionDestroyedInItsCallbackStopsTheCallWithAnError) {
  auto session = std::make_unique<Session>(SharedEngine());
  session->append(Prose(100));
  try {
    session->generate({.max_tokens = 50}, [&](std::string_view) {
      session.reset();
      return true;
    });
    FAIL() << "the call came back as if nothing had happened";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), EID_INVALID_ARGUMENT);
    EXPECT_NE(std::string(error.what()).find("freed"), std::string::npos) << error.what();
  }
}

TEST_F(Interface, AStoppedIngestKeepsWhatWasCommittedAndGoesOn) {
  Archive archive = NewArchive();
  const std::string text = Prose(9000);
  IngestOptions options{.collection = "stories", .source = "story", .text = text};
  options.segment = 128;
  options.commit_seconds = 0.001;
  std::uint64_t committed = 0;
  try {
    archive.ingest(SharedEngine(), options, [&](const eid_progress& progress) {
      committed = progress.committed;
      return committed == 0;
    });
    FAIL() << "the ingest was not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), EID_CANCELLED);
  }
  EXPECT_GT(committed, 0u);
  EXPECT_TRUE(archive.verify().clean);
  const eid_ingest_result result = archive.ingest(SharedEngine(), options);
  EXPECT_EQ(result.outcome, EID_INGEST_RESUMED);
  EXPECT_LE(result.tokens_read, result.tokens - committed);
}

TEST_F(Interface, ASessionOutlivesItsEngineAndItsArchive) {
  auto engine = std::make_unique<Engine>(EngineOptions{.model_path = model::HybridModelPath()});
  auto archive = std::make_unique<Archive>(ArchiveOptions{.path = Path("archive"), .create = true});
  const std::string text = Prose(1500);
  archive->ingest(*engine, {.collection = "stories", .source = "story", .text = text});
  Session session(*engine);
  session.attach(*archive, "stories");
  engine.reset();
  archive.reset();
  session.append("To Sherlock Holmes she is always", {.use_span = true});
  EXPECT_EQ(session.generate({.max_tokens = 3}).tokens, 3u);
  ASSERT_FALSE(session.sources().empty());
  const Passage passage = session.sources(1).at(0);
  EXPECT_EQ(passage.source, "story");
  EXPECT_EQ(passage.collection, "stories");
  EXPECT_EQ(passage.text, text.substr(passage.byte_begin, passage.byte_end - passage.byte_begin));
}

TEST_F(Interface, WordsFindAPlaceWithoutAModelAndPinItWithOne) {
  Archive archive = NewArchive();
  const std::string text =
      Prose(900) + " The password of the lighthouse is zanzibar. " + Prose(900);
  archive.ingest(SharedEngine(), {.collection = "stories", .source = "story", .text = text});
  const std::vector<Passage> found = archive.search_words("stories", "the lighthouse password");
  ASSERT_FALSE(found.empty());
  EXPECT_NE(found[0].text.find("zanzibar"), std::string::npos) << found[0].text;
  EXPECT_EQ(found[0].reasons, EID_BY_WORDS);
  EXPECT_EQ(found[0].text,
            text.substr(found[0].byte_begin, found[0].byte_end - found[0].byte_begin));
  Session session(SharedEngine(), {.policy = EID_RECALL_WORDS, .word_places = 1});
  session.attach(archive, "stories");
  session.append("Well?", {.use_span = true, .words = "the lighthouse password"});
  session.generate({.max_tokens = 2});
  const std::vector<Passage> sources = session.sources();
  ASSERT_EQ(sources.size(), 1u);
  EXPECT_EQ(sources[0].byte_begin, found[0].byte_begin);
  EXPECT_EQ(sources[0].byte_end, found[0].byte_end);
  EXPECT_EQ(sources[0].reasons, EID_BY_WORDS);
  EXPECT_EQ(sources[0].word_score, found[0].word_score);
}

TEST_F(Interface, PassagesOfAnExtractedTextNameBytesOfItsOriginal) {
  const std::string head = "<p>", text = "The captain & his ship went home.";
  const std::string original = head + "The captain &amp; his ship went home.</p>";
  Archive archive = NewArchive();
  IngestOptions options{.collection = "pages", .source = "a.html", .text = text};
  options.format = "html";
  options.original_bytes = original.size();
  std::vector<eid_text_piece> pieces = {{0, 12, 3, 12}, {12, 1, 15, 5}, {13, 20, 20, 20}};
  options.pieces = &pieces;
  archive.ingest(SharedEngine(), options);
  const auto place = [&] {
    const Passage passage = archive.search_words("pages", "captain").at(0);
    EXPECT_EQ(passage.text_begin, 0u);
    EXPECT_EQ(passage.text_end, text.size());
    return std::make_pair(passage.byte_begin, passage.byte_end);
  };
  EXPECT_EQ(place(), std::make_pair(3ul, 40ul));
  EXPECT_NE(archive.list().find("\"format\":\"html\""), std::string::npos);
  EXPECT_NE(archive.list().find("\"original_bytes\":44"), std::string::npos);

  // The same text, elsewhere in its original: nothing is read, and the new places are told.
  for (eid_text_piece& piece : pieces) piece.original_begin += 100;
  options.original_bytes += 100;
  const eid_ingest_result moved = archive.ingest(SharedEngine(), options);
  EXPECT_EQ(moved.outcome, EID_INGEST_UNCHANGED);
  EXPECT_EQ(moved.tokens_read, 0u);
  EXPECT_EQ(place(), std::make_pair(103ul, 140ul));

  const auto refused = [&] {
    try {
      archive.ingest(SharedEngine(), options);
    } catch (const Error& error) {
      return error.status() == EID_INVALID_ARGUMENT;
    }
    return false;
  };
  pieces[2].text_bytes = 21;  // past the text
  EXPECT_TRUE(refused());
  pieces[2] = {5, 1, 20, 1};  // within the piece before
  EXPECT_TRUE(refused());
  pieces.clear();
  EXPECT_TRUE(refused());  // an original, and nothing of it
  EXPECT_EQ(place(), std::make_pair(103ul, 140ul));
}

TEST_F(Interface, ASavedSessionGoesOnWithTheSameLogits) {
  const std::string text = Prose(3000);
  std::vector<float> expected;
  {
    Archive archive = NewArchive();
    Session session(SharedEngine(), {.window = 256}, archive, "diary");
    session.append(text);
    session.save();
    expected = session.logits();
  }
  Archive archive = NewArchive();
  Session session = Session::open(SharedEngine(), archive, "diary");
  EXPECT_EQ(session.logits(), expected);
  EXPECT_THROW(Session::open(SharedEngine(), archive, "nobody"), Error);
}

TEST_F(Interface, WhatIsForgottenIsInTheReceiptAndNowhereElse) {
  Archive archive = NewArchive();
  const std::string secret = "The heron's password is tangerine seven, says the ferryman.";
  archive.ingest(SharedEngine(), {.collection = "notes", .source = "secret", .text = secret});
  archive.ingest(SharedEngine(), {.collection = "notes", .source = "other", .text = "No secret."});
  const std::string listed = archive.list();
  const Forgotten would =
      archive.forget({.collection = "notes", .source = "secret", .dry_run = true});
  EXPECT_NE(would.receipt.find("\"dry_run\":true"), std::string::npos) << would.receipt;
  EXPECT_EQ(archive.list(), listed);

  const Forgotten gone =
      archive.forget({.collection = "notes", .source = "secret", .verify_files = true});
  EXPECT_TRUE(gone.clean) << gone.receipt;
  EXPECT_NE(gone.receipt.find("\"text_bytes\":" + std::to_string(secret.size())), std::string::npos)
      << gone.receipt;
  EXPECT_EQ(archive.list().find("secret"), std::string::npos);
  EXPECT_NE(archive.list().find("other"), std::string::npos);
  try {
    archive.forget({.collection = "notes", .source = "secret"});
    FAIL() << "what is gone was forgotten again";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), EID_NOT_FOUND);
    EXPECT_FALSE(error.remedy().empty());
  }
  EXPECT_THROW(archive.forget({}), Error);
}

TEST_F(Interface, ForgottenBytesThatStayInAFileAreToldInsteadOfThrown) {
  Archive archive = NewArchive();
  const std::string secret = "The heron's password is tangerine seven, says the ferryman.";
  archive.ingest(SharedEngine(), {.collection = "notes", .source = "secret", .text = secret});
  std::ofstream(Path("archive") + "/copy.txt") << secret;
  const Forgotten gone =
      archive.forget({.collection = "notes", .source = "secret", .verify_files = true});
  EXPECT_FALSE(gone.clean);
  EXPECT_NE(gone.receipt.find("copy.txt"), std::string::npos) << gone.receipt;
  EXPECT_EQ(archive.list().find("secret"), std::string::npos);
}

// Two small models: the folder that `transformers` made, and an adapter that PEFT made for it.
TEST_F(Interface, AnAdapterBesideAModelReadsWhatTheModelHadRead) {
  const EngineOptions base = {.model_path = EIDETIC_PARITY_DIR "/llama_folder"};
  EngineOptions tuned = base;
  tuned.adapter_path = EIDETIC_GOLDEN_DIR "/peft_llama";
  const Engine engine(base);
  const Engine beside = engine.with_adapter(tuned.adapter_path);
  const Engine alone(tuned);
  const auto has = [](const std::string& json, const std::string& part) {
    return json.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(beside.info(), Engine::fingerprint_of(tuned)));
  EXPECT_TRUE(has(alone.info(), Engine::fingerprint_of(tuned)));
  EXPECT_TRUE(has(engine.info(), Engine::fingerprint_of(base)));
  const auto logits = [](const Engine& one) {
    Session session(one);
    session.append("A short text.");
    return session.logits();
  };
  EXPECT_EQ(logits(beside), logits(alone));
  EXPECT_NE(logits(beside), logits(engine));

  Archive archive = NewArchive();
  const std::string text = Prose(1500);
  archive.ingest(engine, {.collection = "notes", .source = "story", .text = text});
  EXPECT_EQ(
      archive.ingest_unchanged({.collection = "notes", .source = "story", .text = text}).outcome,
      EID_INGEST_UNCHANGED);
  {
    Session session(beside);
    EXPECT_THROW(session.attach(archive, "notes"), Error);
  }
  const std::string by_engine = archive.migrate(beside, {.collection = "notes", .dry_run = true});
  EXPECT_TRUE(has(by_engine, "\"outcome\":\"planned\"")) << by_engine;
  const std::string plan = archive.plan_migration(Engine::fingerprint_of(tuned), "notes");
  const auto but_for_time = [](const std::string& json) {
    return json.substr(0, json.find("seconds"));
  };
  EXPECT_EQ(but_for_time(plan), but_for_time(by_engine));
  EXPECT_THROW(
      archive.migrate(beside, {.collection = "notes"}, [](const eid_progress&) { return false; }),
      Error);
  std::uint64_t told = 0;
  const std::string report =
      archive.migrate(beside, {.collection = "notes"}, [&](const eid_progress& p) {
        EXPECT_STREQ(p.item, "story");
        told = p.done;
        return true;
      });
  EXPECT_TRUE(has(report, "\"outcome\":\"migrated\"")) << report;
  EXPECT_GT(told, 100u);
  Session session(alone);
  session.attach(archive, "notes");

  archive.ingest(alone, {.collection = "notes", .source = "more", .text = "More of it."});
  archive.ingest(alone, {.collection = "notes", .source = "most", .text = "Most of it."});
  EXPECT_THROW(archive.forget({.collection = "notes", .sources = {"more", "none"}}), Error);
  archive.forget({.collection = "notes", .sources = {"more", "most", "more"}});
  EXPECT_FALSE(has(archive.list(), "most"));
  EXPECT_TRUE(has(archive.list(), "story"));
}

TEST_F(Interface, VerifyReportsInsteadOfThrowing) {
  Archive archive = NewArchive();
  const Verification empty = archive.verify();
  EXPECT_TRUE(empty.clean);
  EXPECT_NE(empty.report.find("\"clean\""), std::string::npos) << empty.report;
  EXPECT_NE(archive.list().find("\"collections\""), std::string::npos);
  EXPECT_NE(archive.stats().find("\"bytes_on_disk\""), std::string::npos);
}

}  // namespace
}  // namespace eidetic
