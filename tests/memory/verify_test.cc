// Verification finds whatever is done to an archive, and says what and where.
#include <gtest/gtest.h>

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

constexpr Family kAllFamilies[] = {Family::kMeta, Family::kBlocks, Family::kEmbeddings,
                                   Family::kText, Family::kSessions};

Result<std::shared_ptr<Archive>> OpenOver(std::shared_ptr<RecordStore> records,
                                          bool read_only = false) {
  ArchiveOptions options;
  options.path = "in RAM";
  options.create = true;
  options.read_only = read_only;
  options.pool_bytes = 1u << 20;
  return Archive::OpenOver(std::move(records), options);
}

Status Ingest(Archive* archive, const std::string& collection, const std::string& source,
              uint64_t tokens, bool finish) {
  CollectionRecord record;
  record.name = collection;
  record.layout = SmallLayout();
  EID_RETURN_IF_ERROR(archive->EnsureCollection(record).status());
  const std::string text(tokens, source[0]);
  EID_ASSIGN_OR_RETURN(auto writer,
                       archive->BeginDocument(collection, source, Sha256Hex(text), text, tokens));
  for (uint64_t position = 0; position < tokens;) {
    const int count = testing::BlockTokens(SmallLayout(), position, tokens);
    EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), position, count, tokens)));
    position += static_cast<uint64_t>(count);
  }
  return finish ? writer->Finish() : writer->Commit("the reader's state");
}

// Two finished documents, an unfinished one, and a session with blocks.
std::shared_ptr<FaultRecordStore> Filled() {
  auto records = std::make_shared<FaultRecordStore>();
  auto opened = OpenOver(records);
  EXPECT_TRUE(opened.ok()) << testing::Explain(opened.status());
  Archive& archive = **opened;
  for (const Status& status : {Ingest(&archive, "books", "moby.txt", 70, true),
                               Ingest(&archive, "books", "ahab.txt", 33, true),
                               Ingest(&archive, "notes", "half.txt", 40, false)}) {
    EXPECT_TRUE(status.ok()) << testing::Explain(status);
  }
  auto lineage = archive.store().NewLineage(SmallLayout(), "session/friend");
  EXPECT_TRUE(lineage.ok());
  EXPECT_TRUE((*lineage)->Append(RandomBlock(SmallLayout(), 0, 32, 3)).ok());
  EXPECT_TRUE(archive.CommitSession("friend", lineage->get(), std::string(40, 'z')).ok());
  return records;
}

std::string Digests(const VerifyReport& report) {
  std::string text;
  for (const CollectionDigest& digest : report.collections) {
    text += digest.collection + "=" + digest.digest + " ";
  }
  return text;
}

TEST(Verify, AHealthyArchiveIsCleanAndEveryRecordWasRead) {
  auto records = Filled();
  EID_ASSERT_RESULT(auto archive, OpenOver(records));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  for (const Damage& damage : report.damage) ADD_FAILURE() << damage.what;
  size_t all = 0;
  for (Family family : kAllFamilies) all += records->Keys(family).size();
  EXPECT_EQ(report.records, all);
  ASSERT_EQ(report.collections.size(), 2u);
  EXPECT_EQ(report.collections[0].collection, "books");
  EXPECT_EQ(report.collections[0].documents, 2u);
  EXPECT_EQ(report.collections[0].blocks, 3u + 2);
  EXPECT_EQ(report.collections[1].documents, 0u);  // the unfinished one does not count
  EXPECT_EQ(report.collections[0].digest.size(), 64u);
}

TEST(Verify, OneFlippedBitInAnyRecordIsFound) {
  auto records = Filled();
  std::mt19937_64 random(1);
  int flips = 0;
  for (Family family : kAllFamilies) {
    for (const std::string& key : records->Keys(family)) {
      EID_ASSERT_RESULT(const std::string value, records->Get(family, key));
      for (int round = 0; round < 4; ++round) {
        const size_t bit = random() % (value.size() * 8);
        auto damaged = records->Clone();
        EID_ASSERT_RESULT(auto archive, OpenOver(damaged));  // opened before it decays
        damaged->FlipBit(family, key, bit);
        EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
        EXPECT_FALSE(report.clean())
            << FamilyName(family) << " " << format::Printable(key) << " bit " << bit;
        ++flips;
      }
    }
  }
  EXPECT_GT(flips, 200);
}

TEST(Verify, AnArchiveWithAnyDamagedRecordCanBeOpenedToVerifyIt) {
  auto records = Filled();
  for (Family family : {Family::kMeta, Family::kSessions}) {
    for (const std::string& key : records->Keys(family)) {
      auto damaged = records->Clone();
      damaged->FlipBit(family, key, 8);
      const uint64_t writes = damaged->writes();
      EID_ASSERT_RESULT(auto archive, OpenOver(damaged, /*read_only=*/true));
      EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
      ASSERT_FALSE(report.clean());
      const std::string& told = report.damage.front().what;
      EXPECT_NE(told.find(format::Printable(key)), std::string::npos) << told;
      EXPECT_EQ(damaged->writes(), writes);
    }
  }
}

