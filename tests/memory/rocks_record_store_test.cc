// What only an archive on disk has: a folder, a lock, tables that decay, a disk that fills up.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "memory/archive.h"
#include "memory/format.h"
#include "memory/hash.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;
using testing::RandomBlock;
using testing::SmallLayout;
using testing::TemporaryFolder;

Result<std::shared_ptr<Archive>> OpenAt(const std::string& path, bool create = true,
                                        bool read_only = false) {
  ArchiveOptions options;
  options.path = path;
  options.create = create;
  options.read_only = read_only;
  options.pool_bytes = 8u << 20;
  return Archive::Open(options);
}

CollectionRecord Books() {
  CollectionRecord record;
  record.name = "books";
  record.layout = SmallLayout();
  return record;
}

Status Ingest(Archive* archive, const std::string& source, uint64_t tokens,
              std::string reader_state = "state") {
  EID_RETURN_IF_ERROR(archive->EnsureCollection(Books()).status());
  const std::string text(tokens, 't');
  EID_ASSIGN_OR_RETURN(auto writer,
                       archive->BeginDocument("books", source, Sha256Hex(text), text, tokens));
  for (uint64_t position = writer->document().committed_tokens; position < tokens;) {
    const int count = testing::BlockTokens(SmallLayout(), position, tokens);
    EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), position, count, 1)));
    position += static_cast<uint64_t>(count);
    if (position % 320 == 0) EID_RETURN_IF_ERROR(writer->Commit(reader_state));
  }
  return writer->Finish();
}

TEST(ArchiveFolder, AFolderWithOtherFilesIsRefusedAndLeftAlone) {
  TemporaryFolder folder;
  std::ofstream(folder / "thesis.txt") << "irreplaceable";
  const Status status = OpenAt(folder.path()).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("thesis.txt"), std::string::npos) << status.message();
  EXPECT_FALSE(status.remedy().empty());
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 1u);
  EXPECT_EQ(OpenAt(folder / "thesis.txt").status().code(), Code::kInvalidArgument);
}

TEST(ArchiveFolder, NothingIsMadeWithoutBeingAsked) {
  TemporaryFolder folder;
  EXPECT_EQ(OpenAt(folder / "nowhere", false).status().code(), Code::kNotFound);
  EXPECT_EQ(OpenAt(folder / "nowhere", false, true).status().code(), Code::kNotFound);
  EXPECT_EQ(OpenAt(folder / "nowhere", true, true).status().code(), Code::kNotFound);
  EXPECT_FALSE(fs::exists(folder / "nowhere"));
  EXPECT_EQ(OpenAt("").status().code(), Code::kInvalidArgument);
}

TEST(ArchiveFolder, AnInterruptedCreationIsCompleted) {
  TemporaryFolder folder;
  fs::create_directories(folder / "archive/db");
  std::ofstream(folder / "archive/db/LOG") << "interrupted";
  std::ofstream(folder / "archive/writer.lock") << "pid 1 on host gone";
  EXPECT_EQ(OpenAt(folder / "archive", false).status().code(), Code::kNotFound);
  EID_ASSERT_RESULT(auto archive, OpenAt(folder / "archive"));
  EID_ASSERT_OK(Ingest(archive.get(), "a", 64));
}

TEST(ArchiveFolder, ASecondWriterIsRefusedAndToldWhoTheFirstIs) {
  TemporaryFolder folder;
  EID_ASSERT_RESULT(auto archive, OpenAt(folder / "archive"));
  const Status here = OpenAt(folder / "archive").status();
  EXPECT_EQ(here.code(), Code::kLocked);
  EXPECT_NE(here.message().find("pid " + std::to_string(getpid())), std::string::npos)
      << here.message();
  EXPECT_NE(here.message().find(program_invocation_short_name), std::string::npos)
      << here.message();
  EXPECT_FALSE(here.remedy().empty());
  // Reading is allowed beside it.
  EID_ASSERT_OK(Ingest(archive.get(), "a", 64));
  EID_ASSERT_RESULT(auto reader, OpenAt(folder / "archive", false, true));
  EID_ASSERT_RESULT(const auto documents, reader->Documents("books"));
  EXPECT_EQ(documents.size(), 1u);
  archive.reset();
  EID_ASSERT_RESULT(auto again, OpenAt(folder / "archive"));
}

