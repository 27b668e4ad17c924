#include "memory/archive.h"

#include <gtest/gtest.h>

#include <algorithm>

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

CollectionRecord Books() {
  CollectionRecord record;
  record.name = "books";
  record.layout = SmallLayout();
  record.window = 1024;
  record.sinks = 32;
  record.segment = 512;
  return record;
}

std::shared_ptr<Archive> OpenArchive(std::shared_ptr<RecordStore> records) {
  ArchiveOptions options;
  options.path = "in RAM";
  options.create = true;
  options.pool_bytes = 8u << 20;
  Result<std::shared_ptr<Archive>> archive = Archive::OpenOver(std::move(records), options);
  EXPECT_TRUE(archive.ok()) << testing::Explain(archive.status());
  return std::move(archive).value();
}

// A text of as many bytes as tokens.
std::string TextOf(uint64_t tokens, char filling) {
  return std::string(static_cast<size_t>(tokens), filling);
}

Result<std::unique_ptr<DocumentWriter>> Begin(Archive* archive, const std::string& source,
                                              const std::string& text) {
  const Result<CollectionRecord> collection = archive->EnsureCollection(Books());
  if (!collection.ok()) return collection.status();
  return archive->BeginDocument("books", source, Sha256Hex(text), text, text.size());
}

// Appends blocks up to `end`; their numbers depend on `seed`.
Status AppendTo(DocumentWriter* writer, uint64_t begin, uint64_t end, uint64_t seed) {
  for (uint64_t position = begin; position < end;) {
    const int tokens = testing::BlockTokens(SmallLayout(), position, end);
    EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), position, tokens, seed)));
    position += static_cast<uint64_t>(tokens);
  }
  return {};
}

Status Ingest(Archive* archive, const std::string& source, uint64_t tokens, char filling) {
  EID_ASSIGN_OR_RETURN(auto writer, Begin(archive, source, TextOf(tokens, filling)));
  EID_RETURN_IF_ERROR(AppendTo(writer.get(), 0, tokens, static_cast<uint64_t>(filling)));
  return writer->Finish();
}

std::string DigestOf(const Archive& archive) {
  const Result<VerifyReport> report = archive.Verify(nullptr);
  EXPECT_TRUE(report.ok()) << testing::Explain(report.status());
  for (const Damage& damage : report->damage) ADD_FAILURE() << damage.what;
  return report->collections.empty() ? "" : report->collections[0].digest;
}

std::vector<std::string> Sources(const Archive& archive, bool complete) {
  std::vector<std::string> sources;
  const auto documents = archive.Documents("books");
  EXPECT_TRUE(documents.ok()) << testing::Explain(documents.status());
  for (const DocumentRecord& document : *documents) {
    if (document.complete == complete) sources.push_back(document.source);
  }
  return sources;
}

