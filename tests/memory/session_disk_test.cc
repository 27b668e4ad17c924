// What sessions cost in disk and in writes, with turns as a hybrid of 135M parameters writes them:
// a state of 2.6 MB, 12.9 KB of keys and values a token, a window of 1,024 tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "memory/archive.h"
#include "memory/blob_garbage.h"
#include "memory/record_store.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::HybridLayout;
using testing::RandomBlock;
using testing::TemporaryFolder;

constexpr uint64_t kWindowTokens = 1024, kSinkTokens = 32;
constexpr size_t kRowBytes = 12870, kStateBytes = 2620000;
constexpr uint64_t kMegabyte = 1u << 20;

// Not the same bytes at every place.
std::string Bytes(uint64_t place, size_t count) {
  std::string bytes(count, '\0');
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((place + i) * 2654435761u >> 24);
  return bytes;
}

// Bytes that the process has given to write().
uint64_t WrittenBytes() {
  std::ifstream file("/proc/self/io");
  std::string key;
  uint64_t number = 0;
  while (file >> key >> number) {
    if (key == "wchar:") return number;
  }
  ADD_FAILURE() << "/proc/self/io has no wchar";
  return 0;
}

uint64_t FileBytes(const std::string& path, const std::string& kind) {
  uint64_t bytes = 0;
  std::error_code gone;
  for (std::filesystem::recursive_directory_iterator at(path, gone), end; at != end;
       at.increment(gone)) {
    if (at->path().extension() != kind) continue;
    const uint64_t size = at->file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

// Of an archive that nobody has open.
uint64_t LiveBytes(const std::string& path, Family family) {
  RocksOptions options;
  options.path = path;
  options.read_only = true;
  const auto records = OpenRocksRecordStore(options);
  EXPECT_TRUE(records.ok()) << testing::Explain(records.status());
  uint64_t bytes = 0;
  const Status status =
      (*records)->Scan(family, "", "", [&](std::string_view key, std::string_view value) {
        bytes += key.size() + value.size();
        return Status();
      });
  EXPECT_TRUE(status.ok()) << testing::Explain(status);
  return bytes;
}

Result<std::shared_ptr<Archive>> OpenForTurns(const std::string& path) {
  ArchiveOptions options;
  options.path = path;
  options.create = true;
  options.pool_bytes = 16u << 20;
  return Archive::Open(options);
}

class Conversation {
 public:
  Conversation(Archive* archive, std::string name) : archive_(archive), name_(std::move(name)) {
    block_ = RandomBlock(HybridLayout(), 0, 32, 1);
  }

  void Turn(uint64_t tokens) {
    if (lineage_ == nullptr) {
      EID_ASSERT_RESULT(lineage_,
                        archive_->store().NewLineage(HybridLayout(), "session/" + name_, 0));
    }
    tokens_ += tokens;
    TurnCommit commit;
    commit.sinks = std::min(tokens_, kSinkTokens);
    const uint64_t held = tokens_ - commit.sinks;
    commit.window_begin =
        commit.sinks + (held > kWindowTokens ? held - kWindowTokens : 0) / kRowTokens * kRowTokens;
    while (commit.window_begin > kSinkTokens && lineage_->position() < commit.window_begin) {
      block_.header.position = lineage_->position();
      EID_ASSERT_OK(lineage_->Append(block_));
    }
    commit.content.tokens.assign(tokens, 7);
    commit.content.views.push_back({});
    commit.content.passes.push_back({static_cast<uint32_t>(tokens), 1, false, 0});
    commit.content.parts.push_back({"user", false, static_cast<uint32_t>(tokens), "so"});
    commit.state = Bytes(tokens_, kStateBytes);
    commit.rows = [](uint64_t begin, uint64_t end) -> Result<std::string> {
      return Bytes(begin, (end - begin) * kRowBytes);
    };
    EID_ASSERT_OK(
        archive_->sessions().CommitTurn(name_, lineage_.get(), std::move(commit)).status());
  }

  const std::string& name() const { return name_; }

 private:
  Archive* archive_;
  std::string name_;
  Block block_;
  uint64_t tokens_ = 0;
  std::unique_ptr<LineageWriter> lineage_;
};

TEST(BlobGarbage, FilesAreWrittenAnewFromTheOldestUpToWhereItStopsPaying) {
  const uint64_t file = 100 * kMegabyte;
  EXPECT_EQ(BlobFilesToRewrite({}), 0u);
  // Together at most 32 MiB and half of what is live.
  EXPECT_EQ(BlobFilesToRewrite({{file, 50 * kMegabyte}}), 0u);
  EXPECT_EQ(BlobFilesToRewrite({{file, 55 * kMegabyte}}), 1u);
  EXPECT_EQ(BlobFilesToRewrite({{file, 90 * kMegabyte}, {file, 0}, {file, 0}}), 0u);
  // A file that is live costs more than it gives back.
  EXPECT_EQ(BlobFilesToRewrite({{file, 90 * kMegabyte}, {file, 90 * kMegabyte}, {file, 0}}), 2u);
  // One in the way is taken along.
  EXPECT_EQ(BlobFilesToRewrite({{file, 0}, {file, 90 * kMegabyte}, {file, 90 * kMegabyte}}), 3u);
  EXPECT_EQ(
      BlobFilesToRewrite({{file, 90 * kMegabyte}, {file, 30 * kMegabyte}, {file, 90 * kMegabyte}}),
      3u);
}

// What other sessions hold is not written again, and goes when they go.
TEST(SessionDisk, ATurnBesideOtherSessionsWritesItsOwnBytesAndRemovalGivesSpaceBack) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  EID_ASSERT_RESULT(auto archive, OpenForTurns(path));
  std::vector<Conversation> talks;
  for (int i = 0; i < 4; ++i) talks.emplace_back(archive.get(), "talk" + std::to_string(i));
  for (int turn = 0; turn < 12; ++turn) {
    for (Conversation& talk : talks) ASSERT_NO_FATAL_FAILURE(talk.Turn(310));
  }
  constexpr uint64_t kTurns = 20;
  const uint64_t before = WrittenBytes();
  for (uint64_t turn = 0; turn < kTurns; ++turn) ASSERT_NO_FATAL_FAILURE(talks[0].Turn(310));
  const uint64_t written = (WrittenBytes() - before) / kTurns;
  // Log and files each once: 6.6 MB of state, keys and values, 1.3 MB of blocks, which are merged.
  EXPECT_LT(written, 25 * kMegabyte);

  for (int i = 1; i < 4; ++i) EID_ASSERT_OK(archive->sessions().Remove(talks[i].name()));
  const uint64_t values = FileBytes(path, ".blob");
  const uint64_t tables = FileBytes(path, ".sst");
  talks.clear();
  archive.reset();
  const uint64_t live = LiveBytes(path, Family::kSessions);
  const uint64_t others = LiveBytes(path, Family::kBlocks) + LiveBytes(path, Family::kEmbeddings);
  std::printf(
      "%.1f MB written a turn; %.1f MB of values in %.1f MB, %.1f MB of blocks in %.1f MB\n",
      1e-6 * static_cast<double>(written), 1e-6 * static_cast<double>(live),
      1e-6 * static_cast<double>(values), 1e-6 * static_cast<double>(others),
      1e-6 * static_cast<double>(tables));
  EXPECT_LT(values, live * 3 / 2 + kBlobGarbageLeft);
  EXPECT_LT(tables, others * 3 / 2);
}

// States of short turns go long before the keys and values that were written with them.
TEST(SessionDisk, ManyShortTurnsLeaveAtMostHalfOfWhatIsLiveAndALittle) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  EID_ASSERT_RESULT(auto archive, OpenForTurns(path));
  constexpr uint64_t kTokens = 20;
  {
    Conversation talk(archive.get(), "talk");
    for (int turn = 0; turn < 80; ++turn) ASSERT_NO_FATAL_FAILURE(talk.Turn(kTokens));
  }
  // A rewriting may be going on; what the last turns left is seen with the next merges.
  const uint64_t unmerged = 6 * (kStateBytes + kTokens * kRowBytes);
  const uint64_t known = 8 * kStateBytes + (kWindowTokens + 8 * kTokens) * kRowBytes;
  const uint64_t bound = known * 3 / 2 + kBlobGarbageLeft + unmerged;
  for (int i = 0; i < 1000 && FileBytes(path, ".blob") > bound; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const uint64_t values = FileBytes(path, ".blob");
  archive.reset();
  const uint64_t live = LiveBytes(path, Family::kSessions);
  std::printf("%.1f MB of values in %.1f MB\n", 1e-6 * static_cast<double>(live),
              1e-6 * static_cast<double>(values));
  EXPECT_LT(values, live * 3 / 2 + kBlobGarbageLeft + unmerged);
}

}  // namespace
}  // namespace eidetic::memory
