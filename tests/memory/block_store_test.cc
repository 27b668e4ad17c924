#include "memory/block_store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "memory/format.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::FaultRecordStore;
using testing::RandomBlock;
using testing::SmallLayout;
using testing::TemporaryFolder;

constexpr uint64_t kPoolBytes = 8u << 20;

std::unique_ptr<BlockStore> OpenStore(std::shared_ptr<RecordStore> records,
                                      uint64_t pool_bytes = kPoolBytes) {
  Result<std::unique_ptr<BlockStore>> store =
      BlockStore::Open(std::move(records), pool_bytes, false);
  EXPECT_TRUE(store.ok()) << testing::Explain(store.status());
  return std::move(store).value();
}

// Appends blocks of 32 tokens until the writer stands at `end`.
void AppendTo(LineageWriter* writer, uint64_t end, uint64_t seed = 1) {
  while (writer->position() < end) {
    EID_ASSERT_OK(writer->Append(
        RandomBlock(writer->layout(), writer->position(),
                    testing::BlockTokens(writer->layout(), writer->position(), end), seed)));
  }
}

std::vector<uint64_t> Positions(const BlockStore& store, LineageId lineage) {
  std::vector<uint64_t> positions;
  const Status status = store.ScanBlocks(
      lineage, [&](const BlockHeader& header, const std::vector<uint16_t>&) -> Status {
        positions.push_back(header.position);
        return {};
      });
  EXPECT_TRUE(status.ok()) << testing::Explain(status);
  return positions;
}

std::vector<PayloadKey> AllKeys(const Layout& layout, LineageId lineage, uint64_t end) {
  std::vector<PayloadKey> keys;
  for (uint64_t position = 0; position < end; position += 32) {
    for (int layer : layout.layers) {
      for (Part part : {Part::kKeys, Part::kValues})
        keys.push_back({lineage, layer, part, position});
    }
  }
  return keys;
}

TEST(BlockStore, ALineageMayBeginWhereAnotherWasLeftAndBeCutShort) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/branch", 64));
  EXPECT_EQ(writer->position(), 64u);
  EXPECT_EQ(writer->Append(RandomBlock(SmallLayout(), 0, 32, 1)).code(), Code::kInvalidArgument);
  AppendTo(writer.get(), 192);
  EID_ASSERT_OK(writer->Commit());
  const LineageId lineage = writer->lineage();
  writer.reset();
  EXPECT_EQ(Positions(*store, lineage), (std::vector<uint64_t>{64, 96, 128, 160}));
  uint64_t seen = 0;
  const auto count = [&](const BlockHeader&, const std::vector<uint16_t>&) -> Status {
    ++seen;
    return {};
  };
  EID_ASSERT_OK(store->ScanBlocks(lineage, count, 128));
  EXPECT_EQ(seen, 2u);

  RecordBatch batch;
  EXPECT_EQ(store->TruncateLineage(lineage, 32, 0, &batch).code(), Code::kInvalidArgument);
  EXPECT_EQ(store->TruncateLineage(lineage, 256, 4, &batch).code(), Code::kInvalidArgument);
  EXPECT_TRUE(batch.changes().empty());
  EID_ASSERT_OK(store->TruncateLineage(lineage, 128, 2, &batch));
  EID_ASSERT_OK(records->Write(batch, true));
  store = OpenStore(records);
  EXPECT_EQ(Positions(*store, lineage), (std::vector<uint64_t>{64, 96}));
  EXPECT_EQ(records->Keys(Family::kEmbeddings).size(), 2u);
  EXPECT_EQ(records->Keys(Family::kBlocks).size(), 2 * 2 * SmallLayout().layers.size());
  EID_ASSERT_RESULT(auto resumed, store->ResumeLineage(lineage));
  AppendTo(resumed.get(), 160);
  EID_ASSERT_OK(resumed->Commit());
  EXPECT_EQ(Positions(*store, lineage), (std::vector<uint64_t>{64, 96, 128}));
}

