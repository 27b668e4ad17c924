#include "memory/forget.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "memory/archive.h"
#include "memory/forgotten_bytes.h"
#include "memory/format.h"
#include "memory/hash.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/session_turns.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::ExpectClean;
using testing::ExpectSession;
using testing::FaultRecordStore;
using testing::Plan;
using testing::RandomBlock;
using testing::SmallLayout;
using testing::TemporaryFolder;
using testing::TurnWriter;

constexpr char kFact[] = "The heron's password is tangerine seven.";
constexpr int64_t kDay = 24LL * 3600 * 1000;

// Words that are all different, so that every piece of the text is its own.
std::string Prose(int seed, size_t bytes) {
  std::string text;
  for (int i = 0; text.size() < bytes; ++i) {
    text += "w" + std::to_string(seed * 7919 + i * 31) + (i % 9 == 8 ? ".\n" : " ");
  }
  text.resize(bytes, '.');
  return text;
}

// The text with the fact in the middle of it.
std::string ProseWithFact(int seed, size_t bytes, size_t at) {
  std::string text = Prose(seed, bytes);
  return text.replace(at, sizeof(kFact) - 1, kFact);
}

class ForgetTest : public ::testing::Test {
 protected:
  std::shared_ptr<Archive> Open(bool read_only = false) {
    ArchiveOptions options;
    options.path = folder_.path() + "/archive";
    options.create = !read_only;
    options.read_only = read_only;
    options.pool_bytes = 8u << 20;
    options.clock = [this] { return now_; };
    auto archive = Archive::Open(options);
    EXPECT_TRUE(archive.ok()) << testing::Explain(archive.status());
    return std::move(archive).value();
  }

  // A token is a byte, a block 32 of them.
  static void Ingest(Archive* archive, const std::string& collection, const std::string& source,
                     const std::string& text, uint64_t seed) {
    CollectionRecord record;
    record.name = collection;
    record.layout = SmallLayout();
    EID_ASSERT_OK(archive->EnsureCollection(record).status());
    EID_ASSERT_RESULT(auto writer, archive->BeginDocument(collection, source, Sha256Hex(text), text,
                                                          text.size()));
    for (uint64_t at = 0; at < text.size(); at += 32) {
      const int tokens = testing::BlockTokens(SmallLayout(), at, text.size());
      EID_ASSERT_OK(writer->Append(RandomBlock(SmallLayout(), at, tokens, seed)));
    }
    EID_ASSERT_OK(writer->Finish());
  }

  static ForgetReceipt Forget(Archive* archive, ForgetRequest request) {
    request.verify_files = !request.dry_run;
    auto receipt = archive->Forget(request);
    EXPECT_TRUE(receipt.ok()) << testing::Explain(receipt.status());
    if (!receipt.ok()) return {};
    if (receipt->scan) {
      for (const std::string& found : receipt->scan.value().found)
        ADD_FAILURE() << "found in " << found;
      EXPECT_GT(receipt->scan.value().files, 3u);
    }
    return std::move(receipt).value();
  }

  static Status Refused(Archive* archive, const ForgetRequest& request) {
    return archive->Forget(request).status();
  }

  static std::string TextOf(const Archive& archive, const std::string& source) {
    const auto document = archive.FindDocument("books", source);
    if (!document.ok() || !document->has_value()) return "(none)";
    return archive.Text((*document)->id, 0, (*document)->bytes).value();
  }

  // The fact as bytes in any file, uncompressed ones.
  bool InFiles(const std::string& what) const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      if (bytes.find(what) != std::string::npos) return true;
    }
    return false;
  }

  TemporaryFolder folder_;
  int64_t now_ = 100 * kDay;
};

