// A collection read again by another model: tiny random ones, a base and an adapter beside it.
#include "sdk/migrate.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "memory/hash.h"
#include "sdk/document_reader.h"
#include "sdk/session.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::sdk {
namespace {

using memory::Code;

class MigrateTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    models_ = new tests::TemporaryFolder;
    const model::TinyFolder tiny = model::TinyFolder::Granite();
    tiny.Write(*models_ / "base");
    model::TinyAdapter::HyLora(tiny).Write(*models_ / "adapter");
    EngineOptions options;
    options.model_path = *models_ / "base";
    options.threads = 1;
    base_ = new std::shared_ptr<const Engine>(Made(Engine::Create(options)));
    options.adapter_path = *models_ / "adapter";
    tuned_ = new std::shared_ptr<const Engine>(Made(Engine::Create(options)));
  }
  static void TearDownTestSuite() {
    delete base_;
    delete tuned_;
    delete models_;
  }

  template <typename T>
  static T Made(memory::Result<T> result) {
    if (!result.ok()) throw std::runtime_error(result.status().message());
    return std::move(result).value();
  }
  static const Engine& Base() { return **base_; }
  static const Engine& Tuned() { return **tuned_; }

  // Of the few words that the tiny tokenizer knows.
  static std::string Text(unsigned seed, int words = 150) {
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < words; ++i) {
      constexpr const char* kWords[] = {"a", "b", "ab", "abb", "bab"};
      text += std::string(i == 0 ? "" : " ") + kWords[random() % 5];
    }
    return text;
  }

  std::shared_ptr<memory::Archive> Open(const std::string& name = "archive") const {
    memory::ArchiveOptions options;
    options.path = folder_ / name;
    options.create = true;
    return Made(memory::Archive::Open(options));
  }

  static IngestOptions Reading(const std::string& source) {
    IngestOptions options;
    options.collection = "books";
    options.source = source;
    options.window = 64;
    options.segment = 32;
    return options;
  }
  static void Ingest(const Engine& engine, memory::Archive* archive, const std::string& source,
                     const std::string& text) {
    Made(IngestDocument(engine, archive, text, Reading(source)));
  }
  static void IngestThree(const Engine& engine, memory::Archive* archive) {
    for (unsigned i = 1; i <= 3; ++i) {
      Ingest(engine, archive, "text " + std::to_string(i), Text(i));
    }
  }

  static MigrateOptions Books() {
    MigrateOptions options;
    options.collection = "books";
    options.commit_seconds = 0;
    return options;
  }

  static std::string Digest(const memory::Archive& archive) {
    const memory::VerifyReport report = Made(archive.Verify({}));
    for (const memory::Damage& damage : report.damage) ADD_FAILURE() << damage.what;
    return report.collections.at(0).digest;
  }
  // As the model reads three texts afresh.
  std::string FreshDigest(const Engine& engine) const {
    auto archive = Open("fresh " + engine.fingerprint().substr(0, 8));
    IngestThree(engine, archive.get());
    return Digest(*archive);
  }

  static bool Attaches(const std::shared_ptr<const Engine>& engine,
                       const std::shared_ptr<memory::Archive>& archive) {
    const auto session = Made(Session::Create(engine, {}, nullptr));
    return session->Attach(archive, "books").ok();
  }

  static SessionOptions Named(const std::string& name) {
    SessionOptions options;
    options.name = name;
    options.window = 64;
    options.segment = 32;
    return options;
  }

  static inline tests::TemporaryFolder* models_ = nullptr;
  static inline std::shared_ptr<const Engine>*base_ = nullptr, *tuned_ = nullptr;
  tests::TemporaryFolder folder_;
};