TEST(BlockStore, GivesBackBlocksAsTheyWereAppended) {
  const Layout layout = SmallLayout();
  auto store = OpenStore(NewRamRecordStore());
  EID_ASSERT_RESULT(auto writer, store->NewLineage(layout, "session/test"));
  const std::vector<int> lengths = {32, 32, 7, 1};
  std::vector<Block> blocks;
  for (int tokens : lengths) {
    blocks.push_back(RandomBlock(layout, writer->position(), tokens, 5));
    BlockId id = 0;
    EID_ASSERT_OK(writer->Append(blocks.back(), &id));
    blocks.back().header.id = id;
  }
  EID_ASSERT_OK(writer->Commit());
  EXPECT_EQ(writer->committed(), 72u);
  EXPECT_EQ(writer->blocks_appended(), 4u);

  size_t at = 0;
  std::set<BlockId> ids;
  EID_ASSERT_OK(store->ScanBlocks(
      writer->lineage(),
      [&](const BlockHeader& header, const std::vector<uint16_t>& representatives) -> Status {
        const Block& expected = blocks[at++];
        EXPECT_EQ(header.id, expected.header.id);
        EXPECT_EQ(header.position, expected.header.position);
        EXPECT_EQ(header.tokens, expected.header.tokens);
        EXPECT_EQ(header.text_begin, expected.header.text_begin);
        EXPECT_EQ(header.text_end, expected.header.text_end);
        EXPECT_EQ(header.lineage, writer->lineage());
        EXPECT_EQ(representatives, expected.representatives);
        EXPECT_TRUE(ids.insert(header.id).second);
        return {};
      }));
  EXPECT_EQ(at, blocks.size());
  EXPECT_FALSE(ids.contains(0));

  for (const Block& block : blocks) {
    for (size_t layer = 0; layer < layout.layers.size(); ++layer) {
      std::vector<PayloadPtr> payloads;
      EID_ASSERT_OK(store->ReadPayloads(
          {{writer->lineage(), layout.layers[layer], Part::kValues, block.header.position},
           {writer->lineage(), layout.layers[layer], Part::kKeys, block.header.position}},
          &payloads));
      EXPECT_EQ(payloads[0]->bytes, block.values[layer]);
      EXPECT_EQ(payloads[1]->bytes, block.keys[layer]);
      EXPECT_EQ(payloads[1]->tokens, block.header.token_count());
      EXPECT_EQ(payloads[1]->codec, layout.codec);
    }
  }
}

TEST(BlockStore, UncommittedBlocksAreGoneAfterReopening) {
  auto records = std::make_shared<FaultRecordStore>();
  LineageId lineage = 0;
  {
    auto store = OpenStore(records);
    EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
    lineage = writer->lineage();
    AppendTo(writer.get(), 64);
    EID_ASSERT_OK(writer->Commit());
    AppendTo(writer.get(), 256);
    EID_ASSERT_OK(writer->Flush());
    // Readable already, though not part of the lineage yet.
    std::vector<PayloadPtr> payloads;
    EID_ASSERT_OK(store->ReadPayloads({{lineage, 3, Part::kKeys, 224}}, &payloads));
    EXPECT_EQ(Positions(*store, lineage).size(), 2u);
  }
  auto store = OpenStore(records);
  EXPECT_EQ(Positions(*store, lineage), (std::vector<uint64_t>{0, 32}));
  EXPECT_EQ(records->Keys(Family::kBlocks).size(), 2u * 2 * 2);
  EXPECT_EQ(records->Keys(Family::kEmbeddings).size(), 2u);
  std::vector<PayloadPtr> payloads;
  EXPECT_EQ(store->ReadPayloads({{lineage, 3, Part::kKeys, 224}}, &payloads).code(),
            Code::kNotFound);
}

TEST(BlockStore, AMarkStandsWhileThereAreUncommittedBlocksAndNoLonger) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  const auto marked = [&](LineageId lineage) {
    return records->Get(Family::kMeta, format::UncommittedKey(lineage)).ok();
  };
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  for (uint64_t end : {64, 128}) {
    AppendTo(writer.get(), end);
    EXPECT_FALSE(marked(writer->lineage()));
    EID_ASSERT_OK(writer->Flush());
    EXPECT_TRUE(marked(writer->lineage()));
    EID_ASSERT_OK(writer->Commit());
    EXPECT_FALSE(marked(writer->lineage()));
  }
}

