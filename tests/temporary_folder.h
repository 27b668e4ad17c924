// An empty folder that goes with the object, unless a failed test's files are to be kept.
#ifndef EIDETIC_TESTS_TEMPORARY_FOLDER_H_
#define EIDETIC_TESTS_TEMPORARY_FOLDER_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace eidetic::tests {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    path_ = (std::filesystem::temp_directory_path() / "eidetic-test-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make " + path_);
  }
  ~TemporaryFolder() {
    // scripts/soak looks at what a failure left.
    if (::testing::Test::HasFailure() && ::getenv("EIDETIC_TEST_KEEP") != nullptr) return;
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  // A path inside it.
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace eidetic::tests

#endif  // EIDETIC_TESTS_TEMPORARY_FOLDER_H_
