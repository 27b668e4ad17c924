#include "sdk/background_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory/hash.h"
#include "sdk/error_wall.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using memory::Status;
using memory::testing::FaultRecordStore;

constexpr int kRunTokens = 64;
constexpr int kTokens = 5 * kRunTokens + 10;

// A store whose durable writes wait until the test lets them go on.
class GatedRecordStore : public FaultRecordStore {
 public:
  Status Write(const memory::RecordBatch& batch, bool durable) override {
    if (durable && gated_) {
      arrived_.set_value();
      open_.get_future().wait();
      gated_ = false;
    }
    return FaultRecordStore::Write(batch, durable);
  }
  // From the next durable write on; call when no write is under way.
  void Close() { gated_ = true; }
  void AwaitArrival() { arrived_.get_future().wait(); }
  void Open() { open_.set_value(); }

 private:
  std::promise<void> arrived_, open_;
  bool gated_ = false;
};

// The memory of a run. What is read from it after it was given up is not finite, and refused.
struct RunMemory {
  std::vector<float> rows;
  std::vector<int32_t> ids;
  std::vector<int> layers;
  std::vector<const float*> keys, values;
  ~RunMemory() { std::fill(rows.begin(), rows.end(), std::numeric_limits<float>::quiet_NaN()); }
};

// The run at `position`, whose numbers depend on the position alone.
model::EvictedRun RunAt(uint64_t position, int tokens) {
  const memory::Layout layout = memory::testing::SmallLayout();
  auto memory = std::make_shared<RunMemory>();
  std::mt19937 random(static_cast<unsigned>(position) + 1);
  std::normal_distribution<float> normal;
  const size_t plane = static_cast<size_t>(tokens) * static_cast<size_t>(layout.RowWidth());
  memory->layers = layout.layers;
  memory->rows.resize(2 * layout.layers.size() * plane);
  for (float& number : memory->rows) number = normal(random);
  for (int i = 0; i < tokens; ++i) memory->ids.push_back(static_cast<int32_t>(random() % 1000));
  for (size_t i = 0; i < layout.layers.size(); ++i) {
    memory->keys.push_back(memory->rows.data() + 2 * i * plane);
    memory->values.push_back(memory->rows.data() + (2 * i + 1) * plane);
  }
  model::EvictedRun run;
  run.position = position;
  run.tokens = tokens;
  run.token_ids = memory->ids.data();
  run.layers = static_cast<int>(memory->layers.size());
  run.layer_ids = memory->layers.data();
  run.keys = memory->keys.data();
  run.values = memory->values.data();
  run.bytes = memory->rows.size() * sizeof(float);
  run.storage = std::move(memory);
  return run;
}

uint64_t ByteOf(uint64_t position) {
  return position;
}

// A document of kTokens tokens of one byte each that is being read into `records`.
struct Reading {
  std::shared_ptr<memory::Archive> archive;
  std::unique_ptr<memory::DocumentWriter> document;

  explicit Reading(std::shared_ptr<memory::RecordStore> records) {
    memory::ArchiveOptions options;
    options.create = true;
    archive = memory::Archive::OpenOver(std::move(records), options).value();
    memory::CollectionRecord collection;
    collection.name = "books";
    collection.layout = memory::testing::SmallLayout();
    collection.window = 128;
    collection.sinks = 32;
    collection.segment = kRunTokens;
    EXPECT_TRUE(archive->EnsureCollection(collection).ok());
    const std::string text(kTokens, 'x');
    document =
        archive->BeginDocument("books", "a.txt", memory::Sha256Hex(text), text, kTokens).value();
  }
  memory::Layout layout() const { return memory::testing::SmallLayout(); }
  std::string Digest() const {
    const memory::VerifyReport report = archive->Verify({}).value();
    EXPECT_TRUE(report.clean());
    return report.collections.at(0).digest;
  }
};

TEST(BackgroundWriter, StoresTheSameDocumentAsWritingWhileReading) {
  Reading in_line(std::make_shared<FaultRecordStore>());
  BlockWriter blocks(in_line.layout(), ByteOf, [&](memory::Block block) {
    return in_line.document->Append(std::move(block));
  });
  Reading behind(std::make_shared<FaultRecordStore>());
  {
    BackgroundWriter writer(behind.layout(), ByteOf, behind.document.get(), 0);
    for (int at = 0; at < kTokens; at += kRunTokens) {
      const int count = std::min(kRunTokens, kTokens - at);
      blocks.Accept(RunAt(at, count));
      writer.Accept(RunAt(at, count));
      EID_ASSERT_OK(writer.Commit(at + count, "state"));
    }
    EID_ASSERT_OK(writer.Finish());
    EXPECT_EQ(writer.stored().committed, static_cast<uint64_t>(kTokens));
    EXPECT_EQ(writer.stored().blocks, 11u);
  }
  EID_ASSERT_OK(in_line.document->Finish());
  EXPECT_EQ(behind.Digest(), in_line.Digest());
}

