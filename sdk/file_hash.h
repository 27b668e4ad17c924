// The SHA-256 of a model's file, remembered between starts. When a remembered one holds, and why:
// docs/decisions/032.
#ifndef EIDETIC_SDK_FILE_HASH_H_
#define EIDETIC_SDK_FILE_HASH_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "memory/status.h"

namespace eidetic::sdk {

// What tells one content of a file from another without reading it.
struct FileIdentity {
  std::string path;  // the real one
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;  // of the last change, also of times: a program cannot set it

  // kNotFound, kIoError.
  static memory::Result<FileIdentity> Of(const std::string& path);
  bool operator==(const FileIdentity&) const = default;
};

// Hex SHA-256 of a file that was identified before somebody began to read it: kIoError when it is
// not the same any more, so that the hash is of what was read. Remembered in `cache_dir` (empty:
// not remembered) once the file has been as it is for two seconds. An entry that is damaged or of
// another identity is made anew; a cache that cannot be read or written is no error.
memory::Result<std::string> CachedFileHash(
    const FileIdentity& file, const std::string& cache_dir,
    std::chrono::system_clock::time_point now = std::chrono::system_clock::now());

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_FILE_HASH_H_