TEST_F(MigrateTest, TheCollectionIsAsIfTheOtherModelHadReadIt) {
  auto archive = Open();
  IngestThree(Base(), archive.get());
  EXPECT_EQ(Digest(*archive), FreshDigest(Base()));
  const auto before = Made(archive->Documents("books"));
  const MigrateReport report = Made(MigrateCollection(Tuned(), archive.get(), Books()));
  EXPECT_EQ(report.outcome, MigrateOutcome::kMigrated);
  EXPECT_EQ(report.from, Base().fingerprint());
  EXPECT_EQ(report.to, Tuned().fingerprint());
  EXPECT_EQ(report.documents, 3u);
  EXPECT_EQ(report.documents_read, 3u);
  EXPECT_EQ(report.tokens_read, report.tokens);
  EXPECT_GT(report.bytes, 0u);
  EXPECT_EQ(Digest(*archive), FreshDigest(Tuned()));
  EXPECT_FALSE(Attaches(*base_, archive));
  EXPECT_TRUE(Attaches(*tuned_, archive));
  const auto after = Made(archive->Documents("books"));
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].source, before[i].source);
    EXPECT_EQ(after[i].content_hash, before[i].content_hash);
    EXPECT_EQ(after[i].bytes, before[i].bytes);
    EXPECT_NE(after[i].lineage, before[i].lineage);
  }
  const MigrateReport again = Made(MigrateCollection(Tuned(), archive.get(), Books()));
  EXPECT_EQ(again.outcome, MigrateOutcome::kUnchanged);
  EXPECT_EQ(again.tokens_read, 0u);
  // And back, to the same bits.
  Made(MigrateCollection(Base(), archive.get(), Books()));
  EXPECT_EQ(Digest(*archive), FreshDigest(Base()));
}

TEST_F(MigrateTest, StoppedItGoesOnAndTheOldMemoryServesMeanwhile) {
  auto archive = Open();
  IngestThree(Base(), archive.get());
  const std::string old = Digest(*archive);
  uint64_t read = 0, committed = 0;
  int stops = 0;
  for (;; ++stops) {
    MigrateOptions options = Books();
    uint64_t calls = 0, last = 0;
    options.progress = [&](const MigrateProgress& progress) {
      EXPECT_GE(progress.tokens, last);
      EXPECT_LE(progress.tokens, progress.total);
      last = progress.tokens;
      EXPECT_GE(progress.committed, committed);
      committed = progress.committed;
      return ++calls < 4;
    };
    const auto report = MigrateCollection(Tuned(), archive.get(), options);
    if (report.ok()) {
      read = report->tokens_read;
      EXPECT_LT(read, report->tokens);
      break;
    }
    ASSERT_EQ(report.status().code(), Code::kCancelled) << report.status().message();
    ASSERT_LT(stops, 100);
    archive.reset();
    archive = Open();
    EXPECT_EQ(Digest(*archive), old);
    EXPECT_TRUE(Attaches(*base_, archive));
    EXPECT_FALSE(Attaches(*tuned_, archive));
  }
  EXPECT_GT(stops, 3);
  EXPECT_EQ(Digest(*archive), FreshDigest(Tuned()));
}

TEST_F(MigrateTest, WhatChangesMeanwhileIsWhatIsSwapped) {
  auto archive = Open();
  IngestThree(Base(), archive.get());
  MigrateOptions options = Books();
  int calls = 0;
  options.progress = [&](const MigrateProgress& progress) {
    ++calls;
    if (calls == 1) Ingest(Base(), archive.get(), "text 4", Text(4));
    // Read by now: changed, and one forgotten.
    if (progress.source == "text 3" && calls < 1000) {
      calls = 1000;
      Ingest(Base(), archive.get(), "text 1", Text(11));
      memory::ForgetRequest forget;
      forget.collection = "books";
      forget.source = "text 2";
      Made(archive->Forget(forget));
    }
    return true;
  };
  const MigrateReport report = Made(MigrateCollection(Tuned(), archive.get(), options));
  EXPECT_EQ(report.documents, 3u);
  const auto documents = Made(archive->Documents("books"));
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].content_hash, memory::Sha256Hex(Text(11)));
  EXPECT_EQ(documents[1].source, "text 3");
  EXPECT_EQ(documents[2].source, "text 4");
  Digest(*archive);
}

TEST_F(MigrateTest, OriginsComeAlong) {
  auto archive = Open();
  const std::string text = Text(1);
  IngestOptions options = Reading("page");
  options.origin = {"html", text.size() + 9, {}};
  options.origin.map =
      Made(memory::TextMap::Make({{0, text.size(), 9, text.size()}}, text.size(), text.size() + 9));
  Made(IngestDocument(Base(), archive.get(), text, options));
  Made(MigrateCollection(Tuned(), archive.get(), Books()));
  const auto page = Made(archive->FindDocument("books", "page"));
  EXPECT_EQ(page->format, "html");
  EXPECT_EQ(page->original_bytes, text.size() + 9);
  EXPECT_EQ(Made(archive->MapOf(*page)).Serialize(), options.origin.map.Serialize());
}

