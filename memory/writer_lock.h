// The lock that keeps a folder to one writing process, and names that process to the others.
#ifndef EIDETIC_MEMORY_WRITER_LOCK_H_
#define EIDETIC_MEMORY_WRITER_LOCK_H_

#include <memory>
#include <string>
#include <utility>

#include "memory/status.h"

namespace eidetic::memory {

// Held while it lives. The kernel lets go of it when the process ends, however it ends: a lock left
// by a dead process is no obstacle.
class WriterLock {
 public:
  // `file` is made when it is not there and stays behind. kLocked when somebody holds it, also this
  // process itself: the message says who, where and since when.
  static Result<std::unique_ptr<WriterLock>> Acquire(const std::string& file);
  ~WriterLock();
  // Whether the file is still the one under its path: not when the folder was removed or exchanged.
  bool IsInPlace() const;
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  WriterLock(std::string file, int descriptor) : file_(std::move(file)), descriptor_(descriptor) {}
  std::string file_;
  int descriptor_;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_WRITER_LOCK_H_