TEST_F(ForgetTest, ADocumentIsGoneFromRecordsWordsAndFiles) {
  auto archive = Open();
  Ingest(archive.get(), "books", "secret.txt", ProseWithFact(1, 3000, 1000), 1);
  Ingest(archive.get(), "books", "kept.txt", Prose(2, 2000), 2);
  EXPECT_EQ(archive->SearchWords("books", "tangerine", 3)->size(), 1u);

  ForgetRequest request;
  request.collection = "books";
  request.source = "secret.txt";
  request.dry_run = true;
  ForgetReceipt told = Forget(archive.get(), request);
  EXPECT_TRUE(told.dry_run);
  EXPECT_EQ(archive->SearchWords("books", "tangerine", 3)->size(), 1u);

  request.dry_run = false;
  const ForgetReceipt receipt = Forget(archive.get(), request);
  ASSERT_EQ(receipt.documents.size(), 1u);
  EXPECT_TRUE(receipt.documents[0].whole);
  EXPECT_EQ(receipt.documents[0].source, "secret.txt");
  EXPECT_EQ(receipt.blocks, 94u);
  EXPECT_EQ(receipt.word_entries, 94u);
  // 4 of 8 keys in a block, 2 layers of 2 heads; the last block has 24 tokens.
  EXPECT_EQ(receipt.representatives, 93u * 4 * 4 + 3 * 4);
  EXPECT_EQ(receipt.text_bytes, 3000u);
  EXPECT_EQ(told.blocks, receipt.blocks);
  EXPECT_EQ(told.text_bytes, receipt.text_bytes);
  ASSERT_TRUE(receipt.scan);
  EXPECT_GT(receipt.scan.value().samples, 300u);

  EXPECT_TRUE(archive->SearchWords("books", "tangerine", 3)->empty());
  EXPECT_FALSE(archive->FindDocument("books", "secret.txt")->has_value());
  EXPECT_EQ(TextOf(*archive, "kept.txt"), Prose(2, 2000));
  EXPECT_FALSE(InFiles("tangerine"));
  ExpectClean(*archive);
  EXPECT_EQ(Refused(archive.get(), request).code(), Code::kNotFound);
}

TEST_F(ForgetTest, ARangeTakesWholeBlocksAndLeavesTheRestWhereItWas) {
  auto archive = Open();
  const std::string text = ProseWithFact(1, 3000, 1000);
  Ingest(archive.get(), "books", "a.txt", text, 1);
  const LineageId before = archive->FindDocument("books", "a.txt")->value().lineage;
  ForgetRequest request;
  request.collection = "books";
  request.source = "a.txt";
  request.has_range = true;
  request.byte_begin = 1000;
  request.byte_end = 1000 + sizeof(kFact) - 1;
  const ForgetReceipt receipt = Forget(archive.get(), request);
  ASSERT_EQ(receipt.documents.size(), 1u);
  EXPECT_FALSE(receipt.documents[0].whole);
  EXPECT_EQ(receipt.documents[0].byte_begin, 992u);
  EXPECT_EQ(receipt.documents[0].byte_end, 1056u);
  EXPECT_EQ(receipt.blocks, 2u);

  EID_ASSERT_RESULT(const auto document, archive->FindDocument("books", "a.txt"));
  ASSERT_TRUE(document);
  EXPECT_GT(document->lineage, before);
  EXPECT_EQ(document->tokens, 3000u - 64);
  std::string left = text;
  left.replace(992, 64, 64, ' ');
  EXPECT_EQ(TextOf(*archive, "a.txt"), left);
  // Every block that is left is what it was, and says where its text stands.
  uint64_t position = 0;
  EID_ASSERT_OK(archive->store().ScanBlocks(
      document->lineage,
      [&](const BlockHeader& header, const std::vector<uint16_t>& representatives) -> Status {
        EXPECT_EQ(header.position, position);
        const uint64_t was = position < 992 ? position : position + 64;
        const Block block = RandomBlock(SmallLayout(), was, header.token_count(), 1);
        EXPECT_EQ(header.text_begin, was);
        EXPECT_EQ(header.tokens, block.header.tokens);
        EXPECT_EQ(representatives, block.representatives);
        const auto keys = archive->store().ReadPayloadUncached(
            {header.lineage, 7, Part::kValues, header.position});
        EXPECT_TRUE(keys.ok() && keys->bytes == block.values[1]);
        position += header.tokens.size();
        return {};
      }));
  EXPECT_EQ(position, document->tokens);
  EXPECT_TRUE(archive->SearchWords("books", "tangerine heron", 3)->empty());
  EXPECT_FALSE(InFiles("tangerine"));
  ExpectClean(*archive);

  request.byte_begin = 0, request.byte_end = 3000;
  EXPECT_TRUE(Forget(archive.get(), request).documents.at(0).whole);
  EXPECT_FALSE(archive->FindDocument("books", "a.txt")->has_value());
  ExpectClean(*archive);
}