TEST(Archive, ADocumentIsInvisibleUntilItIsFinished) {
  auto archive = OpenArchive(NewRamRecordStore());
  EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "moby.txt", TextOf(100, 'm')));
  EXPECT_EQ(writer->document().tokens, 100u);
  EXPECT_FALSE(writer->document().complete);
  EID_ASSERT_OK(AppendTo(writer.get(), 0, 64, 1));
  EID_ASSERT_OK(writer->Commit("state"));
  EXPECT_EQ(Sources(*archive, false), std::vector<std::string>{"moby.txt"});
  EID_ASSERT_RESULT(const auto unfinished, archive->FindDocument("books", "moby.txt"));
  EXPECT_FALSE(unfinished.has_value());
  EID_ASSERT_RESULT(auto empty, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(empty->size(), 0);
  EID_ASSERT_OK(AppendTo(writer.get(), 64, 100, 1));
  EID_ASSERT_OK(writer->Finish());
  EXPECT_EQ(Sources(*archive, true), std::vector<std::string>{"moby.txt"});
  EID_ASSERT_RESULT(auto index, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(index->size(), 4);
  EID_ASSERT_RESULT(const auto found, archive->FindDocument("books", "moby.txt"));
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE(found->complete);
  EXPECT_EQ(found->committed_tokens, 100u);
  EXPECT_EQ(found->committed_blocks, 4u);
  EID_ASSERT_RESULT(const auto owner, archive->DocumentOfLineage(found->lineage));
  EXPECT_EQ(owner->source, "moby.txt");
  DigestOf(*archive);
}

TEST(Archive, AFinishedDocumentReplacesTheOlderVersionOfItsSource) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenArchive(records);
  EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 100, 'a'));
  EID_ASSERT_OK(Ingest(archive.get(), "other.txt", 40, 'o'));
  EID_ASSERT_RESULT(const auto old, archive->FindDocument("books", "moby.txt"));
  EID_ASSERT_RESULT(auto held, archive->Index("books", IndexKind::kExact, 1));
  std::vector<PayloadPtr> payloads;
  EID_ASSERT_OK(archive->store().ReadPayloads({{old->lineage, 3, Part::kKeys, 0}}, &payloads));

  EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "moby.txt", TextOf(70, 'b')));
  EID_ASSERT_OK(AppendTo(writer.get(), 0, 70, 2));
  // Until then the old one serves.
  EID_ASSERT_RESULT(const auto serving, archive->FindDocument("books", "moby.txt"));
  EXPECT_EQ(serving->id, old->id);
  EID_ASSERT_OK(writer->Finish());

  EID_ASSERT_RESULT(const auto now, archive->FindDocument("books", "moby.txt"));
  EXPECT_GT(now->id, old->id);
  EXPECT_EQ(now->tokens, 70u);
  EXPECT_EQ(archive->store().ReadPayloads({{old->lineage, 3, Part::kKeys, 0}}, &payloads).code(),
            Code::kNotFound);
  EXPECT_EQ(archive->Text(old->id, 0, 1).status().code(), Code::kNotFound);
  EID_ASSERT_RESULT(auto index, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(index->size(), 3 + 2);
  EXPECT_EQ(held->size(), 4 + 2);  // who holds the old index keeps it
  DigestOf(*archive);
  EXPECT_EQ(records->Keys(Family::kText).size(), 2u);
  EXPECT_EQ(records->Keys(Family::kEmbeddings).size(), 5u);
}

TEST(Archive, AnInterruptedIngestGoesOnWhereItCommittedAndEndsWithTheSameDigest) {
  std::string expected;
  {
    auto archive = OpenArchive(NewRamRecordStore());
    EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 500, 'm'));
    expected = DigestOf(*archive);
  }
  for (const bool commit_more : {false, true}) {
    auto records = std::make_shared<FaultRecordStore>();
    DocumentId id = 0;
    {
      auto archive = OpenArchive(records);
      EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "moby.txt", TextOf(500, 'm')));
      id = writer->document().id;
      EID_ASSERT_RESULT(const std::string fresh, writer->ResumeState());
      EXPECT_EQ(fresh, "");
      EID_ASSERT_OK(AppendTo(writer.get(), 0, 128, 'm'));
      EID_ASSERT_OK(writer->Commit(std::string(3u << 20, 'x')));
      EID_ASSERT_OK(AppendTo(writer.get(), 128, 256, 'm'));
      if (commit_more) EID_ASSERT_OK(writer->Commit("second state"));
    }
    auto after = records->AfterPowerLoss();
    auto archive = OpenArchive(after);
    EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "moby.txt", TextOf(500, 'm')));
    EXPECT_EQ(writer->document().id, id);
    const uint64_t committed = commit_more ? 256 : 128;
    EXPECT_EQ(writer->document().committed_tokens, committed);
    EXPECT_EQ(writer->document().committed_blocks, committed / 32);
    EID_ASSERT_RESULT(const std::string state, writer->ResumeState());
    EXPECT_EQ(state, commit_more ? "second state" : std::string(3u << 20, 'x'));
    EID_ASSERT_OK(AppendTo(writer.get(), committed, 500, 'm'));
    EID_ASSERT_OK(writer->Finish());
    EXPECT_EQ(DigestOf(*archive), expected);
    EXPECT_TRUE(after->Keys(Family::kSessions).empty());
  }
}

TEST(Archive, ALeftoverOfOtherContentIsRemovedFirst) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenArchive(records);
  {
    EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "moby.txt", TextOf(500, 'a')));
    EID_ASSERT_OK(AppendTo(writer.get(), 0, 128, 1));
    EID_ASSERT_OK(writer->Commit("state"));
  }
  EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "moby.txt", TextOf(64, 'b')));
  EXPECT_EQ(writer->document().committed_tokens, 0u);
  EXPECT_TRUE(records->Keys(Family::kBlocks).empty());
  EXPECT_TRUE(records->Keys(Family::kSessions).empty());
  EXPECT_EQ(records->Keys(Family::kText).size(), 1u);
  EID_ASSERT_OK(AppendTo(writer.get(), 0, 64, 2));
  EID_ASSERT_OK(writer->Finish());
  EXPECT_EQ(Sources(*archive, true).size(), 1u);
  EXPECT_TRUE(Sources(*archive, false).empty());
  DigestOf(*archive);
}

