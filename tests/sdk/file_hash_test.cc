#include "sdk/file_hash.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/temporary_folder.h"

namespace eidetic::sdk {
namespace {

using memory::Code;

constexpr char kHashOfAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

class CachedHash : public ::testing::Test {
 protected:
  void Write(const std::string& content) { std::ofstream(file_, std::ios::binary) << content; }
  FileIdentity Identity() const {
    auto identity = FileIdentity::Of(file_);
    EXPECT_TRUE(identity.ok()) << identity.status().message();
    return *identity;
  }
  // As if asked `seconds` from now.
  std::string Hash(int seconds = 10) const {
    const auto now = std::chrono::system_clock::now() + std::chrono::seconds(seconds);
    auto hash = CachedFileHash(Identity(), cache_, now);
    EXPECT_TRUE(hash.ok()) << hash.status().message();
    return *hash;
  }
  // The one entry of the cache.
  std::optional<std::string> Entry() const {
    std::optional<std::string> entry;
    std::error_code absent;
    for (const auto& file : std::filesystem::directory_iterator(cache_ + "/hashes", absent)) {
      EXPECT_FALSE(entry.has_value());
      entry = file.path().string();
    }
    return entry;
  }
  static ino_t InodeOf(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0);
    return info.st_ino;
  }

  tests::TemporaryFolder folder_;
  const std::string file_ = folder_ / "weights";
  const std::string cache_ = folder_ / "cache";
};

TEST_F(CachedHash, IsRememberedAndFollowsTheFile) {
  Write("abc");
  EXPECT_EQ(Hash(), kHashOfAbc);
  ASSERT_TRUE(Entry().has_value());
  const ino_t entry = InodeOf(*Entry());
  EXPECT_EQ(Hash(), kHashOfAbc);
  EXPECT_EQ(InodeOf(*Entry()), entry);  // made anew, it would be another file
  Write("another content");
  EXPECT_NE(Hash(), kHashOfAbc);
  Write("abc");
  EXPECT_EQ(Hash(), kHashOfAbc);
}

TEST_F(CachedHash, SeesAChangeThatKeepsSizeAndTime) {
  Write("abc");
  EXPECT_EQ(Hash(), kHashOfAbc);
  struct stat before {};
  ASSERT_EQ(stat(file_.c_str(), &before), 0);
  Write("abd");
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, file_.c_str(), times, 0), 0);
  ASSERT_EQ(Identity().mtime_ns % 1'000'000'000, before.st_mtim.tv_nsec);
  EXPECT_NE(Hash(), kHashOfAbc);
}

TEST_F(CachedHash, IsNotRememberedWhileTheFileMayStillChangeUnseen) {
  Write("abc");
  EXPECT_EQ(Hash(0), kHashOfAbc);
  EXPECT_FALSE(Entry().has_value());
  EXPECT_EQ(Hash(3), kHashOfAbc);
  EXPECT_TRUE(Entry().has_value());
}

TEST_F(CachedHash, AnyDamageOfTheCacheIsSeenAndMended) {
  Write("abc");
  Hash();
  const std::string entry = Entry().value();
  std::ifstream in(entry, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  const auto try_with = [&](const std::string& bytes) {
    std::ofstream(entry, std::ios::binary) << bytes;
    EXPECT_EQ(Hash(), kHashOfAbc) << bytes;
    std::ifstream again(entry, std::ios::binary);
    EXPECT_EQ(std::string((std::istreambuf_iterator<char>(again)), {}), good);
  };
  for (size_t at = 0; at < good.size(); ++at) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    try_with(damaged);
    try_with(good.substr(0, at));
  }
  try_with("{\"sha256\": 7}");
  try_with("[]");
}

TEST_F(CachedHash, AnEntryOfAnotherFileIsNotTaken) {
  Write("abc");
  Hash();
  const std::string entry = Entry().value();
  const std::string other = folder_ / "other";
  std::filesystem::copy_file(entry, other);
  std::filesystem::remove(file_);
  Write("abd");
  Hash();
  std::filesystem::copy_file(other, entry, std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(Hash(), kHashOfAbc);
}

TEST_F(CachedHash, AFileChangedWhileItIsReadIsAnError) {
  Write("abc");
  const FileIdentity before = Identity();
  Write("abcd");
  const auto hash = CachedFileHash(before, cache_);
  EXPECT_EQ(hash.status().code(), Code::kIoError);
  EXPECT_NE(hash.status().message().find("changed"), std::string::npos) << hash.status().message();
  EXPECT_FALSE(Entry().has_value());
}

TEST_F(CachedHash, NeedsNoCacheThatCanBeWritten) {
  Write("abc");
  const std::string blocked = file_ + "/cache";  // below a file
  const auto later = std::chrono::system_clock::now() + std::chrono::seconds(10);
  EXPECT_EQ(*CachedFileHash(Identity(), blocked, later), kHashOfAbc);
  EXPECT_EQ(*CachedFileHash(Identity(), "", later), kHashOfAbc);
  EXPECT_EQ(FileIdentity::Of(folder_ / "absent").status().code(), Code::kNotFound);
  const std::string odd = folder_ / "odd\xff name";  // no UTF-8
  std::filesystem::copy_file(file_, odd);
  EXPECT_EQ(*CachedFileHash(*FileIdentity::Of(odd), cache_, later), kHashOfAbc);
}

}  // namespace
}  // namespace eidetic::sdk