TEST_F(ForgetTest, ARangeNeverCutsACharacter) {
  auto archive = Open();
  std::string text = Prose(3, 200);
  text.replace(31, 2, "\xc3\xbc");  // across the edge of two blocks
  Ingest(archive.get(), "books", "a.txt", text, 1);
  ForgetRequest request;
  request.collection = "books", request.source = "a.txt";
  request.has_range = true;
  request.byte_begin = 5, request.byte_end = 6;
  const ForgetReceipt receipt = Forget(archive.get(), request);
  EXPECT_EQ(receipt.documents.at(0).byte_end, 33u);
  EXPECT_EQ(TextOf(*archive, "a.txt"), std::string(33, ' ') + text.substr(33));
}

TEST_F(ForgetTest, ACollectionGoesWithItsNameAndOthersStay) {
  auto archive = Open();
  Ingest(archive.get(), "books", "a.txt", Prose(1, 500), 1);
  Ingest(archive.get(), "diary", "b.txt", ProseWithFact(2, 500, 100), 2);
  ForgetRequest request;
  request.collection = "diary";
  const ForgetReceipt receipt = Forget(archive.get(), request);
  EXPECT_EQ(receipt.collections, std::vector<std::string>{"diary"});
  EXPECT_EQ(archive->Collection("diary").status().code(), Code::kNotFound);
  EXPECT_EQ(TextOf(*archive, "a.txt"), Prose(1, 500));
  EXPECT_FALSE(InFiles("tangerine"));
  ExpectClean(*archive);
  archive.reset();
  archive = Open();
  ExpectClean(*archive);
}

TEST_F(ForgetTest, WhatIsOlderThanAnAgeGoesAndWhatHasNoDateStays) {
  auto archive = Open();
  now_ = 10 * kDay;
  Ingest(archive.get(), "books", "old.txt", ProseWithFact(1, 500, 100), 1);
  Ingest(archive.get(), "books", "undated.txt", Prose(4, 500), 4);
  now_ = 40 * kDay;
  Ingest(archive.get(), "books", "new.txt", Prose(2, 500), 2);
  const DocumentId undated = archive->FindDocument("books", "undated.txt")->value().id;
  RecordBatch batch;  // as of a version before documents had a date
  batch.Delete(Family::kMeta, format::IngestedKey(undated));
  EID_ASSERT_OK(archive->store().records().Write(batch, true));
  EID_ASSERT_RESULT(TurnWriter diary, TurnWriter::Open(archive.get(), "diary", {}));
  for (uint64_t seed : {1, 2, 3}) EID_ASSERT_OK(diary.Commit({seed, 50, ""}).status());

  ForgetRequest request;
  request.collection = "books";
  request.before = 30 * kDay;
  const ForgetReceipt receipt = Forget(archive.get(), request);
  ASSERT_EQ(receipt.documents.size(), 1u);
  EXPECT_EQ(receipt.documents[0].source, "old.txt");
  EXPECT_EQ(receipt.undated, 1u);
  EXPECT_EQ(receipt.turns, 0u);
  EXPECT_TRUE(archive->FindDocument("books", "undated.txt")->has_value());
  EXPECT_TRUE(archive->FindDocument("books", "new.txt")->has_value());
  // Without a collection it is about turns, too: those of this test are of 1970.
  request.collection.clear();
  const ForgetReceipt turns = Forget(archive.get(), request);
  EXPECT_EQ(turns.turns, 3u);
  ASSERT_EQ(turns.sessions.size(), 1u);
  EXPECT_TRUE(turns.sessions[0].removed);
  EXPECT_EQ(archive->sessions().Find("diary").status().code(), Code::kNotFound);
  ExpectClean(*archive);
}

