// A directory that is gone, with all in it, when its owner is.
#ifndef EIDETIC_APPS_COMMON_TEMPORARY_DIRECTORY_H_
#define EIDETIC_APPS_COMMON_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include "eidetic/eidetic.hpp"

namespace eidetic::apps {

class TemporaryDirectory {
 public:
  // In `parent`, or in the system's folder for temporary files when it is empty.
  explicit TemporaryDirectory(const std::string& parent) {
    const std::filesystem::path base =
        parent.empty() ? std::filesystem::temp_directory_path() : std::filesystem::path(parent);
    std::string pattern = (base / "eidetic-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) {
      const int number = errno;
      throw Error(EID_IO_ERROR,
                  "no directory can be made in '" + base.string() +
                      "': " + std::generic_category().message(number),
                  "name a writable folder with --work-dir");
    }
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace eidetic::apps

#endif  // EIDETIC_APPS_COMMON_TEMPORARY_DIRECTORY_H_
