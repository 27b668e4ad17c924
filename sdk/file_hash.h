// The SHA-256 of a model's files, remembered between starts. When a remembered one holds, and why:
// docs/decisions/032.
#ifndef EIDETIC_SDK_FILE_HASH_H_
#define EIDETIC_SDK_FILE_HASH_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

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

// Each of `paths`; the first error otherwise.
memory::Result<std::vector<FileIdentity>> IdentitiesOf(const std::vector<std::string>& paths);

// The hash of a model: of one file that file's own; of several, a folder's, hex SHA-256 over the
// name and the hash of each, ascending by name. Where the folder lies has no part in it. Errors as
// above.
memory::Result<std::string> CachedModelHash(const std::vector<FileIdentity>& files,
                                            const std::vector<std::string>& paths,
                                            const std::string& cache_dir);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_FILE_HASH_H_