TEST_F(MigrateTest, SessionsAreToldOfAndNeverTakenAlongInSilence) {
  auto archive = Open();
  IngestThree(Base(), archive.get());
  const auto tokens = Base().tokenizer().Encode(Text(9, 40), false);
  for (const char* name : {"recalls", "alone"}) {
    const auto session = Made(Session::Create(*base_, Named(name), archive));
    if (name == std::string("recalls")) {
      ASSERT_TRUE(session->Attach(archive, "books").ok());
    }
    ASSERT_TRUE(session->Append(tokens, /*use_span=*/true, {}).ok());
    ASSERT_TRUE(session->Save().ok());
  }
  auto live = Made(Session::Create(*base_, {}, nullptr));
  ASSERT_TRUE(live->Attach(archive, "books").ok());
  ASSERT_TRUE(live->Append(tokens, true, {}).ok());

  const std::string old = Digest(*archive);
  const memory::Status refused = MigrateCollection(Tuned(), archive.get(), Books()).status();
  EXPECT_EQ(refused.code(), Code::kLocked);
  EXPECT_NE(refused.message().find("'recalls'"), std::string::npos) << refused.message();
  EXPECT_EQ(Digest(*archive), old);

  const MigrateReport plan = Made(PlanMigration(*archive, "books", Tuned().fingerprint()));
  EXPECT_EQ(plan.sessions, std::vector<std::string>{"recalls"});
  EXPECT_EQ(plan.other_sessions, std::vector<std::string>{"alone"});
  MigrateOptions options = Books();
  options.leave_sessions = true;
  const MigrateReport report = Made(MigrateCollection(Tuned(), archive.get(), options));
  EXPECT_EQ(report.sessions, plan.sessions);

  // Each goes on with the model that made it, without the collection.
  for (const char* name : {"recalls", "alone"}) {
    EXPECT_EQ(Session::Open(*tuned_, archive, name).status().code(), Code::kFingerprintMismatch);
    const auto session = Made(Session::Open(*base_, archive, name));
    ASSERT_TRUE(session->Append(tokens, true, {}).ok());
    ASSERT_TRUE(session->Save().ok());
  }
  const memory::Status went_on = live->Append(tokens, true, {});
  EXPECT_TRUE(went_on.ok()) << went_on.message();
  EXPECT_TRUE(Made(live->Sources(0, PassageOrder::kByScore)).empty());
}

TEST_F(MigrateTest, SessionsThatBeginToRecallMeanwhileAreNotLeftInSilence) {
  auto archive = Open();
  IngestThree(Base(), archive.get());
  const std::string old = Digest(*archive);
  MigrateOptions options = Books();
  bool begun = false;
  options.progress = [&](const MigrateProgress&) {
    if (begun) return true;
    begun = true;
    const auto session = Made(Session::Create(*base_, Named("late"), archive));
    EXPECT_TRUE(session->Attach(archive, "books").ok());
    EXPECT_TRUE(session->Append(Base().tokenizer().Encode(Text(9, 40), false), true, {}).ok());
    EXPECT_TRUE(session->Save().ok());
    return true;
  };
  const memory::Status refused = MigrateCollection(Tuned(), archive.get(), options).status();
  EXPECT_EQ(refused.code(), Code::kLocked) << refused.message();
  EXPECT_NE(refused.message().find("'late'"), std::string::npos) << refused.message();
  EXPECT_EQ(Digest(*archive), old);

  // What was read is kept; the report names those that are left at the swap.
  options.leave_sessions = true;
  const MigrateReport report = Made(MigrateCollection(Tuned(), archive.get(), options));
  EXPECT_EQ(report.outcome, MigrateOutcome::kMigrated);
  EXPECT_EQ(report.tokens_read, 0u);
  EXPECT_EQ(report.sessions, std::vector<std::string>{"late"});
}

