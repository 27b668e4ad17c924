// A collection's next generation: built beside it, swapped at once, and never half of either.
#include <gtest/gtest.h>

#include <algorithm>

#include "memory/archive.h"
#include "memory/format.h"
#include "memory/hash.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::FaultRecordStore;
using testing::RandomBlock;
using testing::SmallLayout;
using testing::TemporaryFolder;

constexpr int64_t kThen = 1000, kLater = 2000;

// A token is a byte. Model 'a' and model 'b' make other numbers of the same text.
class GenerationsTest : public ::testing::Test {
 protected:
  static CollectionRecord Of(char model) {
    CollectionRecord record;
    record.name = "books";
    record.layout = SmallLayout();
    record.layout.fingerprint = std::string(64, model);
    if (model != 'a') record.layout.kv_heads = 1;  // another layout altogether
    return record;
  }

  static std::string Text(const std::string& source) {
    return source + " " + std::string(100, 't');
  }

  std::shared_ptr<Archive> Open(std::shared_ptr<RecordStore> records) {
    ArchiveOptions options;
    options.path = "in RAM";
    options.create = true;
    options.pool_bytes = 8u << 20;
    options.clock = [this] { return now_; };
    auto archive = Archive::OpenOver(std::move(records), options);
    EXPECT_TRUE(archive.ok()) << testing::Explain(archive.status());
    return std::move(archive).value();
  }

  static Status ReadInto(Archive* archive, const CollectionRecord& collection,
                         const std::string& source, const std::string& text,
                         const DocumentOrigin& origin = {}) {
    EID_ASSIGN_OR_RETURN(auto writer,
                         archive->BeginDocument(collection.name, source, Sha256Hex(text), text,
                                                text.size(), origin));
    const auto seed = static_cast<uint64_t>(collection.layout.fingerprint[0]);
    for (uint64_t at = writer->document().committed_tokens; at < text.size(); at += 32) {
      const int tokens = testing::BlockTokens(collection.layout, at, text.size());
      EID_RETURN_IF_ERROR(writer->Append(RandomBlock(collection.layout, at, tokens, seed)));
      if (at == 32) EID_RETURN_IF_ERROR(writer->Commit("state"));
    }
    return writer->Finish();
  }

  static Status Ingest(Archive* archive, const CollectionRecord& collection,
                       const std::vector<std::string>& sources) {
    EID_ASSIGN_OR_RETURN(const CollectionRecord there, archive->EnsureCollection(collection));
    for (const std::string& source : sources) {
      EID_RETURN_IF_ERROR(ReadInto(archive, there, source, Text(source)));
    }
    return {};
  }

  // What is missing of the generation, and the swap.
  static Status Migrate(Archive* archive, char model) {
    EID_ASSIGN_OR_RETURN(const CollectionRecord there, archive->Collection("books"));
    if (there.layout == Of(model).layout) return {};
    EID_ASSIGN_OR_RETURN(const CollectionRecord next, archive->BeginGeneration(Of(model)));
    EID_ASSIGN_OR_RETURN(const auto documents, archive->Documents("books"));
    for (const DocumentRecord& document : documents) {
      if (!document.complete) continue;
      EID_ASSIGN_OR_RETURN(const auto done, archive->FindDocument(next.name, document.source));
      if (done && done->content_hash == document.content_hash) continue;
      EID_ASSIGN_OR_RETURN(const std::string text, archive->Text(document.id, 0, document.bytes));
      EID_ASSIGN_OR_RETURN(TextMap map, archive->MapOf(document));
      EID_RETURN_IF_ERROR(ReadInto(archive, next, document.source, text,
                                   {document.format, document.original_bytes, std::move(map)}));
    }
    EID_ASSIGN_OR_RETURN(const bool swapped, archive->SwapGeneration("books"));
    return swapped ? Status() : Status(Code::kInternal, "nothing was swapped");
  }

  static std::vector<CollectionDigest> Digests(const Archive& archive) {
    const auto report = archive.Verify(nullptr);
    EXPECT_TRUE(report.ok()) << testing::Explain(report.status());
    for (const Damage& damage : report->damage) ADD_FAILURE() << damage.what;
    return report->collections;
  }
  static std::string Digest(const Archive& archive) { return Digests(archive).at(0).digest; }

  std::string FreshDigest(char model, const std::vector<std::string>& sources) {
    auto archive = Open(NewRamRecordStore());
    EXPECT_TRUE(Ingest(archive.get(), Of(model), sources).ok());
    return Digest(*archive);
  }

  static std::vector<std::string> GenerationSources(const Archive& archive) {
    std::vector<std::string> sources;
    const auto next = archive.NextGeneration("books");
    EXPECT_TRUE(next.ok());
    if (!*next) return sources;
    const auto documents = archive.Documents((*next)->name);
    EXPECT_TRUE(documents.ok());
    for (const DocumentRecord& document : *documents) sources.push_back(document.source);
    return sources;
  }