TEST(BlockStore, ALineageThatWasNeverCommittedLeavesNothing) {
  auto records = std::make_shared<FaultRecordStore>();
  LineageId lineage = 0;
  {
    auto store = OpenStore(records);
    EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
    lineage = writer->lineage();
    AppendTo(writer.get(), 320);
    EID_ASSERT_OK(writer->Flush());
  }
  auto store = OpenStore(records);
  EXPECT_TRUE(records->Keys(Family::kBlocks).empty());
  EXPECT_TRUE(records->Keys(Family::kEmbeddings).empty());
  EXPECT_EQ(store->Lineage(lineage).status().code(), Code::kNotFound);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  EXPECT_GT(writer->lineage(), lineage);  // ids are never reused
}

TEST(BlockStore, AResumedWriterGoesOnAtTheCommittedLength) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  LineageId lineage = 0;
  {
    EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
    lineage = writer->lineage();
    AppendTo(writer.get(), 64);
    EID_ASSERT_OK(writer->Commit());
    AppendTo(writer.get(), 160, 7);
    EID_ASSERT_OK(writer->Flush());
    // Into the pool, from where they must be gone too.
    std::vector<PayloadPtr> payloads;
    EID_ASSERT_OK(store->ReadPayloads(AllKeys(SmallLayout(), lineage, 160), &payloads));
  }
  EID_ASSERT_RESULT(auto writer, store->ResumeLineage(lineage));
  EXPECT_EQ(writer->position(), 64u);
  EXPECT_EQ(writer->blocks_appended(), 2u);
  AppendTo(writer.get(), 96, 8);
  EID_ASSERT_OK(writer->Commit());
  EXPECT_EQ(Positions(*store, lineage), (std::vector<uint64_t>{0, 32, 64}));
  std::vector<PayloadPtr> payloads;
  EID_ASSERT_OK(store->ReadPayloads({{lineage, 3, Part::kKeys, 64}}, &payloads));
  EXPECT_EQ(payloads[0]->bytes, RandomBlock(SmallLayout(), 64, 32, 8).keys[0]);
  EXPECT_EQ(store->ReadPayloads({{lineage, 3, Part::kKeys, 128}}, &payloads).code(),
            Code::kNotFound);
}

// Loses power after every number of unsynced batches that there can be.
TEST(BlockStore, APowerLossLeavesACommittedPrefix) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  AppendTo(writer.get(), 96);
  EID_ASSERT_OK(writer->Commit());
  for (uint64_t end : {128, 160, 192}) {
    AppendTo(writer.get(), end);
    EID_ASSERT_OK(writer->Flush());
  }
  ASSERT_GE(records->unsynced(), 3u);
  for (size_t kept = 0; kept <= records->unsynced(); ++kept) {
    auto after = records->AfterPowerLoss(kept);
    auto reopened = OpenStore(after);
    EXPECT_EQ(Positions(*reopened, writer->lineage()), (std::vector<uint64_t>{0, 32, 64}));
    EXPECT_EQ(after->Keys(Family::kBlocks).size(), 3u * 4) << kept;
    EID_ASSERT_RESULT(auto resumed, reopened->ResumeLineage(writer->lineage()));
    AppendTo(resumed.get(), 192);
    EID_ASSERT_OK(resumed->Commit());
    EXPECT_EQ(Positions(*reopened, writer->lineage()).size(), 6u);
  }
}

TEST(BlockStore, AFailedCommitChangesNothingAndCanBeTriedAgain) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  AppendTo(writer.get(), 64);
  EID_ASSERT_OK(writer->Commit());
  AppendTo(writer.get(), 128);
  records->FailWrite(1, Status(Code::kNoSpace, "disk is full"), false);
  RecordBatch extra;
  extra.Put(Family::kSessions, "S", "state");
  EXPECT_EQ(writer->Commit(extra).code(), Code::kNoSpace);
  EXPECT_EQ(writer->committed(), 64u);
  EXPECT_EQ(Positions(*store, writer->lineage()).size(), 2u);
  EXPECT_TRUE(records->Keys(Family::kSessions).empty());
  EID_ASSERT_OK(writer->Commit(extra));
  EXPECT_EQ(Positions(*store, writer->lineage()).size(), 4u);
  EXPECT_EQ(records->Keys(Family::kSessions).size(), 1u);
}