TEST(ArchiveFolder, ALockLeftByAKilledProcessIsNoObstacle) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto archive = OpenAt(path);
    const char ready = archive.ok() ? 'y' : 'n';
    if (write(pipe_ends[1], &ready, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  close(pipe_ends[1]);  // so that a child that ended is no wait without end
  char ready = 0;
  ASSERT_EQ(read(pipe_ends[0], &ready, 1), 1);
  ASSERT_EQ(ready, 'y');
  const Status locked = OpenAt(path).status();
  EXPECT_EQ(locked.code(), Code::kLocked);
  EXPECT_NE(locked.message().find("pid " + std::to_string(child)), std::string::npos)
      << locked.message();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  close(pipe_ends[0]);
}

TEST(ArchiveFolder, AReadOnlyArchiveRefusesEveryWrite) {
  TemporaryFolder folder;
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(folder / "archive"));
    EID_ASSERT_OK(Ingest(archive.get(), "a", 64));
  }
  EID_ASSERT_RESULT(auto reader, OpenAt(folder / "archive", false, true));
  EXPECT_EQ(Ingest(reader.get(), "b", 64).code(), Code::kInvalidArgument);
  EXPECT_EQ(reader->RemoveDocument(1).code(), Code::kInvalidArgument);
  EXPECT_EQ(reader->CommitSession("s", nullptr, "").code(), Code::kInvalidArgument);
  EXPECT_EQ(reader->Compact().code(), Code::kInvalidArgument);
  CollectionRecord other = Books();
  other.name = "other";
  EXPECT_EQ(reader->EnsureCollection(other).status().code(), Code::kInvalidArgument);
  EID_ASSERT_RESULT(const VerifyReport report, reader->Verify(nullptr));
  EXPECT_TRUE(report.clean());
}

TEST(ArchiveFolder, OneThatLostItsCurrentFileIsNotMadeAnew) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    EID_ASSERT_OK(Ingest(archive.get(), "a", 64));
  }
  fs::rename(path + "/db/CURRENT", folder / "CURRENT");
  for (const bool read_only : {false, true}) {
    const Status status = OpenAt(path, /*create=*/true, read_only).status();
    EXPECT_EQ(status.code(), Code::kCorruption);
    EXPECT_NE(status.message().find("CURRENT"), std::string::npos) << status.message();
  }
  fs::rename(folder / "CURRENT", path + "/db/CURRENT");
  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_TRUE(report.clean());
}

// The path of the one file of `folder` that begins with `name`, or empty.
std::string FileOf(const std::string& folder, const std::string& name) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(name)) return entry.path().string();
  }
  return {};
}

TEST(ArchiveFolder, OneThatLostItsListOfFamiliesIsNotMadeAnew) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    EID_ASSERT_OK(Ingest(archive.get(), "a", 64));
  }
  const auto whole = fs::file_size(FileOf(path + "/db", "MANIFEST"));
  int refused = 0;
  for (uintmax_t size = 0; size < whole; size += 41) {
    fs::remove_all(folder / "copy");
    fs::copy(path, folder / "copy", fs::copy_options::recursive);
    fs::resize_file(FileOf(folder / "copy/db", "MANIFEST"), size);
    const std::string table = FileOf(folder / "copy/db", "0");
    const Status status = OpenAt(folder / "copy").status();
    if (status.ok()) continue;  // all families were there
    ++refused;
    EXPECT_EQ(status.code(), Code::kCorruption) << status.message();
    EXPECT_TRUE(fs::exists(table));
  }
  EXPECT_GT(refused, 5);
}

// --- decay ---

