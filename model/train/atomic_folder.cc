#include "model/train/atomic_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "model/error.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;

constexpr char kPartial[] = ".partial", kReplaced[] = ".replaced";

[[noreturn]] void FailFolder(const std::string& path, const char* action, int error) {
  const std::string message = path + " " + action + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) {
    throw Error(ErrorCode::kNoSpace, message, "free some space; what was there before is kept");
  }
  const bool missing = error == ENOENT || error == ENOTDIR;
  throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo, message,
              "choose a folder that can be written");
}

void FlushFolder(const std::string& path) {
  const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) FailFolder(path, "cannot be opened", errno);
  const bool synced = ::fsync(directory) == 0;
  const int error = errno;
  ::close(directory);
  if (!synced) FailFolder(path, "cannot be flushed to disk", error);
}

std::string ParentOf(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

void RemoveAll(const std::string& path) {
  std::error_code ignored;  // what cannot be removed now is removed by the next writer
  fs::remove_all(path, ignored);
}

// Swaps the two folders in one step, where the file system can.
bool Swapped(const std::string& a, const std::string& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

void RenameFolder(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) FailFolder(from, "cannot be renamed", errno);
}

}  // namespace

AtomicFolder::AtomicFolder(const std::string& path) : path_(path), temporary_(path + kPartial) {
  Recover(path_);
  std::error_code failed;
  fs::create_directory(temporary_, failed);
  if (failed) FailFolder(temporary_, "cannot be made", failed.value());
}

AtomicFolder::~AtomicFolder() {
  if (!committed_) RemoveAll(temporary_);
}

void AtomicFolder::Commit() {
  FlushFolder(temporary_);
  const std::string parent = ParentOf(path_);
  if (!fs::exists(path_)) {
    RenameFolder(temporary_, path_);
    committed_ = true;
    return FlushFolder(parent);
  }
  if (Swapped(temporary_, path_)) {
    committed_ = true;
    FlushFolder(parent);  // before the old one goes
    return RemoveAll(temporary_);
  }
  RenameFolder(path_, path_ + kReplaced);  // a kill here: Recover brings it back
  RenameFolder(temporary_, path_);
  committed_ = true;
  FlushFolder(parent);
  RemoveAll(path_ + kReplaced);
}

void AtomicFolder::Recover(const std::string& path) {
  const std::string replaced = path + kReplaced;
  if (fs::exists(replaced)) {
    if (fs::exists(path)) {
      RemoveAll(replaced);
    } else {
      RenameFolder(replaced, path);
    }
  }
  RemoveAll(path + kPartial);
}

}  // namespace eidetic::model