// Reads the waiting turns again, as the owner of a session does when it opens it.
void ReadAgain(Archive* archive, const std::string& name, const Plan& before,
               const std::vector<testing::TurnPlan>& plans) {
  EID_ASSERT_RESULT(const std::vector<WaitingTurn> waiting, archive->sessions().Waiting(name));
  ASSERT_EQ(waiting.size(), plans.size());
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive, name, before));
  for (size_t i = 0; i < waiting.size(); ++i) {
    EXPECT_EQ(waiting[i].forgotten, plans[i].tokens == 0);
    if (!waiting[i].forgotten) {
      EXPECT_EQ(waiting[i].content.tokens, testing::TestContent(plans[i]).tokens);
    }
    EID_ASSERT_OK(writer.Commit(plans[i], /*waiting=*/true).status());
  }
}

TEST_F(ForgetTest, ATurnGoesFromEveryForkThatSeesItAndLaterTurnsWait) {
  auto archive = Open();
  Plan plan;
  {
    EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "diary", {}));
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      EID_ASSERT_OK(writer.Commit({seed, 60, seed == 4 ? "four" : ""}).status());
    }
    plan = writer.plan();
  }
  EID_ASSERT_OK(archive->sessions().Fork("diary", 3, "before", 7));
  EID_ASSERT_OK(archive->sessions().Fork("diary", 12, "after", 7));
  {
    EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "after", plan));
    EID_ASSERT_OK(writer.Commit({77, 60, ""}).status());
  }
  ForgetRequest request;
  request.session = "diary";
  request.turn = 4;
  const ForgetReceipt receipt = Forget(archive.get(), request);
  EXPECT_EQ(receipt.turns, 1u);
  EXPECT_EQ(receipt.text_bytes, testing::TurnText(4).size());
  EXPECT_GT(receipt.blocks, 10u);
  EXPECT_GT(receipt.snapshots, 7u);
  ASSERT_EQ(receipt.sessions.size(), 2u);
  EXPECT_EQ(receipt.sessions[0].name, "after");
  EXPECT_EQ(receipt.sessions[0].waiting, 10u);
  EXPECT_EQ(receipt.sessions[1].name, "diary");
  EXPECT_EQ(receipt.sessions[1].stands_at, 3u);
  EXPECT_EQ(receipt.sessions[1].waiting, 9u);
  ExpectClean(*archive);
  ExpectSession(*archive, "before", {plan.begin(), plan.begin() + 3});
  ExpectSession(*archive, "diary", {plan.begin(), plan.begin() + 3});

  // Nothing may be said before they are read again.
  {
    EID_ASSERT_RESULT(TurnWriter writer,
                      TurnWriter::Open(archive.get(), "diary", {plan.begin(), plan.begin() + 3}));
    EXPECT_EQ(writer.Commit({99, 10, ""}).status().code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(archive->sessions().Fork("diary", 7, "mid", 7).code(), Code::kInvalidArgument);
  EXPECT_EQ(archive->sessions().Rewind("diary", 7, 7).code(), Code::kInvalidArgument);
  archive.reset();
  archive = Open();
  ExpectClean(*archive);

  std::vector<testing::TurnPlan> rest(plan.begin() + 3, plan.end());
  rest[0] = {0, 0, ""};
  ReadAgain(archive.get(), "diary", {plan.begin(), plan.begin() + 3}, rest);
  Plan without = plan;
  without[3] = {0, 0, ""};
  ExpectSession(*archive, "diary", without);
  ExpectClean(*archive);

  // A turn is the same in a fork that read it again and in one that has not yet.
  request.turn = 6;
  const ForgetReceipt again = Forget(archive.get(), request);
  EXPECT_EQ(again.turns, 1u);
  ASSERT_EQ(again.sessions.size(), 2u);
  EXPECT_EQ(again.sessions[0].stands_at, 3u);
  EXPECT_EQ(again.sessions[1].stands_at, 5u);
  EID_ASSERT_RESULT(const auto waiting, archive->sessions().Waiting("after"));
  EXPECT_TRUE(waiting.at(0).forgotten);
  EXPECT_FALSE(waiting.at(1).forgotten);
  EXPECT_TRUE(waiting.at(2).forgotten);
  EXPECT_EQ(waiting.back().content.tokens, testing::TestContent({77, 60, ""}).tokens);
  EXPECT_EQ(Refused(archive.get(), request).code(), Code::kNotFound);
  // A rewind gives the waiting turns up.
  EID_ASSERT_OK(archive->sessions().Rewind("after", 3, 8));
  EXPECT_TRUE(archive->sessions().Waiting("after")->empty());
  ExpectClean(*archive);
}

TEST_F(ForgetTest, TheLastTurnIsForgottenByGoingBack) {
  auto archive = Open();
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "diary", {}));
  for (uint64_t seed : {1, 2, 3}) EID_ASSERT_OK(writer.Commit({seed, 40, ""}).status());
  ForgetRequest request;
  request.session = "diary";
  request.turn = 3;
  EXPECT_EQ(Forget(archive.get(), request).sessions.at(0).waiting, 0u);
  ExpectSession(*archive, "diary", {{1, 40, ""}, {2, 40, ""}});
  request.turn = 1;
  EXPECT_EQ(Forget(archive.get(), request).sessions.at(0).stands_at, 0u);
  ReadAgain(archive.get(), "diary", {}, {{0, 0, ""}, {2, 40, ""}});
  ExpectSession(*archive, "diary", {{0, 0, ""}, {2, 40, ""}});
  request.turn = 2;
  EXPECT_TRUE(Forget(archive.get(), request).sessions.at(0).removed);
  ExpectClean(*archive);
}

