// One contract for every record store.
#include "memory/record_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::TemporaryFolder;

enum class Kind { kRam, kRocks };

class RecordStoreContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kRam) {
      store_ = NewRamRecordStore();
    } else {
      RocksOptions options;
      options.path = folder_ / "archive";
      options.create = true;
      EID_ASSERT_RESULT(store_, OpenRocksRecordStore(options));
    }
  }

  std::vector<std::pair<std::string, std::string>> All(Family family, std::string_view begin = "",
                                                       std::string_view end = "") {
    std::vector<std::pair<std::string, std::string>> records;
    const Status status =
        store_->Scan(family, begin, end, [&](std::string_view key, std::string_view value) {
          records.emplace_back(key, value);
          return Status();
        });
    EXPECT_TRUE(status.ok()) << testing::Explain(status);
    return records;
  }

  TemporaryFolder folder_;
  std::unique_ptr<RecordStore> store_;
};

TEST_P(RecordStoreContract, GivesBackWhatWasPutWithAnyBytes) {
  std::string every_byte;
  for (int i = 0; i < 256; ++i) every_byte.push_back(static_cast<char>(i));
  RecordBatch batch;
  batch.Put(Family::kBlocks, every_byte, std::string(100000, '\0') + every_byte);
  batch.Put(Family::kMeta, "empty", "");
  EID_ASSERT_OK(store_->Write(batch, true));
  EID_ASSERT_RESULT(const std::string value, store_->Get(Family::kBlocks, every_byte));
  EXPECT_EQ(value, std::string(100000, '\0') + every_byte);
  EID_ASSERT_RESULT(const std::string empty, store_->Get(Family::kMeta, "empty"));
  EXPECT_EQ(empty, "");
}

TEST_P(RecordStoreContract, FamiliesAreApart) {
  RecordBatch batch;
  batch.Put(Family::kText, "key", "text");
  EID_ASSERT_OK(store_->Write(batch, false));
  for (Family family : {Family::kMeta, Family::kBlocks, Family::kEmbeddings, Family::kSessions}) {
    EXPECT_EQ(store_->Get(family, "key").status().code(), Code::kNotFound) << FamilyName(family);
  }
}

TEST_P(RecordStoreContract, ABatchIsAppliedInOrder) {
  RecordBatch batch;
  batch.Put(Family::kMeta, "a", "1");
  batch.Put(Family::kMeta, "b", "1");
  batch.Put(Family::kMeta, "c", "1");
  batch.DeleteRange(Family::kMeta, "a", "c");
  batch.Put(Family::kMeta, "b", "2");
  batch.Delete(Family::kMeta, "c");
  batch.Delete(Family::kMeta, "not there");
  EID_ASSERT_OK(store_->Write(batch, true));
  const auto records = All(Family::kMeta);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0], std::make_pair(std::string("b"), std::string("2")));
}

TEST_P(RecordStoreContract, AnEmptyOrReversedRangeDeletesNothing) {
  RecordBatch batch;
  batch.Put(Family::kMeta, "b", "1");
  batch.DeleteRange(Family::kMeta, "b", "b");
  batch.DeleteRange(Family::kMeta, "c", "a");
  EID_ASSERT_OK(store_->Write(batch, true));
  EXPECT_EQ(All(Family::kMeta).size(), 1u);
  EXPECT_TRUE(All(Family::kMeta, "z", "a").empty());
}

TEST_P(RecordStoreContract, ScansInByteOrderWithinBounds) {
  RecordBatch batch;
  for (const char* key : {"b", "a", "\xff", "ab", "c", "a\x7f"}) {
    batch.Put(Family::kEmbeddings, key, key);
  }
  EID_ASSERT_OK(store_->Write(batch, false));
  const auto records = All(Family::kEmbeddings);
  std::vector<std::string> keys;
  for (const auto& [key, value] : records) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"a", "ab", "a\x7f", "b", "c", "\xff"}));
  EXPECT_EQ(All(Family::kEmbeddings, "ab", "c").size(), 3u);
  EXPECT_EQ(All(Family::kEmbeddings, "c").size(), 2u);
}

TEST_P(RecordStoreContract, AScanEndsWithTheVisitorsStatus) {
  RecordBatch batch;
  for (int i = 0; i < 10; ++i) batch.Put(Family::kMeta, std::string(1, 'a' + i), "");
  EID_ASSERT_OK(store_->Write(batch, false));
  int visited = 0;
  const Status status =
      store_->Scan(Family::kMeta, "", "", [&](std::string_view, std::string_view) {
        return ++visited == 3 ? Status(Code::kCancelled, "stop") : Status();
      });
  EXPECT_EQ(status.code(), Code::kCancelled);
  EXPECT_EQ(visited, 3);
}