TEST(BlockStore, AFailedFlushCanBeTriedAgain) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  AppendTo(writer.get(), 64);
  records->FailWrite(1, Status(Code::kIoError, "no"), false);
  EXPECT_EQ(writer->Flush().code(), Code::kIoError);
  EXPECT_TRUE(records->Keys(Family::kBlocks).empty());
  EID_ASSERT_OK(writer->Flush());
  EID_ASSERT_OK(writer->Commit());
  EXPECT_EQ(Positions(*store, writer->lineage()).size(), 2u);
}

TEST(BlockStore, RefusesBlocksThatDoNotFollowOnOrDoNotFitTheLayout) {
  const Layout layout = SmallLayout();
  auto store = OpenStore(NewRamRecordStore());
  EID_ASSERT_RESULT(auto writer, store->NewLineage(layout, "session/test"));
  EID_ASSERT_OK(writer->Append(RandomBlock(layout, 0, 32, 1)));
  const Block good = RandomBlock(layout, 32, 32, 1);
  std::vector<Block> wrong(6, good);
  wrong[0].header.position = 64;
  wrong[1].header.position = 0;
  wrong[2].keys[1].pop_back();
  wrong[3].values.pop_back();
  wrong[4].representatives.push_back(0);
  wrong[5].header.text_end = wrong[5].header.text_begin - 1;
  for (size_t i = 0; i < wrong.size(); ++i) {
    EXPECT_EQ(writer->Append(wrong[i]).code(), Code::kInvalidArgument) << i;
  }
  EXPECT_EQ(writer->position(), 32u);
  EID_ASSERT_OK(writer->Append(good));
  EID_ASSERT_OK(writer->Commit());
  EXPECT_EQ(Positions(*store, writer->lineage()).size(), 2u);
}

TEST(BlockStore, BlockIdsAreNeverReusedAcrossReopening) {
  auto records = std::make_shared<FaultRecordStore>();
  std::set<BlockId> seen;
  for (int round = 0; round < 3; ++round) {
    auto store = OpenStore(records);
    EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
    AppendTo(writer.get(), 96);
    // Even ids of blocks that were lost are not given again.
    if (round != 1) EID_ASSERT_OK(writer->Commit());
    EID_ASSERT_OK(writer->Flush());
    for (const std::string& key : records->Keys(Family::kEmbeddings)) {
      EID_ASSERT_RESULT(const auto parts, format::ParseEmbeddingKey(key));
      if (parts.lineage != writer->lineage()) continue;
      BlockHeader header;
      std::vector<uint16_t> representatives;
      EID_ASSERT_RESULT(const std::string value, records->Get(Family::kEmbeddings, key));
      EID_ASSERT_OK(format::DecodeEmbedding(key, value, SmallLayout(), &header, &representatives));
      EXPECT_TRUE(seen.insert(header.id).second) << header.id;
    }
  }
  EXPECT_EQ(seen.size(), 9u);
}

