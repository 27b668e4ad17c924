// Decay of the database's log: every flipped byte is found or costs nothing that was acknowledged,
// what a crash leaves at the end is no damage, and what is left can be read and gone on with.
#include "memory/write_log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

#include "memory/archive.h"
#include "memory/hash.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;
using testing::RandomBlock;
using testing::SmallLayout;
using testing::TemporaryFolder;

constexpr uint64_t kTokens = 1600;
constexpr uint64_t kCommitTokens = 320;

enum class Open { kWrite, kRead, kRepair };

// With small write buffers, so that a short text fills several logs.
Result<std::shared_ptr<Archive>> OpenAt(const std::string& path, Open how = Open::kWrite,
                                        size_t write_buffer_bytes = 16u << 20) {
  RocksOptions rocks;
  rocks.path = path;
  rocks.write_buffer_bytes = write_buffer_bytes;
  rocks.create = how == Open::kWrite;
  rocks.read_only = how == Open::kRead;
  rocks.repair = how == Open::kRepair;
  EID_ASSIGN_OR_RETURN(std::shared_ptr<RecordStore> records, OpenRocksRecordStore(rocks));
  ArchiveOptions options;
  options.path = path;
  options.create = rocks.create;
  options.read_only = rocks.read_only;
  options.pool_bytes = 1u << 20;
  return Archive::OpenOver(std::move(records), options);
}

Status Ingest(Archive* archive, const std::string& source) {
  CollectionRecord books;
  books.name = "books";
  books.layout = SmallLayout();
  EID_RETURN_IF_ERROR(archive->EnsureCollection(books).status());
  const std::string text(kTokens, 't');
  EID_ASSIGN_OR_RETURN(auto writer,
                       archive->BeginDocument("books", source, Sha256Hex(text), text, kTokens));
  for (uint64_t position = writer->document().committed_tokens; position < kTokens;) {
    const int count = testing::BlockTokens(SmallLayout(), position, kTokens);
    EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), position, count, 1)));
    position += static_cast<uint64_t>(count);
    // Larger than a block of the log.
    if (position % kCommitTokens == 0) {
      EID_RETURN_IF_ERROR(writer->Commit(std::string(40'000, 's')));
    }
  }
  return writer->Finish();
}

std::vector<std::string> Logs(const std::string& path) {
  std::vector<std::string> logs;
  for (const auto& entry : fs::directory_iterator(path + "/db")) {
    if (entry.path().extension() == ".log") logs.push_back(entry.path().string());
  }
  std::sort(logs.begin(), logs.end());
  return logs;
}

void Flip(const std::string& file, size_t offset, int bit) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(stream.get());
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(static_cast<char>(byte ^ (1 << bit)));
}

// What verification says of the contents, and of the session.
std::string Contents(const Archive& archive) {
  const auto report = archive.Verify(nullptr);
  if (!report.ok()) return testing::Explain(report.status());
  std::string text = report->clean() ? "clean" : "damaged: " + report->damage.front().what;
  for (const CollectionDigest& digest : report->collections) text += " " + digest.digest;
  const auto session = archive.SessionRecord("friend");
  return text + (session.ok() ? " " + Sha256Hex(*session) : "");
}

// A copy with one bit of one log flipped. Reading finds it or has everything; writing is refused or
// has everything. Returns whether it was found.
bool FoundOrHarmless(const std::string& path, const std::string& copy, const std::string& log,
                     size_t offset, int bit, const std::string& whole) {
  fs::remove_all(copy);
  fs::copy(path, copy, fs::copy_options::recursive);
  Flip(copy + log.substr(path.size()), offset, bit);
  const std::string where = log + ", byte " + std::to_string(offset) + ", bit " +
                            std::to_string(bit) + " of " + std::to_string(fs::file_size(log));
  std::string read;
  {
    const auto archive = OpenAt(copy, Open::kRead);
    // Nothing at all is left of an archive whose first record is lost.
    read = archive.ok() ? Contents(**archive) : "damaged: " + archive.status().message();
    EXPECT_TRUE(read == whole || read.starts_with("damaged: the log ")) << where << ": " << read;
  }
  const auto archive = OpenAt(copy);
  if (read == whole) {
    EXPECT_TRUE(archive.ok()) << where << ": " << testing::Explain(archive.status());
    if (archive.ok()) {
      EXPECT_EQ(Contents(**archive), whole) << where;
    }
    return false;
  }
  EXPECT_EQ(archive.status().code(), Code::kCorruption) << where;
  EXPECT_NE(archive.status().message().find(fs::path(log).filename().string()), std::string::npos)
      << where << ": " << archive.status().message();
  EXPECT_NE(archive.status().remedy().find("memory repair"), std::string::npos);
  return true;
}