// Every table whose bytes hold `needle`.
std::vector<std::string> TablesWith(const std::string& folder, const std::string& needle,
                                    std::vector<size_t>* offsets) {
  std::vector<std::string> tables;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".sst" && extension != ".blob") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const size_t at = bytes.find(needle);
    if (at == std::string::npos) continue;
    tables.push_back(entry.path().string());
    offsets->push_back(at);
  }
  return tables;
}

void FlipByte(const std::string& file, size_t offset) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(stream.get());
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(static_cast<char>(byte ^ 0x10));
}

TEST(ArchiveDecay, AFlippedByteInATableIsNamedAndTheOtherBlocksStillServe) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 640));
  }
  // The values of layer 7 of the block at position 320, found by their own bytes.
  const Block block = RandomBlock(SmallLayout(), 320, 32, 1);
  std::vector<size_t> offsets;
  const auto tables = TablesWith(path, block.values[1].substr(0, 48), &offsets);
  ASSERT_EQ(tables.size(), 1u);
  FlipByte(tables[0], offsets[0] + 20);

  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  std::vector<PayloadPtr> payloads;
  const Status status = archive->store().ReadPayloads({{1, 7, Part::kValues, 320}}, &payloads);
  EXPECT_EQ(status.code(), Code::kCorruption) << status.message();
  for (const char* part : {"block 11 ", "document/1", "position 320", "layer 7", "values"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  }
  EID_ASSERT_OK(archive->store().ReadPayloads({{1, 7, Part::kValues, 0}}, &payloads));
  EID_ASSERT_OK(archive->store().ReadPayloads({{1, 3, Part::kKeys, 608}}, &payloads));

  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  ASSERT_FALSE(report.clean());
  bool named = false;
  for (const Damage& damage : report.damage) {
    EXPECT_EQ(damage.document, 1u) << damage.what;
    // Records that share the damaged piece of the table with it are lost too.
    if (damage.block != 11) continue;
    named = true;
    EXPECT_NE(damage.what.find("collection books, document 1 (moby.txt), block 11 at position 320"),
              std::string::npos)
        << damage.what;
  }
  EXPECT_TRUE(named);
}

TEST(ArchiveDecay, AnyFlippedByteOfATableIsFound) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 640));
    EID_ASSERT_OK(archive->CommitSession("friend", nullptr, std::string(100000, 's')));
  }
  std::vector<std::string> tables;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".sst" || extension == ".blob") tables.push_back(entry.path().string());
  }
  ASSERT_GE(tables.size(), 5u);
  std::mt19937_64 random(11);
  int found = 0;
  constexpr int kFlips = 40;
  for (int flip = 0; flip < kFlips; ++flip) {
    const std::string& table = tables[static_cast<size_t>(flip) % tables.size()];
    // Where the data is. What stands behind it, such as statistics, may be of no consequence.
    const size_t size = fs::file_size(table);
    const size_t offset = random() % (size < 65536 ? 48 : size / 2);
    FlipByte(table, offset);
    const auto archive = OpenAt(path, false, true);
    if (!archive.ok()) {
      EXPECT_EQ(archive.status().code(), Code::kCorruption) << archive.status().message();
      ++found;
    } else {
      const auto report = (*archive)->Verify(nullptr);
      EXPECT_TRUE(report.ok()) << testing::Explain(report.status());
      EXPECT_FALSE(report->clean()) << table << " at " << offset;
      if (!report->clean()) ++found;
    }
    FlipByte(table, offset);
  }
  EXPECT_EQ(found, kFlips);
  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_TRUE(report.clean());
}

