// A file that appears at its path whole, or not at all.
#ifndef EIDETIC_MODEL_ATOMIC_FILE_H_
#define EIDETIC_MODEL_ATOMIC_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace eidetic::model {

// Writes to a temporary file in the same folder, `PATH.partial-N`. Commit puts it in place of
// whatever was at the path; without Commit the destructor removes it. Not thread-safe.
class AtomicFile {
 public:
  // Throws Error: kNotFound (the folder), kIo, kNoSpace; so do the calls below.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(const void* data, size_t bytes);
  // Writes over bytes that Write wrote: a header whose counts are known at the end.
  void WriteOver(uint64_t offset, const void* data, size_t bytes);
  // fsync, rename, fsync of the folder: after it returns, a power cut leaves the whole file.
  void Commit();

 private:
  [[noreturn]] void Fail(const char* action, int error) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ATOMIC_FILE_H_