TEST_F(ForgetTest, ASessionGoesWithAllThatForksShareOfIt) {
  auto archive = Open();
  {
    EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "diary", {}));
    for (uint64_t seed : {1, 2, 3}) EID_ASSERT_OK(writer.Commit({seed, 80, ""}).status());
  }
  EID_ASSERT_OK(archive->sessions().Fork("diary", 2, "other", 7));
  {
    EID_ASSERT_RESULT(TurnWriter writer,
                      TurnWriter::Open(archive.get(), "other", {{1, 80, ""}, {2, 80, ""}}));
    EID_ASSERT_OK(writer.Commit({5, 80, ""}).status());
  }
  ForgetRequest request;
  request.session = "diary";
  const ForgetReceipt receipt = Forget(archive.get(), request);
  EXPECT_EQ(receipt.turns, 3u);
  ASSERT_EQ(receipt.sessions.size(), 2u);
  EXPECT_TRUE(receipt.sessions[0].removed);
  EXPECT_FALSE(receipt.sessions[1].removed);
  EXPECT_EQ(receipt.sessions[1].waiting, 3u);
  EXPECT_EQ(archive->sessions().Find("diary").status().code(), Code::kNotFound);
  ReadAgain(archive.get(), "other", {}, {{0, 0, ""}, {0, 0, ""}, {5, 80, ""}});
  ExpectSession(*archive, "other", {{0, 0, ""}, {0, 0, ""}, {5, 80, ""}});
  ExpectClean(*archive);
}

TEST_F(ForgetTest, ASessionThatWasSavedAsAWholeGoesAsAWhole) {
  auto archive = Open();
  EID_ASSERT_RESULT(auto lineage, archive->store().NewLineage(SmallLayout(), "session/old"));
  EID_ASSERT_OK(lineage->Append(RandomBlock(SmallLayout(), 0, 32, 1)));
  EID_ASSERT_OK(archive->CommitSession("old", lineage.get(), "a record of an earlier version"));
  ForgetRequest request;
  request.session = "old";
  request.turn = 1;
  EXPECT_EQ(Refused(archive.get(), request).code(), Code::kUnsupported);
  request.turn = 0;
  const ForgetReceipt receipt = Forget(archive.get(), request);
  EXPECT_TRUE(receipt.sessions.at(0).removed);
  EXPECT_EQ(receipt.blocks, 1u);
  EXPECT_TRUE(archive->Sessions()->empty());
  ExpectClean(*archive);
}