TEST(Archive, RefusesWhatCannotBeADocument) {
  auto archive = OpenArchive(NewRamRecordStore());
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  const std::string hash = Sha256Hex("text");
  EXPECT_EQ(archive->BeginDocument("nowhere", "a", hash, "text", 4).status().code(),
            Code::kNotFound);
  EXPECT_EQ(archive->BeginDocument("books", "", hash, "text", 4).status().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(
      archive->BeginDocument("books", std::string(5000, 'a'), hash, "text", 4).status().code(),
      Code::kInvalidArgument);
  EXPECT_EQ(
      archive->BeginDocument("books", std::string("a\0b", 3), hash, "text", 4).status().code(),
      Code::kInvalidArgument);
  EXPECT_EQ(archive->BeginDocument("books", "a", hash, "text", 0).status().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(archive->BeginDocument("books", "a", Sha256Hex(""), "", 0).status().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(archive->BeginDocument("books", "a", Sha256Hex("other"), "text", 4).status().code(),
            Code::kInvalidArgument);
  EID_ASSERT_RESULT(auto writer, archive->BeginDocument("books", "a", hash, "text", 4));
  // One writer at a time.
  EXPECT_EQ(archive->BeginDocument("books", "a", hash, "text", 4).status().code(), Code::kLocked);
  EXPECT_EQ(archive->RemoveDocument(writer->document().id).code(), Code::kLocked);
  // Blocks past the document's tokens or text, and a finish before its end.
  EXPECT_EQ(writer->Finish().code(), Code::kInvalidArgument);
  EXPECT_EQ(writer->Append(RandomBlock(SmallLayout(), 0, 5, 1)).code(), Code::kInvalidArgument);
  EXPECT_EQ(writer->Append(RandomBlock(SmallLayout(), 0, 4, 1, 2)).code(), Code::kInvalidArgument);
  EID_ASSERT_OK(writer->Append(RandomBlock(SmallLayout(), 0, 4, 1)));
  EID_ASSERT_OK(writer->Finish());
  EXPECT_EQ(writer->Commit("late").code(), Code::kInvalidArgument);
}

TEST(Archive, ACollectionKeepsTheSettingsItWasMadeWith) {
  auto archive = OpenArchive(NewRamRecordStore());
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  CollectionRecord other = Books();
  other.layout.fingerprint = std::string(64, 'f');
  EXPECT_EQ(archive->EnsureCollection(other).status().code(), Code::kFingerprintMismatch);
  other = Books();
  other.layout.codec = kernels::Codec::kFp16;
  const Status codec = archive->EnsureCollection(other).status();
  EXPECT_EQ(codec.code(), Code::kInvalidArgument);
  EXPECT_NE(codec.message().find("int8"), std::string::npos) << codec.message();
  EXPECT_NE(codec.message().find("fp16"), std::string::npos) << codec.message();
  other = Books();
  other.layout.layers = {3, 8};
  EXPECT_EQ(archive->EnsureCollection(other).status().code(), Code::kInvalidArgument);
  other = Books();
  other.window = 512;
  EXPECT_EQ(archive->EnsureCollection(other).status().code(), Code::kInvalidArgument);
  other = Books();
  other.name = "";
  EXPECT_EQ(archive->EnsureCollection(other).status().code(), Code::kInvalidArgument);
  other.name = "fp16 books";
  other.layout.codec = kernels::Codec::kFp16;
  EID_ASSERT_OK(archive->EnsureCollection(other).status());
  EID_ASSERT_RESULT(const auto collections, archive->Collections());
  ASSERT_EQ(collections.size(), 2u);
  EXPECT_EQ(collections[0].name, "books");
  EXPECT_EQ(collections[0].layout, Books().layout);
  EXPECT_EQ(collections[0].segment, 512);
  EXPECT_EQ(collections[1].layout.codec, kernels::Codec::kFp16);
}

TEST(Archive, ACollectionThatCannotBeReadIntoIsNotMade) {
  auto archive = OpenArchive(NewRamRecordStore());
  const auto refused = [&](const char* named, auto change) {
    CollectionRecord wanted = Books();
    change(&wanted);
    const Status status = archive->EnsureCollection(wanted).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << named;
    EXPECT_NE(status.message().find(named), std::string::npos) << status.message();
  };
  refused("window", [](CollectionRecord* record) { record->window = 0; });
  refused("window", [](CollectionRecord* record) { record->window = 2000000000; });
  refused("segment", [](CollectionRecord* record) { record->segment = -5; });
  refused("sinks", [](CollectionRecord* record) { record->sinks = -1; });
  refused("sinks", [](CollectionRecord* record) { record->sinks += 1; });
  EID_ASSERT_RESULT(const auto collections, archive->Collections());
  EXPECT_TRUE(collections.empty());
}

TEST(Archive, TextComesInWholeCharactersAlsoAcrossChunks) {
  auto archive = OpenArchive(NewRamRecordStore());
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  // Characters of 1, 2, 3 and 4 bytes over three chunks of 64 KiB.
  std::string text;
  std::vector<uint64_t> starts;
  const std::vector<std::string> characters = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
  for (size_t i = 0; text.size() < 150000; ++i) {
    starts.push_back(text.size());
    text += characters[(i * 7 + i / 5) % 4];
  }
  starts.push_back(text.size());
  EID_ASSERT_RESULT(auto writer, archive->BeginDocument("books", "t", Sha256Hex(text), text, 10));
  const DocumentId id = writer->document().id;
  EID_ASSERT_RESULT(const std::string all, archive->Text(id, 0, text.size()));
  EXPECT_EQ(all, text);
  const auto widened = [&](uint64_t begin, uint64_t end) {
    const uint64_t first = *(std::upper_bound(starts.begin(), starts.end(), begin) - 1);
    const uint64_t last = *std::lower_bound(starts.begin(), starts.end(), end);
    return text.substr(first, last - first);
  };
  for (uint64_t around : {uint64_t{8}, uint64_t{65536}, uint64_t{131072}, text.size() - 8}) {
    for (uint64_t begin = around - 6; begin < around + 6; ++begin) {
      for (uint64_t end = begin + 1; end < around + 8; ++end) {
        EID_ASSERT_RESULT(const std::string part, archive->Text(id, begin, end));
        ASSERT_EQ(part, widened(begin, end)) << begin << ".." << end;
      }
    }
  }
  EID_ASSERT_RESULT(const std::string nothing, archive->Text(id, 7, 7));
  EXPECT_EQ(nothing, "");
  EXPECT_EQ(archive->Text(id, 7, 6).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(archive->Text(id, 0, text.size() + 1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(archive->Text(id + 1, 0, 1).status().code(), Code::kNotFound);
}

TEST(Archive, TextThatIsNoUtf8IsWidenedByAtMostThreeBytes) {
  auto archive = OpenArchive(NewRamRecordStore());
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  const std::string text(100, '\x80');
  EID_ASSERT_RESULT(auto writer, archive->BeginDocument("books", "t", Sha256Hex(text), text, 10));
  EID_ASSERT_RESULT(const std::string part, archive->Text(writer->document().id, 50, 60));
  EXPECT_EQ(part.size(), 16u);
}

TEST(Archive, ARemovedDocumentLeavesNoRecord) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenArchive(records);
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  const size_t records_before = records->Keys(Family::kMeta).size();
  EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 200, 'm'));
  EID_ASSERT_RESULT(const auto document, archive->FindDocument("books", "moby.txt"));
  EID_ASSERT_OK(archive->RemoveDocument(document->id));
  for (Family family : {Family::kBlocks, Family::kEmbeddings, Family::kText, Family::kSessions}) {
    EXPECT_TRUE(records->Keys(family).empty()) << FamilyName(family);
  }
  // Three counters came to stay.
  EXPECT_EQ(records->Keys(Family::kMeta).size(), records_before + 3);
  EXPECT_EQ(archive->RemoveDocument(document->id).code(), Code::kNotFound);
  // Whoever still names its lineage is told that there is nothing any more, not that it is wrong.
  EID_ASSERT_RESULT(const auto gone, archive->DocumentOfLineage(document->lineage));
  EXPECT_FALSE(gone.has_value());
  EID_ASSERT_RESULT(auto index, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(index->size(), 0);
  EXPECT_EQ(archive->store().pool_stats().bytes, 0u);
}

TEST(Archive, TheIndexIsBuiltOncePerChange) {
  auto archive = OpenArchive(NewRamRecordStore());
  EID_ASSERT_OK(Ingest(archive.get(), "a", 64, 'a'));
  EID_ASSERT_RESULT(auto first, archive->Index("books", IndexKind::kExact, 1));
  EID_ASSERT_RESULT(auto second, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(first, second);
  EID_ASSERT_OK(Ingest(archive.get(), "b", 64, 'b'));
  EID_ASSERT_RESULT(auto third, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_NE(first, third);
  EXPECT_EQ(first->size(), 2);
  EXPECT_EQ(third->size(), 4);
  EXPECT_EQ(archive->Index("nowhere", IndexKind::kExact, 1).status().code(), Code::kNotFound);
}

TEST(Archive, ASessionsRecordAndItsBlocksAreOneCommit) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenArchive(records);
  EID_ASSERT_RESULT(auto lineage, archive->store().NewLineage(SmallLayout(), "session/friend"));
  EID_ASSERT_OK(lineage->Append(RandomBlock(SmallLayout(), 0, 32, 1)));
  EID_ASSERT_OK(archive->CommitSession("friend", lineage.get(), std::string(3000000, 'a')));
  EID_ASSERT_OK(lineage->Append(RandomBlock(SmallLayout(), 32, 32, 1)));
  records->FailWrite(1, Status(Code::kIoError, "no"), false);
  EXPECT_EQ(archive->CommitSession("friend", lineage.get(), "b").code(), Code::kIoError);
  EID_ASSERT_RESULT(const std::string before, archive->SessionRecord("friend"));
  EXPECT_EQ(before, std::string(3000000, 'a'));
  EXPECT_EQ(lineage->committed(), 32u);
  EID_ASSERT_OK(archive->CommitSession("friend", lineage.get(), "b"));
  EID_ASSERT_OK(archive->CommitSession("another", nullptr, ""));

  archive = OpenArchive(records->AfterPowerLoss());
  EID_ASSERT_RESULT(const std::string after, archive->SessionRecord("friend"));
  EXPECT_EQ(after, "b");
  EID_ASSERT_RESULT(const auto sessions, archive->Sessions());
  EXPECT_EQ(sessions, (std::vector<std::string>{"another", "friend"}));
  EID_ASSERT_RESULT(const std::string empty, archive->SessionRecord("another"));
  EXPECT_EQ(empty, "");
  EXPECT_EQ(archive->SessionRecord("nobody").status().code(), Code::kNotFound);
  EID_ASSERT_RESULT(const LineageRecord resumed, archive->store().Lineage(lineage->lineage()));
  EXPECT_EQ(resumed.committed_tokens, 64u);
  EID_ASSERT_RESULT(const auto owner, archive->DocumentOfLineage(lineage->lineage()));
  EXPECT_FALSE(owner.has_value());
  DigestOf(*archive);
}

TEST(Archive, LineagesWithoutAnOwnerAreSweptWhenOpening) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto archive = OpenArchive(records);
    EID_ASSERT_RESULT(auto lineage,
                      archive->store().NewLineage(SmallLayout(), "session/never saved"));
    EID_ASSERT_OK(lineage->Append(RandomBlock(SmallLayout(), 0, 32, 1)));
    EID_ASSERT_OK(lineage->Commit());
  }
  auto archive = OpenArchive(records);
  EXPECT_TRUE(records->Keys(Family::kBlocks).empty());
  EID_ASSERT_RESULT(const auto lineages, archive->store().Lineages());
  EXPECT_TRUE(lineages.empty());
}

TEST(Archive, ATextWhoseDocumentWasNeverBegunIsSweptWhenOpening) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenArchive(records);
  EID_ASSERT_OK(archive->EnsureCollection(Books()).status());
  const std::string text = TextOf(9u << 20, 't');  // goes in several batches
  // Counter, lineage counter, first text batch: the next one fails.
  records->FailWrite(4, Status(Code::kIoError, "no"), true);
  EXPECT_EQ(archive->BeginDocument("books", "t", Sha256Hex(text), text, 10).status().code(),
            Code::kIoError);
  ASSERT_FALSE(records->Keys(Family::kText).empty());
  records->Heal();
  archive = OpenArchive(records);
  EXPECT_TRUE(records->Keys(Family::kText).empty());
  EXPECT_TRUE(Sources(*archive, false).empty());
  DigestOf(*archive);
  EID_ASSERT_RESULT(auto writer, archive->BeginDocument("books", "t", Sha256Hex(text), text, 10));
  EID_ASSERT_RESULT(const std::string stored, archive->Text(writer->document().id, 0, text.size()));
  EXPECT_EQ(stored, text);
}

TEST(Archive, ADamagedLineageRecordDoesNotKeepTheOthersShut) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto archive = OpenArchive(records);
    EID_ASSERT_OK(Ingest(archive.get(), "a", 64, 'a'));
    EID_ASSERT_RESULT(auto writer, Begin(archive.get(), "b", TextOf(300000, 'b')));
    EID_ASSERT_OK(AppendTo(writer.get(), 0, 300000, 1));  // some of it is written, none committed
  }
  ASSERT_TRUE(std::ranges::any_of(records->Keys(Family::kMeta),
                                  [](const std::string& key) { return key[0] == 'U'; }));
  records->FlipBit(Family::kMeta, format::LineageKey(2), 77);
  auto archive = OpenArchive(records);
  EID_ASSERT_RESULT(auto index, archive->Index("books", IndexKind::kExact, 1));
  EXPECT_EQ(index->size(), 2);
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_FALSE(report.clean());
  // What cannot be read can be thrown away.
  EID_ASSERT_RESULT(const auto documents, archive->Documents("books"));
  ASSERT_EQ(documents.size(), 2u);
  EID_ASSERT_OK(archive->RemoveDocument(documents[1].id));
  DigestOf(*archive);
}