TEST_F(MigrateTest, APlanTellsWhatIsMissingAndTheOldModelGivesUpWhatWasBegun) {
  auto archive = Open();
  IngestThree(Base(), archive.get());
  MigrateReport plan = Made(PlanMigration(*archive, "books", Tuned().fingerprint()));
  EXPECT_EQ(plan.outcome, MigrateOutcome::kPlanned);
  EXPECT_EQ(plan.documents_read, 3u);
  EXPECT_EQ(plan.text_bytes_to_read, plan.text_bytes);
  EXPECT_FALSE(Made(archive->NextGeneration("books")).has_value());

  MigrateOptions stopped = Books();
  stopped.progress = [](const MigrateProgress& progress) { return progress.source != "text 2"; };
  EXPECT_EQ(MigrateCollection(Tuned(), archive.get(), stopped).status().code(), Code::kCancelled);
  plan = Made(PlanMigration(*archive, "books", Tuned().fingerprint()));
  EXPECT_EQ(plan.documents_read, 2u);
  EXPECT_EQ(plan.text_bytes_to_read, Text(2).size() + Text(3).size());

  // Nothing is given up by a plan.
  plan = Made(PlanMigration(*archive, "books", Base().fingerprint()));
  EXPECT_EQ(plan.outcome, MigrateOutcome::kUnchanged);
  EXPECT_TRUE(Made(archive->NextGeneration("books")).has_value());
  EXPECT_EQ(Made(MigrateCollection(Base(), archive.get(), Books())).outcome,
            MigrateOutcome::kUnchanged);
  EXPECT_FALSE(Made(archive->NextGeneration("books")).has_value());
  EXPECT_EQ(Digest(*archive), FreshDigest(Base()));
}

TEST_F(MigrateTest, AnInterruptedIngestIsDroppedAndNamed) {
  auto archive = Open();
  Ingest(Base(), archive.get(), "text 1", Text(1));
  IngestOptions stopped = Reading("half");
  stopped.commit_seconds = 0;
  stopped.progress = [](const IngestProgress& progress) { return progress.tokens < 64; };
  EXPECT_FALSE(IngestDocument(Base(), archive.get(), Text(2), stopped).ok());
  const MigrateReport report = Made(MigrateCollection(Tuned(), archive.get(), Books()));
  EXPECT_EQ(report.unfinished, std::vector<std::string>{"half"});
  EXPECT_EQ(Made(archive->Documents("books")).size(), 1u);
  const auto told = nlohmann::json::parse(MigrateJson(report));
  EXPECT_EQ(told.at("outcome"), "migrated");
  EXPECT_EQ(told.at("unfinished").at(0), "half");
}

TEST_F(MigrateTest, WrongCallsAreRefused) {
  auto archive = Open();
  EXPECT_EQ(MigrateCollection(Tuned(), archive.get(), Books()).status().code(), Code::kNotFound);
  EXPECT_EQ(PlanMigration(*archive, "books", "").status().code(), Code::kNotFound);
  MigrateOptions options = Books();
  options.commit_seconds = -1;
  EXPECT_EQ(MigrateCollection(Tuned(), archive.get(), options).status().code(),
            Code::kInvalidArgument);
}

TEST_F(MigrateTest, AnUnchangedDocumentNeedsNoModel) {
  auto archive = Open();
  IngestOptions options = Reading("text 1");
  EXPECT_EQ(IngestUnchanged(archive.get(), Text(1), options).status().code(), Code::kNotFound);
  Ingest(Base(), archive.get(), "text 1", Text(1));
  options.origin.format = "markdown";
  const IngestResult there = Made(IngestUnchanged(archive.get(), Text(1), options));
  EXPECT_EQ(there.outcome, IngestOutcome::kUnchanged);
  EXPECT_GT(there.tokens, 0u);
  EXPECT_EQ(Made(archive->FindDocument("books", "text 1"))->format, "markdown");
  EXPECT_EQ(IngestUnchanged(archive.get(), Text(2), options).status().code(), Code::kNotFound);
  options.window = 32;  // not the collection's
  EXPECT_EQ(IngestUnchanged(archive.get(), Text(1), options).status().code(),
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace eidetic::sdk