TEST(BackgroundWriter, ACommitHoldsExactlyWhatWasAcceptedBeforeIt) {
  const auto records = std::make_shared<FaultRecordStore>();
  {
    Reading reading(records);
    BackgroundWriter writer(reading.layout(), ByteOf, reading.document.get(), 0);
    writer.Accept(RunAt(0, kRunTokens));
    writer.Accept(RunAt(kRunTokens, kRunTokens));
    EID_ASSERT_OK(writer.Commit(200, "at 200"));
    writer.Accept(RunAt(2 * kRunTokens, kRunTokens));
    EID_ASSERT_OK(writer.Drain());
  }
  Reading after(records->AfterPowerLoss());
  EXPECT_EQ(after.document->document().committed_tokens, 2u * kRunTokens);
  EXPECT_EQ(after.document->ResumeState().value(), "at 200");
}

TEST(BackgroundWriter, TellsOfACommitWhenItIsDurableAndLetsTheReaderGoOnMeanwhile) {
  const auto records = std::make_shared<GatedRecordStore>();
  Reading reading(records);
  records->Close();
  BackgroundWriter writer(reading.layout(), ByteOf, reading.document.get(), 0);
  writer.Accept(RunAt(0, kRunTokens));
  EID_ASSERT_OK(writer.Commit(100, "at 100"));
  records->AwaitArrival();
  EXPECT_EQ(writer.stored().committed, 0u);
  EXPECT_EQ(writer.stored().blocks, 0u);
  EXPECT_GT(writer.stored().bytes, 0u);
  writer.Accept(RunAt(kRunTokens, kRunTokens));
  EXPECT_EQ(writer.stored().committed, 0u);
  records->Open();
  EID_ASSERT_OK(writer.Drain());
  EXPECT_EQ(writer.stored().committed, 100u);
  EXPECT_EQ(writer.stored().blocks, 2u);
}

TEST(BackgroundWriter, PassesAnErrorOfTheStoreToTheReaderAndKeepsWhatWasCommitted) {
  const auto records = std::make_shared<FaultRecordStore>();
  {
    Reading reading(records);
    BackgroundWriter writer(reading.layout(), ByteOf, reading.document.get(), 0);
    writer.Accept(RunAt(0, kRunTokens));
    EID_ASSERT_OK(writer.Commit(100, "at 100"));
    EID_ASSERT_OK(writer.Drain());
    records->FailWrite(1, Status(Code::kNoSpace, "disk is full"), true);
    writer.Accept(RunAt(kRunTokens, kRunTokens));
    EID_ASSERT_OK(writer.Commit(160, "at 160"));
    EXPECT_EQ(writer.Drain().code(), Code::kNoSpace);
    try {
      writer.Accept(RunAt(2 * kRunTokens, kRunTokens));
      FAIL() << "a run was accepted after an error";
    } catch (const StatusError& error) {
      EXPECT_EQ(error.status().code(), Code::kNoSpace);
    }
    EXPECT_EQ(writer.Commit(200, "at 200").code(), Code::kNoSpace);
    EXPECT_EQ(writer.Finish().code(), Code::kNoSpace);
    EXPECT_EQ(writer.stored().committed, 100u);
  }
  Reading after(records->AfterPowerLoss());
  EXPECT_EQ(after.document->document().committed_tokens, static_cast<uint64_t>(kRunTokens));
  EXPECT_EQ(after.document->ResumeState().value(), "at 100");
}

TEST(BackgroundWriter, PassesOnThatARunCannotBeCoded) {
  Reading reading(std::make_shared<FaultRecordStore>());
  BackgroundWriter writer(reading.layout(), ByteOf, reading.document.get(), 0);
  model::EvictedRun run = RunAt(0, kRunTokens);
  run.layers = 1;
  writer.Accept(run);
  const Status status = writer.Drain();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_NE(status.message().find("layer 7"), std::string::npos) << status.message();
}

TEST(BackgroundWriter, DestroyedWithRunsWaitingLeavesTheDocumentAsCommitted) {
  const auto records = std::make_shared<GatedRecordStore>();
  {
    Reading reading(records);
    records->Close();
    std::promise<void> going;
    auto writer =
        std::make_unique<BackgroundWriter>(reading.layout(), ByteOf, reading.document.get(), 0);
    writer->Accept(RunAt(0, kRunTokens));
    EID_ASSERT_OK(writer->Commit(100, "at 100"));
    records->AwaitArrival();
    writer->Accept(RunAt(kRunTokens, kRunTokens));
    EID_ASSERT_OK(writer->Commit(160, "at 160"));
    auto destroyed = std::async(std::launch::async, [&] {
      going.set_value();
      writer.reset();
    });
    going.get_future().wait();
    // Time for the destructor to drop what waits, before the write goes on.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    records->Open();
    destroyed.get();
  }
  Reading after(records->AfterPowerLoss());
  EXPECT_EQ(after.document->document().committed_tokens, static_cast<uint64_t>(kRunTokens));
  EXPECT_EQ(after.document->ResumeState().value(), "at 100");
}

}  // namespace
}  // namespace eidetic::sdk