TEST(BlockStore, ThePoolServesHitsAndStaysWithinItsBudget) {
  const Layout layout = SmallLayout();
  auto records = std::make_shared<FaultRecordStore>();
  constexpr uint64_t kBudget = 40000;
  auto store = OpenStore(records, kBudget);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(layout, "session/test"));
  AppendTo(writer.get(), 3200);
  EID_ASSERT_OK(writer->Commit());

  const std::vector<PayloadKey> few = {{writer->lineage(), 3, Part::kKeys, 0},
                                       {writer->lineage(), 7, Part::kValues, 64}};
  std::vector<PayloadPtr> first, second;
  EID_ASSERT_OK(store->ReadPayloads(few, &first));
  const uint64_t reads = records->reads();
  EID_ASSERT_OK(store->ReadPayloads(few, &second));
  EXPECT_EQ(records->reads(), reads);
  EXPECT_EQ(first[0].get(), second[0].get());
  EXPECT_EQ(store->pool_stats().hits, 2u);
  EXPECT_EQ(store->pool_stats().misses, 2u);

  std::vector<PayloadPtr> all;
  EID_ASSERT_OK(store->ReadPayloads(AllKeys(layout, writer->lineage(), 3200), &all));
  EXPECT_LE(store->pool_stats().bytes, kBudget);
  EXPECT_GT(store->pool_stats().bytes, kBudget / 2);
  // The oldest are gone from the pool, the newest are there.
  const uint64_t before = records->reads();
  EID_ASSERT_OK(store->ReadPayloads({{writer->lineage(), 7, Part::kValues, 3168}}, &all));
  EXPECT_EQ(records->reads(), before);
  EID_ASSERT_OK(store->ReadPayloads({{writer->lineage(), 3, Part::kKeys, 0}}, &all));
  EXPECT_EQ(records->reads(), before + 1);
}

TEST(BlockStore, ARemovedLineageIsGoneFromStoreAndPool) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto kept, store->NewLineage(SmallLayout(), "session/kept"));
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  EID_ASSERT_RESULT(auto last, store->NewLineage(SmallLayout(), "session/last"));
  for (LineageWriter* each : {kept.get(), writer.get(), last.get()}) {
    AppendTo(each, 96);
    EID_ASSERT_OK(each->Commit());
    std::vector<PayloadPtr> payloads;
    EID_ASSERT_OK(store->ReadPayloads(AllKeys(SmallLayout(), each->lineage(), 96), &payloads));
  }
  const uint64_t pooled = store->pool_stats().bytes;
  RecordBatch batch;
  EID_ASSERT_OK(store->RemoveLineage(writer->lineage(), &batch));
  EID_ASSERT_OK(records->Write(batch, true));
  store->ForgetPooled(writer->lineage());
  EXPECT_EQ(store->pool_stats().bytes, pooled / 3 * 2);
  std::vector<PayloadPtr> payloads;
  const Status gone = store->ReadPayloads({{writer->lineage(), 3, Part::kKeys, 0}}, &payloads);
  EXPECT_EQ(gone.code(), Code::kNotFound) << gone.message();
  EXPECT_EQ(Positions(*store, kept->lineage()).size(), 3u);
  EXPECT_EQ(Positions(*store, last->lineage()).size(), 3u);
  EXPECT_EQ(store->ScanBlocks(writer->lineage(), nullptr).code(), Code::kNotFound);
}

TEST(BlockStore, EveryFlippedBitOfAPayloadIsFoundAndTheErrorNamesTheBlock) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto store = OpenStore(records);
    EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
    AppendTo(writer.get(), 96);
    EID_ASSERT_OK(writer->Commit());
  }
  const PayloadKey damaged{1, 7, Part::kValues, 32};
  const std::string key = format::PayloadRecordKey(damaged);
  EID_ASSERT_RESULT(const std::string value, records->Get(Family::kBlocks, key));
  for (size_t bit = 0; bit < value.size() * 8; ++bit) {
    records->FlipBit(Family::kBlocks, key, bit);
    auto store = OpenStore(records);
    std::vector<PayloadPtr> payloads;
    const Status status =
        store->ReadPayloads({{1, 7, Part::kKeys, 32}, damaged, {1, 3, Part::kKeys, 0}}, &payloads);
    ASSERT_EQ(status.code(), Code::kCorruption) << bit;
    ASSERT_EQ(store->ReadPayloadUncached(damaged).status().code(), Code::kCorruption) << bit;
    if (bit == 0) {
      for (const char* part : {"block 2 ", "session/test", "position 32", "layer 7", "values"}) {
        EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
      }
    }
    records->FlipBit(Family::kBlocks, key, bit);
  }
  auto store = OpenStore(records);
  std::vector<PayloadPtr> payloads;
  EID_ASSERT_OK(store->ReadPayloads({damaged}, &payloads));
}