  // With a generation of `sources`, not swapped.
  std::shared_ptr<Archive> Halfway(std::shared_ptr<RecordStore> records,
                                   const std::vector<std::string>& sources) {
    auto archive = Open(std::move(records));
    EXPECT_TRUE(Ingest(archive.get(), Of('a'), {"moby", "otto"}).ok());
    const auto next = archive->BeginGeneration(Of('b'));
    EXPECT_TRUE(next.ok()) << testing::Explain(next.status());
    for (const std::string& source : sources) {
      EXPECT_TRUE(ReadInto(archive.get(), *next, source, Text(source)).ok());
    }
    return archive;
  }

  int64_t now_ = kThen;
};

TEST_F(GenerationsTest, TheOldOneServesUntilTheSwapAndThenTheNewOneIsAsIfReadAfresh) {
  auto archive = Halfway(NewRamRecordStore(), {"moby", "otto"});
  EXPECT_EQ(Digests(*archive).size(), 1u);
  EXPECT_EQ(Digest(*archive), FreshDigest('a', {"moby", "otto"}));
  EXPECT_EQ(archive->Collections()->size(), 1u);
  EID_ASSERT_RESULT(const auto old, archive->FindDocument("books", "otto"));
  EID_ASSERT_RESULT(auto before, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(before->layout().fingerprint[0], 'a');

  EID_ASSERT_RESULT(const bool swapped, archive->SwapGeneration("books"));
  EXPECT_TRUE(swapped);
  EXPECT_EQ(Digest(*archive), FreshDigest('b', {"moby", "otto"}));
  EID_ASSERT_RESULT(const auto next, archive->NextGeneration("books"));
  EXPECT_FALSE(next.has_value());
  EID_ASSERT_RESULT(auto after, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(after->layout().fingerprint[0], 'b');
  EXPECT_EQ(after->size(), before->size());
  EID_ASSERT_RESULT(const auto now, archive->FindDocument("books", "otto"));
  EXPECT_EQ(now->content_hash, old->content_hash);
  EXPECT_EQ(archive->Text(now->id, 0, now->bytes).value(), Text("otto"));
  EXPECT_EQ(archive->store().Lineages()->size(), 2u);  // nothing is left of the old ones
  EXPECT_EQ(archive->SearchWords("books", "otto", 3)->size(), 1u);
}

TEST_F(GenerationsTest, AFailedWriteAnywhereLeavesOneWholeAndTheNextRunGoesOn) {
  const std::vector<std::string> sources = {"moby", "otto", "zoe"};
  const std::string as_a = FreshDigest('a', sources), as_b = FreshDigest('b', sources);
  auto healthy = std::make_shared<FaultRecordStore>();
  EID_ASSERT_OK(Ingest(Open(healthy).get(), Of('a'), sources));
  const uint64_t before = healthy->writes();
  EID_ASSERT_OK(Migrate(Open(healthy->Clone()).get(), 'b'));
  int old_ones = 0, new_ones = 0;
  for (uint64_t failing = 1;; ++failing) {
    auto records = healthy->Clone();
    auto archive = Open(records);
    records->FailWrite(failing, Status(Code::kIoError, "killed"), /*stays_failed=*/true);
    const bool done = Migrate(archive.get(), 'b').ok();
    archive.reset();
    auto after = Open(records->AfterPowerLoss());
    const std::string digest = Digest(*after);
    EXPECT_TRUE(digest == as_a || digest == as_b) << "write " << failing;
    ++(digest == as_a ? old_ones : new_ones);
    EID_ASSERT_OK(Migrate(after.get(), 'b'));
    EXPECT_EQ(Digest(*after), as_b) << "write " << failing;
    EXPECT_EQ(after->store().Lineages()->size(), sources.size());
    if (done) break;
  }
  EXPECT_GT(old_ones, 8);  // each document begins, commits and ends
  EXPECT_EQ(new_ones, 1);
  EXPECT_GT(before, 0u);
}

TEST_F(GenerationsTest, AnUnfinishedDocumentOfTheGenerationGoesOnWhereItStopped) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto archive = Halfway(records, {});
    EID_ASSERT_RESULT(const auto next, archive->BeginGeneration(Of('b')));
    const std::string text = Text("moby");
    EID_ASSERT_RESULT(
        auto writer, archive->BeginDocument(next.name, "moby", Sha256Hex(text), text, text.size()));
    EID_ASSERT_OK(writer->Append(RandomBlock(next.layout, 0, 32, 'b')));
    EID_ASSERT_OK(writer->Commit("so far"));
    EXPECT_EQ(archive->SwapGeneration("books").status().code(), Code::kLocked);
    EXPECT_EQ(archive->DropGeneration("books").code(), Code::kLocked);
  }
  auto archive = Open(records->AfterPowerLoss());
  EID_ASSERT_RESULT(const auto next, archive->BeginGeneration(Of('b')));
  {
    const std::string text = Text("moby");
    EID_ASSERT_RESULT(
        auto writer, archive->BeginDocument(next.name, "moby", Sha256Hex(text), text, text.size()));
    EXPECT_EQ(writer->document().committed_tokens, 32u);
    EXPECT_EQ(writer->ResumeState().value(), "so far");
  }
  EID_ASSERT_OK(Migrate(archive.get(), 'b'));
  EXPECT_EQ(Digest(*archive), FreshDigest('b', {"moby", "otto"}));
}