TEST(Archive, ANewerFormatIsRefusedWithWhatToDo) {
  auto records = std::make_shared<FaultRecordStore>();
  OpenArchive(records);
  format::FormatRecord newer;
  newer.version = format::kFormatVersion + 1;
  records->Overwrite(Family::kMeta, format::FormatKey(),
                     format::EncodeFormat(format::FormatKey(), newer));
  const Status status = Archive::OpenOver(records, {}).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_FALSE(status.remedy().empty());
}

TEST(Archive, ADatabaseThatIsNoArchiveIsRefused) {
  auto records = std::make_shared<FaultRecordStore>();
  records->Overwrite(Family::kMeta, "somebody's", "data");
  ArchiveOptions options;
  options.create = true;
  EXPECT_EQ(Archive::OpenOver(records, options).status().code(), Code::kCorruption);
  EXPECT_EQ(Archive::OpenOver(std::make_shared<FaultRecordStore>(), {}).status().code(),
            Code::kNotFound);
}

// One ingest, or what is left of it, in commits of 100 tokens. `acknowledged`: tokens committed.
Status IngestInSteps(std::shared_ptr<RecordStore> records, uint64_t tokens,
                     uint64_t* acknowledged) {
  ArchiveOptions options;
  options.create = true;
  EID_ASSIGN_OR_RETURN(auto archive, Archive::OpenOver(std::move(records), options));
  EID_ASSIGN_OR_RETURN(auto writer, Begin(archive.get(), "moby.txt", TextOf(tokens, 'm')));
  EXPECT_EQ(writer->document().committed_tokens, *acknowledged);
  for (uint64_t position = *acknowledged; position < tokens;) {
    const uint64_t end = std::min(tokens, position + 100);
    EID_RETURN_IF_ERROR(AppendTo(writer.get(), position, end, 'm'));
    EID_RETURN_IF_ERROR(writer->Commit("state at " + std::to_string(end)));
    *acknowledged = end;
    position = end;
  }
  return writer->Finish();
}