TEST_F(ForgetTest, SessionsThatCouldRecallADocumentAreNamed) {
  auto archive = Open();
  Ingest(archive.get(), "books", "a.txt", Prose(1, 300), 1);
  const LineageId lineage = archive->FindDocument("books", "a.txt")->value().lineage;
  EID_ASSERT_RESULT(TurnWriter reader, TurnWriter::Open(archive.get(), "reader", {}));
  EID_ASSERT_OK(reader.Commit({1, 16, ""}).status());
  EID_ASSERT_OK(reader.Commit({2, 16, ""}, false, ViewOf("books", {lineage})).status());
  EID_ASSERT_RESULT(TurnWriter other, TurnWriter::Open(archive.get(), "other", {}));
  EID_ASSERT_OK(other.Commit({3, 16, ""}, false, ViewOf("books", {})).status());
  ForgetRequest request;
  request.collection = "books";
  request.source = "a.txt";
  const ForgetReceipt receipt = Forget(archive.get(), request);
  ASSERT_EQ(receipt.seen.size(), 1u);
  EXPECT_EQ(receipt.seen[0].session, "reader");
  EXPECT_EQ(receipt.seen[0].turn, 2u);
}

TEST_F(ForgetTest, WhatIsStillSaidElsewhereIsNoFinding) {
  auto archive = Open();
  Ingest(archive.get(), "books", "a.txt", Prose(1, 600), 1);
  Ingest(archive.get(), "books", "copy.txt", Prose(1, 600), 2);
  ForgetRequest request;
  request.collection = "books";
  request.source = "a.txt";
  const ForgetReceipt receipt = Forget(archive.get(), request);
  EXPECT_GT(receipt.scan.value().elsewhere, 50u);
  EXPECT_LT(receipt.scan.value().elsewhere, receipt.scan.value().samples);  // token ids differ
}

TEST_F(ForgetTest, TheSearchFindsWhatIsLeft) {
  auto archive = Open();
  Ingest(archive.get(), "books", "a.txt", ProseWithFact(1, 600, 100), 1);
  std::ofstream(folder_.path() + "/archive/left behind") << "so: " << kFact;
  ForgetRequest request;
  request.collection = "books";
  request.source = "a.txt";
  request.verify_files = true;
  EID_ASSERT_RESULT(const ForgetReceipt receipt, archive->Forget(request));
  ASSERT_FALSE(receipt.scan.value().clean());
  EXPECT_NE(receipt.scan.value().found[0].find("left behind, byte"), std::string::npos);
}

TEST_F(ForgetTest, CompressedTextIsFoundInTables) {
  auto archive = Open();
  Ingest(archive.get(), "books", "a.txt", ProseWithFact(1, 60000, 100), 1);
  EID_ASSERT_OK(archive->Compact());
  ForgottenBytes samples;
  samples.Add(kFact);
  FileScan scan;
  EID_ASSERT_OK(archive->store().records().SearchFiles(samples, &scan));
  EXPECT_TRUE(std::any_of(scan.found.begin(), scan.found.end(), [](const std::string& found) {
    return found.find(".sst, a record") != std::string::npos;
  }));
}