TEST(ArchiveDecay, ACutOffOrMissingTableIsAnErrorAndNoCrash) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 640));
  }
  std::vector<size_t> offsets;
  const auto tables =
      TablesWith(path, RandomBlock(SmallLayout(), 320, 32, 1).values[1].substr(0, 48), &offsets);
  ASSERT_EQ(tables.size(), 1u);
  fs::resize_file(tables[0], fs::file_size(tables[0]) / 2);
  for (const bool missing : {false, true}) {
    if (missing) fs::remove(tables[0]);
    const auto archive = OpenAt(path, false, true);
    if (archive.ok()) {
      const auto report = (*archive)->Verify(nullptr);
      EXPECT_TRUE(!report.ok() || !report->clean());
    } else {
      EXPECT_TRUE(archive.status().code() == Code::kCorruption ||
                  archive.status().code() == Code::kIoError)
          << testing::Explain(archive.status());
    }
  }
}

// --- a full disk ---

// Fills the disk during an ingest, checks the error, makes room with `free_space`, and goes on.
void FillUpAndGoOn(const std::string& path, const std::function<void()>& free_space) {
  std::string expected;
  {
    TemporaryFolder folder;
    EID_ASSERT_RESULT(auto archive, OpenAt(folder / "archive"));
    EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 6400));
    EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
    expected = report.collections.at(0).digest;
  }
  uint64_t acknowledged = 0;
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    const Status full = Ingest(archive.get(), "moby.txt", 6400, std::string(200000, 's'));
    ASSERT_EQ(full.code(), Code::kNoSpace) << testing::Explain(full);
    EXPECT_NE(full.message().find(path), std::string::npos) << full.message();
    EXPECT_NE(full.message().find("nothing acknowledged is lost"), std::string::npos);
    EXPECT_FALSE(full.remedy().empty());
    // What follows a hole is refused with the same words.
    const Status again = archive->CommitSession("friend", nullptr, "small");
    EXPECT_EQ(again.code(), Code::kNoSpace);
    EXPECT_EQ(again.message(), full.message());
    EID_ASSERT_RESULT(const auto documents, archive->Documents("books"));
    if (!documents.empty()) acknowledged = documents[0].committed_tokens;
  }
  free_space();
  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  EID_ASSERT_RESULT(const VerifyReport before, archive->Verify(nullptr));
  EXPECT_TRUE(before.clean()) << before.damage[0].what;
  EID_ASSERT_RESULT(const auto documents, archive->Documents("books"));
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_GE(documents[0].committed_tokens, acknowledged);
  EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 6400));
  EID_ASSERT_RESULT(const VerifyReport after, archive->Verify(nullptr));
  EXPECT_TRUE(after.clean());
  EXPECT_EQ(after.collections.at(0).digest, expected);
}

TEST(ArchiveFullDisk, OnASmallFileSystemIsAClearErrorAndLosesNothing) {
  TemporaryFolder folder;
  const std::string mount_point = folder / "small";
  fs::create_directory(mount_point);
  if (mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=3m") != 0) {
    GTEST_SKIP() << "mounting a small tmpfs needs root; the file size limit's test runs instead";
  }
  FillUpAndGoOn(mount_point + "/archive", [&] {
    ASSERT_EQ(mount("tmpfs", mount_point.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
  });
  EXPECT_EQ(umount(mount_point.c_str()), 0);
}

// Without root: a limit on the size of files, which RocksDB reports as an I/O error.
TEST(ArchiveFullDisk, AFileThatCannotGrowIsAnErrorAndLosesNothing) {
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto old_handler = signal(SIGXFSZ, SIG_IGN);
  {
    EID_ASSERT_RESULT(auto archive, OpenAt(path));
    rlimit small = before;
    small.rlim_cur = 1u << 20;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status status = Ingest(archive.get(), "moby.txt", 6400, std::string(200000, 's'));
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_TRUE(status.code() == Code::kNoSpace || status.code() == Code::kIoError)
        << testing::Explain(status);
    EXPECT_EQ(archive->CommitSession("friend", nullptr, "small").message(), status.message());
  }
  signal(SIGXFSZ, old_handler);
  EID_ASSERT_RESULT(auto archive, OpenAt(path));
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  EXPECT_TRUE(report.clean());
  EID_ASSERT_OK(Ingest(archive.get(), "moby.txt", 6400));
}

}  // namespace
}  // namespace eidetic::memory