TEST_F(GenerationsTest, WhatIsForgottenIsForgottenThereToo) {
  for (const char* what : {"document", "range", "collection", "age"}) {
    auto records = std::make_shared<FaultRecordStore>();
    auto archive = Halfway(records, {"moby", "otto"});
    ForgetRequest request;
    request.verify_files = true;
    if (what != std::string("age")) request.collection = "books";
    if (what == std::string("document") || what == std::string("range")) request.source = "moby";
    request.has_range = what == std::string("range");
    request.byte_end = request.has_range ? 3 : 0;
    if (what == std::string("age")) request.before = kLater;
    EID_ASSERT_RESULT(const ForgetReceipt receipt, archive->Forget(request));
    for (const ForgottenDocument& one : receipt.documents) EXPECT_EQ(one.collection, "books");
    EXPECT_TRUE(receipt.scan->clean()) << what << ": " << receipt.scan->found.front();
    const std::vector<std::string> left = GenerationSources(*archive);
    EXPECT_EQ(std::count(left.begin(), left.end(), "moby"), 0) << what;
    const bool all = what == std::string("collection") || what == std::string("age");
    EXPECT_EQ(left.size(), all ? 0u : 1u) << what;
    EXPECT_EQ(archive->NextGeneration("books")->has_value(), what != std::string("collection"));
    Digests(*archive);
    if (what != std::string("collection")) EID_ASSERT_OK(Migrate(archive.get(), 'b'));
    Digests(*archive);
  }
}

TEST_F(GenerationsTest, NothingIsSwappedWhileTheyDiffer) {
  auto archive = Halfway(NewRamRecordStore(), {"moby", "otto"});
  EID_ASSERT_RESULT(const CollectionRecord books, archive->Collection("books"));
  // A document that changed: its old text goes from the generation at once.
  EID_ASSERT_OK(ReadInto(archive.get(), books, "otto", Text("changed")));
  EXPECT_EQ(GenerationSources(*archive), std::vector<std::string>{"moby"});
  EXPECT_FALSE(archive->SwapGeneration("books").value());
  EID_ASSERT_OK(Migrate(archive.get(), 'b'));

  archive = Halfway(NewRamRecordStore(), {"moby", "otto", "gone"});
  EXPECT_FALSE(archive->SwapGeneration("books").value());
  // One that is removed goes from both.
  archive = Halfway(NewRamRecordStore(), {"moby", "otto"});
  EID_ASSERT_RESULT(const auto otto, archive->FindDocument("books", "otto"));
  EID_ASSERT_OK(archive->RemoveDocument(otto->id));
  EXPECT_EQ(GenerationSources(*archive), std::vector<std::string>{"moby"});
  EXPECT_TRUE(archive->SwapGeneration("books").value());

  // The same text, extracted from something else.
  archive = Halfway(NewRamRecordStore(), {"moby", "otto"});
  EID_ASSERT_RESULT(const auto moby, archive->FindDocument("books", "moby"));
  EID_ASSERT_OK(archive->UpdateOrigin(moby->id, {"markdown", 0, {}}));
  EXPECT_FALSE(archive->SwapGeneration("books").value());
  EID_ASSERT_RESULT(const auto next, archive->NextGeneration("books"));
  EID_ASSERT_RESULT(const auto copy, archive->FindDocument(next->name, "moby"));
  EID_ASSERT_OK(archive->UpdateOrigin(copy->id, {"markdown", 0, {}}));
  EXPECT_TRUE(archive->SwapGeneration("books").value());
  EXPECT_EQ(archive->FindDocument("books", "moby").value()->format, "markdown");
}