// A full disk at every single write of an ingest: the error says so, what was acknowledged is
// there, and going on ends with the same digest.
TEST(Archive, AFullDiskAtAnyWriteLosesNothingThatWasAcknowledged) {
  constexpr uint64_t kTokens = 300;
  auto healthy = std::make_shared<FaultRecordStore>();
  uint64_t acknowledged = 0;
  EID_ASSERT_OK(IngestInSteps(healthy, kTokens, &acknowledged));
  const std::string expected = DigestOf(*OpenArchive(healthy));
  const uint64_t writes = healthy->writes();
  ASSERT_GE(writes, 8u);

  uint64_t failures = 0;
  for (uint64_t number = 1; number <= writes; ++number) {
    auto records = std::make_shared<FaultRecordStore>();
    records->FailWrite(number, Status(Code::kNoSpace, "disk is full"), true);
    acknowledged = 0;
    const Status failure = IngestInSteps(records, kTokens, &acknowledged);
    ASSERT_EQ(failure.code(), Code::kNoSpace) << number;
    ++failures;
    auto after = records->AfterPowerLoss();
    DigestOf(*OpenArchive(after));
    EID_ASSERT_OK(IngestInSteps(after, kTokens, &acknowledged));
    EXPECT_EQ(DigestOf(*OpenArchive(after)), expected) << number;
  }
  EXPECT_EQ(failures, writes);
}

}  // namespace
}  // namespace eidetic::memory