TEST_P(RecordStoreContract, AScanSeesOneSnapshotAndItsVisitorMayWrite) {
  RecordBatch batch;
  for (char name = 'a'; name <= 'e'; ++name) batch.Put(Family::kMeta, std::string(1, name), "old");
  EID_ASSERT_OK(store_->Write(batch, false));
  int visited = 0;
  const Status status =
      store_->Scan(Family::kMeta, "", "", [&](std::string_view, std::string_view value) {
        EXPECT_EQ(value, "old");
        ++visited;
        RecordBatch change;
        change.Put(Family::kMeta, "e", "new");
        change.Put(Family::kMeta, "f", "new");
        return store_->Write(change, false);
      });
  EID_ASSERT_OK(status);
  EXPECT_EQ(visited, 5);
}

TEST_P(RecordStoreContract, MultiGetAnswersInTheOrderAsked) {
  RecordBatch batch;
  for (int i = 0; i < 100; ++i)
    batch.Put(Family::kBlocks, std::to_string(i), std::to_string(i * i));
  EID_ASSERT_OK(store_->Write(batch, false));
  const std::vector<std::string> keys = {"99", "missing", "3", "3", "0"};
  const auto values = store_->MultiGet(Family::kBlocks, keys);
  ASSERT_EQ(values.size(), keys.size());
  EXPECT_EQ(*values[0], "9801");
  EXPECT_EQ(values[1].status().code(), Code::kNotFound);
  EXPECT_EQ(*values[2], "9");
  EXPECT_EQ(*values[3], "9");
  EXPECT_EQ(*values[4], "0");
  EXPECT_TRUE(store_->MultiGet(Family::kBlocks, {}).empty());
}

TEST_P(RecordStoreContract, ReadersNeverSeeHalfABatch) {
  std::atomic<bool> stop = false;
  std::atomic<int> torn = 0;
  std::thread reader([&] {
    while (!stop) {
      std::string first, second;
      const Status status =
          store_->Scan(Family::kMeta, "", "", [&](std::string_view key, std::string_view value) {
            (key == "a" ? first : second) = value;
            return Status();
          });
      if (!status.ok() || first != second) ++torn;
    }
  });
  for (int i = 0; i < 500; ++i) {
    RecordBatch batch;
    batch.Put(Family::kMeta, "a", std::to_string(i));
    batch.Put(Family::kMeta, "b", std::to_string(i));
    EID_ASSERT_OK(store_->Write(batch, false));
  }
  stop = true;
  reader.join();
  EXPECT_EQ(torn, 0);
}

TEST_P(RecordStoreContract, CompactAndReclaimKeepWhatIsThere) {
  RecordBatch batch;
  for (int i = 0; i < 1000; ++i) {
    batch.Put(Family::kBlocks, std::to_string(1000 + i), std::string(1000, 'x'));
  }
  EID_ASSERT_OK(store_->Write(batch, true));
  RecordBatch removal;
  removal.DeleteRange(Family::kBlocks, "1000", "1900");
  EID_ASSERT_OK(store_->Write(removal, true));
  EID_ASSERT_OK(store_->Reclaim(Family::kBlocks, "1000", "1900"));
  EXPECT_EQ(All(Family::kBlocks).size(), 100u);
  EID_ASSERT_OK(store_->Compact());
  EXPECT_EQ(All(Family::kBlocks).size(), 100u);
  EID_ASSERT_RESULT(const uint64_t bytes, store_->SizeOnDisk());
  EXPECT_GE(bytes, 100u * 1000);
}

INSTANTIATE_TEST_SUITE_P(Kinds, RecordStoreContract, ::testing::Values(Kind::kRam, Kind::kRocks),
                         [](const auto& info) {
                           return info.param == Kind::kRam ? "Ram" : "Rocks";
                         });

TEST(RecordBatch, TruncateTakesBackPutsAndTheirBytes) {
  RecordBatch batch;
  batch.Put(Family::kMeta, "a", "12");
  const size_t bytes = batch.bytes();
  RecordBatch more;
  more.Put(Family::kMeta, "b", "123456");
  more.Delete(Family::kMeta, "c");
  batch.Append(std::move(more));
  EXPECT_EQ(batch.changes().size(), 3u);
  EXPECT_EQ(batch.bytes(), bytes + 7);
  batch.Truncate(1);
  EXPECT_EQ(batch.changes().size(), 1u);
  EXPECT_EQ(batch.bytes(), bytes);
}

}  // namespace
}  // namespace eidetic::memory