class WriteLog : public ::testing::Test {
 protected:
  // In processes of their own, forked while this one has no threads of RocksDB yet.
  static void SetUpTestSuite() {
    archives_ = std::make_unique<TemporaryFolder>();
    WriteAndDie(*archives_ / "one log", 16u << 20);
    WriteAndDie(*archives_ / "several logs", 96u << 10);
  }
  static void TearDownTestSuite() { archives_.reset(); }

  // An archive of the test's own, whose writer was killed behind the last acknowledgement: all that
  // was written, or the last of it, stands in its log.
  std::string Killed(const std::string& name) const {
    const std::string path = folder_ / "archive";
    fs::copy(*archives_ / name, path, fs::copy_options::recursive);
    return path;
  }

  TemporaryFolder folder_;

 private:
  static void WriteAndDie(const std::string& path, size_t write_buffer_bytes) {
    const pid_t child = fork();
    if (child == 0) {
      const auto archive = OpenAt(path, Open::kWrite, write_buffer_bytes);
      const bool done = archive.ok() && Ingest(archive->get(), "moby.txt").ok() &&
                        (*archive)->CommitSession("friend", nullptr, std::string(5000, 'f')).ok() &&
                        Ingest(archive->get(), "emma.txt").ok();
      _exit(done ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }

  static inline std::unique_ptr<TemporaryFolder> archives_;
};

TEST_F(WriteLog, ItsChecksumIsCrc32c) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  const std::string text = "the checksum of a whole is that of its parts, one after the other";
  for (size_t at = 0; at <= text.size(); ++at) {
    EXPECT_EQ(Crc32c(text.substr(at), Crc32c(text.substr(0, at))), Crc32c(text));
  }
}

TEST_F(WriteLog, AnyFlippedByteIsFoundOrCostsNothing) {
  const std::string path = Killed("one log");
  const std::vector<std::string> logs = Logs(path);
  ASSERT_EQ(logs.size(), 1u);
  const size_t size = fs::file_size(logs[0]);
  ASSERT_GT(size, 300'000u);
  std::string whole;
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path, Open::kRead));
    whole = Contents(*archive);
    ASSERT_TRUE(whole.starts_with("clean")) << whole;
  }
  std::mt19937_64 random(7);
  int found = 0, flips = 0;
  const auto flip = [&](size_t offset, int bit) {
    found += FoundOrHarmless(path, folder_ / "copy", logs[0], offset, bit, whole);
    ++flips;
  };
  // The header of a record at the beginning of a block: checksum, length and type, in which bits
  // make RocksDB take the rest for padding, for a recycled log, or for a record that is torn.
  for (size_t byte = 0; byte < 7; ++byte) flip(32768 + byte, static_cast<int>(random() % 8));
  for (int bit = 0; bit < 8; ++bit) flip(6, bit);
  for (int i = 0; i < 40; ++i) flip(random() % size, static_cast<int>(random() % 8));
  // Near the end, where damage looks the most like a torn tail.
  for (size_t back = 1; back < 400; back += 13) flip(size - back, static_cast<int>(random() % 8));
  EXPECT_GT(found, flips - 10) << "of " << flips;
}

TEST_F(WriteLog, AFlippedByteOfAnOlderLogIsFoundAndTheRestCanBeRead) {
  const std::string path = Killed("several logs");
  const std::vector<std::string> logs = Logs(path);
  ASSERT_GE(logs.size(), 2u);
  std::string whole;
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path, Open::kRead));
    whole = Contents(*archive);
    ASSERT_TRUE(whole.starts_with("clean")) << whole;
  }
  std::mt19937_64 random(8);
  int found = 0;
  for (int i = 0; i < 30; ++i) {
    const std::string& log = logs[static_cast<size_t>(i) % (logs.size() - 1)];
    const size_t size = fs::file_size(log);
    if (size == 0) continue;
    found += FoundOrHarmless(path, folder_ / "copy", log, random() % size,
                             static_cast<int>(random() % 8), whole);
  }
  EXPECT_GT(found, 10);
}

