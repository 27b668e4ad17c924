#include "model/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "model/error.h"

namespace eidetic::model {

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  // A file left behind by a process that was killed keeps its name; the next number is free.
  constexpr int kMostLeftovers = 1000;
  for (int i = 0; i < kMostLeftovers; ++i) {
    temporary_ = path + ".partial-" + std::to_string(i);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) return;
    if (errno != EEXIST) break;
  }
  const int error = errno;
  Fail("cannot be created", error);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::Fail(const char* action, int error) const {
  const std::string message = temporary_ + " " + action + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) {
    throw Error(ErrorCode::kNoSpace, message, "free some space; what was written is removed");
  }
  if (error == ENOENT || error == ENOTDIR) {
    throw Error(ErrorCode::kNotFound, message, "make the output's folder first");
  }
  throw Error(ErrorCode::kIo, message, "choose an output path that can be written");
}

void AtomicFile::Write(const void* data, size_t bytes) {
  constexpr size_t kMostAtOnce = size_t{1} << 24;
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, std::min(bytes, kMostAtOnce));
    if (written < 0) {
      if (errno == EINTR) continue;
      Fail("cannot be written", errno);
    }
    next += written;
    bytes -= static_cast<size_t>(written);
  }
}

void AtomicFile::WriteOver(uint64_t offset, const void* data, size_t bytes) {
  const auto end = ::lseek(descriptor_, 0, SEEK_CUR);
  if (end < 0 || ::lseek(descriptor_, static_cast<off_t>(offset), SEEK_SET) < 0) {
    Fail("cannot be written", errno);
  }
  Write(data, bytes);
  if (::lseek(descriptor_, end, SEEK_SET) < 0) Fail("cannot be written", errno);
}

void AtomicFile::Commit() {
  if (::fsync(descriptor_) != 0) Fail("cannot be flushed to disk", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) Fail("cannot be renamed", errno);
  ::close(descriptor_);
  descriptor_ = -1;
  std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  if (folder.empty()) folder = ".";
  const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = directory >= 0 && ::fsync(directory) == 0;
  const int error = errno;
  if (directory >= 0) ::close(directory);
  if (!synced) Fail("is in place, but its folder cannot be flushed to disk", error);
}

}  // namespace eidetic::model