TEST(Verify, AnArchiveWhoseOwnRecordsAreDamagedIsNotWritten) {
  auto records = Filled();
  using format::Counter;
  const std::vector<std::pair<std::string, std::string>> named = {
      {format::FormatKey(), "the format record"},
      {format::CounterKey(Counter::kBlock), "the counter of blocks"},
      {format::CounterKey(Counter::kLineage), "the counter of lineages"},
      {format::CounterKey(Counter::kDocument), "the counter of documents"}};
  for (const auto& [key, name] : named) {
    auto damaged = records->Clone();
    damaged->FlipBit(Family::kMeta, key, 70);
    const uint64_t writes = damaged->writes();
    const Status status = OpenOver(damaged).status();
    EXPECT_EQ(status.code(), Code::kCorruption) << name;
    EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
    EXPECT_NE(status.remedy().find("backup"), std::string::npos) << status.remedy();
    EXPECT_EQ(damaged->writes(), writes);
  }
}

TEST(Verify, ADamagedCollectionIsNamedByWhoeverNeedsIt) {
  auto damaged = Filled();
  damaged->FlipBit(Family::kMeta, format::CollectionKey("books"), 30);
  EID_ASSERT_RESULT(auto archive, OpenOver(damaged, /*read_only=*/true));
  for (const Status& status :
       {archive->Collections().status(), archive->Collection("books").status(),
        archive->Documents("books").status()}) {
    EXPECT_EQ(status.code(), Code::kCorruption);
    EXPECT_NE(status.message().find("collection books"), std::string::npos) << status.message();
    EXPECT_NE(status.remedy().find("memory verify"), std::string::npos) << status.remedy();
  }
  EXPECT_TRUE(archive->Collection("notes").ok());
}

TEST(Verify, AnyRecordThatIsMissingIsFound) {
  auto records = Filled();
  for (Family family : kAllFamilies) {
    for (const std::string& key : records->Keys(family)) {
      // Documents of earlier versions have no date.
      if (family == Family::kMeta && key[0] == static_cast<char>(format::MetaTag::kIngested)) {
        continue;
      }
      auto damaged = records->Clone();
      EID_ASSERT_RESULT(auto archive, OpenOver(damaged));
      damaged->Erase(family, key);
      EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
      EXPECT_FALSE(report.clean()) << FamilyName(family) << " " << format::Printable(key);
    }
  }
}

TEST(Verify, ARecordThatBelongsToNothingIsFound) {
  const std::string number_key = format::CounterKey(format::Counter::kBlock);
  const Block block = RandomBlock(SmallLayout(), 0, 32, 1);
  const auto payload = [&](const PayloadKey& key) {
    const std::string bytes = format::PayloadRecordKey(key);
    return std::make_pair(bytes, format::EncodePayload(bytes, SmallLayout(), 32, block.keys[0]));
  };
  std::vector<std::tuple<Family, std::string, std::string>> strays;
  for (const PayloadKey& key :
       {PayloadKey{1, 5, Part::kKeys, 0}, PayloadKey{1, 3, Part::kKeys, 8},
        PayloadKey{1, 7, Part::kValues, 960}, PayloadKey{77, 3, Part::kKeys, 0},
        PayloadKey{0, 3, Part::kKeys, 0}}) {
    auto [bytes, value] = payload(key);
    strays.emplace_back(Family::kBlocks, bytes, value);
  }
  const std::string embedding = format::EmbeddingKey(1, 960);
  strays.emplace_back(Family::kEmbeddings, embedding,
                      format::EncodeEmbedding(embedding, SmallLayout(), block.header, {}));
  const std::string text = format::TextKey(88, 0);
  strays.emplace_back(Family::kText, text, format::EncodeBytes(text, "orphan"));
  const std::string state = format::BlobKey(format::ReaderStatePrefix(1), 0);
  strays.emplace_back(Family::kSessions, state, format::EncodeBlobHead(state, {}));
  strays.emplace_back(Family::kMeta, "Zebra", format::EncodeNumber("Zebra", 1));

  for (const auto& [family, key, value] : strays) {
    auto damaged = Filled();
    EID_ASSERT_RESULT(auto archive, OpenOver(damaged));
    damaged->Overwrite(family, key, value);
    EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
    EXPECT_FALSE(report.clean()) << FamilyName(family) << " " << format::Printable(key);
  }
}