TEST_F(WriteLog, AMissingLogBetweenOthersIsFound) {
  const std::string path = Killed("several logs");
  const std::vector<std::string> logs = Logs(path);
  ASSERT_GE(logs.size(), 3u);
  fs::remove(logs[logs.size() - 2]);
  EXPECT_EQ(OpenAt(path).status().code(), Code::kCorruption);
  EID_ASSERT_RESULT(auto archive, OpenAt(path, Open::kRead));
  EXPECT_TRUE(Contents(*archive).starts_with("damaged: the log ")) << Contents(*archive);
}

TEST_F(WriteLog, WhatACrashLeavesAtTheEndIsNoDamage) {
  const std::string path = Killed("one log");
  const std::string log = Logs(path).at(0);
  const size_t size = fs::file_size(log);
  std::mt19937_64 random(9);
  const std::string copy = folder_ / "copy";
  const std::string copied = copy + log.substr(path.size());
  for (int i = 0; i < 30; ++i) {
    fs::remove_all(copy);
    fs::copy(path, copy, fs::copy_options::recursive);
    const size_t length = 1000 + random() % (size - 1000);
    fs::resize_file(copied, length);
    // A file system may have room beyond what was written, and give zeros for it.
    if (i % 3 == 1) fs::resize_file(copied, length + 5000);
    if (i % 3 == 2) {
      std::ofstream out(copied, std::ios::binary | std::ios::app);
      for (int n = 0; n < 5000; ++n) out.put(static_cast<char>(random()));
    }
    EID_ASSERT_RESULT(auto archive, OpenAt(copy));
    EXPECT_TRUE(Contents(*archive).starts_with("clean")) << "cut to " << length;
    EID_ASSERT_OK(Ingest(archive.get(), "moby.txt"));
  }
}

TEST_F(WriteLog, ARepairedArchiveIsAnEarlierOneAndGoesOnFromThere) {
  const std::string path = Killed("one log");
  std::string digest;
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path, Open::kRead));
    EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
    digest = report.collections.at(0).digest;
  }
  const std::string log = Logs(path).at(0);
  Flip(log, fs::file_size(log) / 4, 3);
  EXPECT_EQ(OpenAt(path).status().code(), Code::kCorruption);
  uint64_t left = 0;
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path, Open::kRead));
    EXPECT_NE(archive->LogDamage().find(fs::path(log).filename().string()), std::string::npos);
    EID_ASSERT_RESULT(const auto documents, archive->Documents("books"));
    ASSERT_EQ(documents.size(), 1u);
    left = documents[0].committed_tokens;
    EXPECT_GE(left, kCommitTokens);
    EXPECT_LT(left, kTokens);
  }
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path, Open::kRepair));
    EXPECT_EQ(archive->LogDamage(), "");
  }
  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  EXPECT_TRUE(Contents(*archive).starts_with("clean")) << Contents(*archive);
  EID_ASSERT_RESULT(const auto documents, archive->Documents("books"));
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].committed_tokens, left);
  EID_ASSERT_OK(Ingest(archive.get(), "moby.txt"));
  EID_ASSERT_OK(Ingest(archive.get(), "emma.txt"));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_TRUE(report.clean());
  EXPECT_EQ(report.collections.at(0).digest, digest);
}

TEST_F(WriteLog, ADamagedLogThatIsNotNeededAnyMoreIsNoObstacle) {
  const std::string path = Killed("one log");
  const std::string log = Logs(path).at(0);
  fs::copy_file(log, folder_ / "old.log");
  { EID_ASSERT_RESULT(auto archive, OpenAt(path)); }
  ASSERT_FALSE(fs::exists(log));
  fs::copy_file(folder_ / "old.log", log);
  Flip(log, fs::file_size(log) / 2, 1);
  for (const Open how : {Open::kRead, Open::kWrite}) {
    EID_ASSERT_RESULT(auto archive, OpenAt(path, how));
    EXPECT_TRUE(Contents(*archive).starts_with("clean")) << Contents(*archive);
  }
}

}  // namespace
}  // namespace eidetic::memory