TEST(BlockStore, EveryFlippedBitOfABlocksHeaderOrRepresentativesIsFound) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto store = OpenStore(records);
    EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
    AppendTo(writer.get(), 96);
    EID_ASSERT_OK(writer->Commit());
  }
  auto store = OpenStore(records);
  const std::string key = format::EmbeddingKey(1, 32);
  EID_ASSERT_RESULT(const std::string value, records->Get(Family::kEmbeddings, key));
  for (size_t bit = 0; bit < value.size() * 8; ++bit) {
    records->FlipBit(Family::kEmbeddings, key, bit);
    int visited = 0;
    const Status status =
        store->ScanBlocks(1, [&](const BlockHeader&, const std::vector<uint16_t>&) -> Status {
          ++visited;
          return {};
        });
    ASSERT_EQ(status.code(), Code::kCorruption) << bit;
    ASSERT_EQ(visited, 1) << bit;
    if (bit == 0) {
      EXPECT_NE(status.message().find("position 32"), std::string::npos) << status.message();
      EXPECT_NE(status.message().find("session/test"), std::string::npos) << status.message();
    }
    records->FlipBit(Family::kEmbeddings, key, bit);
  }
}

TEST(BlockStore, AMissingRecordIsDamageAndNotAShorterAnswer) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  AppendTo(writer.get(), 96);
  EID_ASSERT_OK(writer->Commit());
  const PayloadKey lost{1, 3, Part::kKeys, 32};
  records->Erase(Family::kBlocks, format::PayloadRecordKey(lost));
  std::vector<PayloadPtr> payloads;
  EXPECT_EQ(store->ReadPayloads({lost}, &payloads).code(), Code::kCorruption);
  const auto nothing = [](const BlockHeader&, const std::vector<uint16_t>&) { return Status(); };
  for (uint64_t position : {64, 32}) {
    records->Erase(Family::kEmbeddings, format::EmbeddingKey(1, position));
    EXPECT_EQ(store->ScanBlocks(1, nothing).code(), Code::kCorruption) << position;
  }
}

// A record moved under another key carries a checksum over its own.
TEST(BlockStore, ARecordUnderAnotherBlocksKeyIsRefused) {
  auto records = std::make_shared<FaultRecordStore>();
  auto store = OpenStore(records);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(SmallLayout(), "session/test"));
  AppendTo(writer.get(), 64);
  EID_ASSERT_OK(writer->Commit());
  EID_ASSERT_RESULT(
      const std::string value,
      records->Get(Family::kBlocks, format::PayloadRecordKey({1, 3, Part::kKeys, 0})));
  records->Overwrite(Family::kBlocks, format::PayloadRecordKey({1, 3, Part::kKeys, 32}), value);
  std::vector<PayloadPtr> payloads;
  EXPECT_EQ(store->ReadPayloads({{1, 3, Part::kKeys, 32}}, &payloads).code(), Code::kCorruption);
}

TEST(BlockStore, ServesAStepsRescoringFromThePoolInUnderAMillisecond) {
  Layout layout = testing::HybridLayout();
  auto store = OpenStore(NewRamRecordStore(), 64u << 20);
  EID_ASSERT_RESULT(auto writer, store->NewLineage(layout, "session/test"));
  AppendTo(writer.get(), 128 * 32);
  EID_ASSERT_OK(writer->Commit());
  std::vector<PayloadKey> keys;  // 128 candidates in ten layers
  for (int layer : layout.layers) {
    for (uint64_t i = 0; i < 128; ++i) keys.push_back({1, layer, Part::kKeys, i * 32});
  }
  std::vector<PayloadPtr> payloads;
  EID_ASSERT_OK(store->ReadPayloads(keys, &payloads));
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    EID_ASSERT_OK(store->ReadPayloads(keys, &payloads));
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  RecordProperty("microseconds", static_cast<int>(best * 1e6));
  std::printf("1,280 hits: %.0f microseconds\n", best * 1e6);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_LT(best, 1e-3);
#endif
}

}  // namespace
}  // namespace eidetic::memory