TEST_F(GenerationsTest, DocumentsKeepTheirAgeAndTheirOrigin) {
  auto archive = Open(NewRamRecordStore());
  EID_ASSERT_RESULT(const auto books, archive->EnsureCollection(Of('a')));
  const std::string text = Text("page");
  DocumentOrigin origin{"html", 2 * text.size(), {}};
  EID_ASSERT_RESULT(origin.map, TextMap::Make({{0, text.size(), 7, text.size()}}, text.size(),
                                              origin.original_bytes));
  EID_ASSERT_OK(ReadInto(archive.get(), books, "page", text, origin));
  now_ = kLater;
  EID_ASSERT_OK(Migrate(archive.get(), 'b'));
  EID_ASSERT_RESULT(const auto page, archive->FindDocument("books", "page"));
  EXPECT_EQ(page->format, "html");
  EXPECT_EQ(page->original_bytes, origin.original_bytes);
  EID_ASSERT_RESULT(const TextMap map, archive->MapOf(*page));
  EXPECT_EQ(map.Serialize(), origin.map.Serialize());
  ForgetRequest old;
  old.before = kThen + 1;
  EID_ASSERT_RESULT(const ForgetReceipt receipt, archive->Forget(old));
  EXPECT_EQ(receipt.documents.size(), 1u);
}

TEST_F(GenerationsTest, AnotherModelBeginsAnewAndTheOldGenerationCanBeDropped) {
  auto archive = Halfway(NewRamRecordStore(), {"moby", "otto"});
  EID_ASSERT_OK(archive->BeginGeneration(Of('c')).status());
  EXPECT_TRUE(GenerationSources(*archive).empty());
  EXPECT_EQ(archive->store().Lineages()->size(), 2u);
  EXPECT_EQ(archive->NextGeneration("books").value()->layout.fingerprint[0], 'c');
  EID_ASSERT_OK(archive->DropGeneration("books"));
  EID_ASSERT_OK(archive->DropGeneration("books"));
  EXPECT_EQ(archive->SwapGeneration("books").status().code(), Code::kNotFound);
  EXPECT_EQ(Digest(*archive), FreshDigest('a', {"moby", "otto"}));
  CollectionRecord nowhere = Of('b');
  nowhere.name = "nowhere";
  EXPECT_EQ(archive->BeginGeneration(nowhere).status().code(), Code::kNotFound);
}

TEST_F(GenerationsTest, ItsNameIsNobodysToGiveAndMayBeAsLongAsAny) {
  auto archive = Open(NewRamRecordStore());
  CollectionRecord taken = Of('a');
  taken.name =
      "\xff"
      "books";
  EXPECT_EQ(archive->EnsureCollection(taken).status().code(), Code::kInvalidArgument);
  auto halfway = Halfway(NewRamRecordStore(), {"moby"});
  EXPECT_EQ(halfway->Collection(taken.name).status().code(), Code::kNotFound);
  EXPECT_EQ(halfway->Index(taken.name, IndexKind::kExact, 1).status().code(), Code::kNotFound);
  EXPECT_EQ(halfway->SearchWords(taken.name, "moby", 1).status().code(), Code::kNotFound);
  CollectionRecord longest = Of('a');
  longest.name = std::string(255, 'n');
  EID_ASSERT_RESULT(const auto there, archive->EnsureCollection(longest));
  EID_ASSERT_OK(ReadInto(archive.get(), there, "moby", Text("moby")));
  CollectionRecord wanted = Of('b');
  wanted.name = longest.name;
  EID_ASSERT_RESULT(const auto next, archive->BeginGeneration(wanted));
  EID_ASSERT_OK(ReadInto(archive.get(), next, "moby", Text("moby")));
  Digests(*archive);
  EXPECT_TRUE(archive->SwapGeneration(longest.name).value());
  Digests(*archive);
}

TEST_F(GenerationsTest, AGenerationWithoutItsCollectionIsDamage) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = Halfway(records, {});
  records->Erase(Family::kMeta, format::CollectionKey("books"));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_TRUE(std::any_of(report.damage.begin(), report.damage.end(), [](const Damage& damage) {
    return damage.what.find("next generation") != std::string::npos;
  }));
}

TEST_F(GenerationsTest, OnDiskTheWordsFollowAndNothingIsLeftOfTheOld) {
  TemporaryFolder folder;
  ArchiveOptions options;
  options.path = folder.path() + "/archive";
  options.create = true;
  EID_ASSERT_RESULT(auto archive, Archive::Open(options));
  EID_ASSERT_OK(Ingest(archive.get(), Of('a'), {"moby", "otto"}));
  EID_ASSERT_OK(Migrate(archive.get(), 'b'));
  EXPECT_EQ(archive->SearchWords("books", "moby", 3)->size(), 1u);
  archive.reset();
  options.create = false;
  EID_ASSERT_RESULT(archive, Archive::Open(options));
  EXPECT_EQ(Digest(*archive), FreshDigest('b', {"moby", "otto"}));
  EXPECT_EQ(archive->SearchWords("books", "otto", 3)->size(), 1u);
}

}  // namespace
}  // namespace eidetic::memory