TEST(Verify, DamageNamesCollectionDocumentBlockLayerAndPart) {
  auto records = Filled();
  EID_ASSERT_RESULT(auto archive, OpenOver(records));
  records->FlipBit(Family::kBlocks, format::PayloadRecordKey({1, 7, Part::kKeys, 32}), 200);
  records->Erase(Family::kBlocks, format::PayloadRecordKey({1, 3, Part::kValues, 64}));
  records->FlipBit(Family::kText, format::TextKey(2, 0), 60);
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  ASSERT_EQ(report.damage.size(), 3u);
  EXPECT_NE(report.damage[0].what.find("collection books, document 1 (moby.txt), block 3 at "
                                       "position 64, layer 3, values: the record is missing"),
            std::string::npos)
      << report.damage[0].what;
  EXPECT_NE(report.damage[1].what.find("collection books, document 1 (moby.txt), block 2 at "
                                       "position 32, layer 7, keys: "),
            std::string::npos)
      << report.damage[1].what;
  EXPECT_EQ(report.damage[1].document, 1u);
  EXPECT_EQ(report.damage[1].block, 2u);
  EXPECT_NE(report.damage[2].what.find("document 2 (ahab.txt), text chunk 0"), std::string::npos)
      << report.damage[2].what;
}

TEST(Verify, ATextThatIsNotWhatWasIngestedIsFoundUnderAGoodChecksum) {
  auto records = Filled();
  EID_ASSERT_RESULT(auto archive, OpenOver(records));
  const std::string key = format::TextKey(1, 0);
  records->Overwrite(Family::kText, key, format::EncodeBytes(key, std::string(70, 'x')));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_FALSE(report.clean());
}

TEST(Verify, TheDigestDependsOnContentAndNotOnHistory) {
  auto first = Filled();
  EID_ASSERT_RESULT(auto one, OpenOver(first));
  EID_ASSERT_RESULT(const VerifyReport expected, one->Verify(nullptr));

  // Another order, other ids, a document that was replaced and one that was removed.
  auto second = std::make_shared<FaultRecordStore>();
  EID_ASSERT_RESULT(auto two, OpenOver(second));
  EID_ASSERT_OK(Ingest(two.get(), "notes", "x.txt", 40, true));
  EID_ASSERT_OK(Ingest(two.get(), "books", "ahab.txt", 50, true));
  EID_ASSERT_OK(Ingest(two.get(), "books", "ahab.txt", 33, true));
  EID_ASSERT_OK(Ingest(two.get(), "books", "moby.txt", 70, true));
  EID_ASSERT_RESULT(const auto removed, two->FindDocument("notes", "x.txt"));
  ASSERT_TRUE(removed.has_value());
  EID_ASSERT_OK(two->RemoveDocument(removed->id));
  EID_ASSERT_RESULT(const VerifyReport same, two->Verify(nullptr));
  EXPECT_TRUE(same.clean());
  EXPECT_EQ(Digests(same), Digests(expected));

  EID_ASSERT_OK(Ingest(two.get(), "books", "moby.txt", 71, true));
  EID_ASSERT_RESULT(const VerifyReport other, two->Verify(nullptr));
  EXPECT_NE(Digests(other), Digests(expected));
}

TEST(Verify, CanBeStoppedAndTellsHowFarItIs) {
  auto records = std::make_shared<FaultRecordStore>();
  EID_ASSERT_RESULT(auto archive, OpenOver(records));
  EID_ASSERT_OK(Ingest(archive.get(), "books", "long.txt", 32 * 300, true));
  uint64_t last = 0;
  uint64_t total = 0;
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify([&](const VerifyProgress& at) {
    EXPECT_GT(at.records, last);
    EXPECT_GE(at.total, at.records);
    last = at.records;
    total = at.total;
    return true;
  }));
  EXPECT_NEAR(static_cast<double>(total), static_cast<double>(report.records), 5);
  EXPECT_EQ(archive->Verify([](const VerifyProgress&) { return false; }).status().code(),
            Code::kCancelled);
}

TEST(Verify, AWriterInTheMiddleOfItsWorkIsNoDamage) {
  auto records = Filled();
  EID_ASSERT_RESULT(auto archive, OpenOver(records));
  const std::string text(320, 'w');
  EID_ASSERT_RESULT(auto writer,
                    archive->BeginDocument("books", "w.txt", Sha256Hex(text), text, text.size()));
  EID_ASSERT_RESULT(auto session, archive->store().NewLineage(SmallLayout(), "session/new"));
  for (uint64_t position = 0; position < 320; position += 32) {
    EID_ASSERT_OK(writer->Append(RandomBlock(SmallLayout(), position, 32, 9)));
    EID_ASSERT_OK(session->Append(RandomBlock(SmallLayout(), position, 32, 9)));
    if (position == 96) EID_ASSERT_OK(writer->Commit("s"));
  }
  EID_ASSERT_OK(session->Flush());
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  for (const Damage& damage : report.damage) ADD_FAILURE() << damage.what;
}

}  // namespace
}  // namespace eidetic::memory