TEST_F(ForgetTest, KilledBeforeTheFilesAreRidTheNextOpeningDoesIt) {
  auto records = std::make_shared<FaultRecordStore>();
  ArchiveOptions options;
  options.path = "in RAM";
  options.create = true;
  {
    auto archive = Archive::OpenOver(records, options);
    ASSERT_TRUE(archive.ok());
    Ingest(archive->get(), "books", "a.txt", ProseWithFact(1, 600, 100), 1);
    Ingest(archive->get(), "books", "b.txt", ProseWithFact(2, 6000, 100), 2);
    ForgetRequest request;
    request.collection = "books";
    request.source = "a.txt";
    // The batch is written, the mark is not taken away.
    records->FailWrite(2, Status(Code::kIoError, "killed"), true);
    EXPECT_EQ((*archive)->Forget(request).status().code(), Code::kIoError);
  }
  auto left = records->AfterPowerLoss();
  EXPECT_TRUE(left->Get(Family::kMeta, format::PurgeKey()).ok());
  auto archive = Archive::OpenOver(left, options);
  ASSERT_TRUE(archive.ok());
  EXPECT_FALSE((*archive)->FindDocument("books", "a.txt")->has_value());
  EXPECT_EQ(left->Get(Family::kMeta, format::PurgeKey()).status().code(), Code::kNotFound);
  ExpectClean(**archive);
  // Killed in the middle of writing the rest of a document, nothing has begun.
  ForgetRequest range;
  range.collection = "books", range.source = "b.txt";
  range.has_range = true;
  range.byte_begin = 100, range.byte_end = 140;
  left->FailWrite(2, Status(Code::kIoError, "killed"), true);
  EXPECT_EQ((*archive)->Forget(range).status().code(), Code::kIoError);
  archive->reset();
  auto after = Archive::OpenOver(left->AfterPowerLoss(left->unsynced()), options);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ((*after)->Documents("books")->size(), 1u);
  EXPECT_EQ(TextOf(**after, "b.txt"), ProseWithFact(2, 6000, 100));
  ExpectClean(**after);
}

TEST_F(ForgetTest, WhatMakesNoSenseIsRefusedAndChangesNothing) {
  auto archive = Open();
  Ingest(archive.get(), "books", "a.txt", Prose(1, 600), 1);
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "diary", {}));
  EID_ASSERT_OK(writer.Commit({1, 40, ""}).status());
  const auto code = [&](ForgetRequest request) { return Refused(archive.get(), request).code(); };
  ForgetRequest none;
  EXPECT_EQ(code(none), Code::kInvalidArgument);
  ForgetRequest both;
  both.collection = "books", both.session = "diary";
  EXPECT_EQ(code(both), Code::kInvalidArgument);
  ForgetRequest source;
  source.source = "a.txt";
  EXPECT_EQ(code(source), Code::kInvalidArgument);
  source.collection = "nowhere";
  EXPECT_EQ(code(source), Code::kNotFound);
  source.collection = "books", source.before = 5;
  EXPECT_EQ(code(source), Code::kInvalidArgument);
  source.before = 0, source.source = "b.txt";
  EXPECT_EQ(code(source), Code::kNotFound);
  ForgetRequest range;
  range.collection = "books", range.has_range = true, range.byte_end = 5;
  EXPECT_EQ(code(range), Code::kInvalidArgument);
  range.source = "a.txt", range.byte_begin = 5;
  EXPECT_EQ(code(range), Code::kInvalidArgument);
  range.byte_end = 601;
  EXPECT_EQ(code(range), Code::kInvalidArgument);
  ForgetRequest turn;
  turn.turn = 1;
  EXPECT_EQ(code(turn), Code::kInvalidArgument);
  turn.session = "nobody";
  EXPECT_EQ(code(turn), Code::kNotFound);
  turn.session = "diary", turn.turn = 2;
  EXPECT_EQ(code(turn), Code::kNotFound);
  ForgetRequest age;
  age.before = -1;
  EXPECT_EQ(code(age), Code::kInvalidArgument);
  {
    EID_ASSERT_RESULT(const auto under_way,
                      archive->BeginDocument("books", "c.txt", Sha256Hex("x y"), "x y", 3));
    ForgetRequest busy;
    busy.collection = "books";
    EXPECT_EQ(code(busy), Code::kLocked);
  }
  EXPECT_EQ(TextOf(*archive, "a.txt"), Prose(1, 600));
  ExpectSession(*archive, "diary", {{1, 40, ""}});
  archive.reset();
  archive = Open(/*read_only=*/true);
  ForgetRequest all;
  all.collection = "books";
  EXPECT_EQ(code(all), Code::kInvalidArgument);
  all.dry_run = true;
  EXPECT_EQ(Forget(archive.get(), all).documents.size(), 2u);
}

}  // namespace
}  // namespace eidetic::memory
