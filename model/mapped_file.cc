#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "model/error.h"

namespace eidetic::model {

MappedFile MapFile(const std::string& path) {
  // Non-blocking, so that a pipe does not wait for a writer before it is refused.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      throw Error(ErrorCode::kNotFound, path + ": there is no such file", "check the path");
    }
    throw Error(ErrorCode::kIo, path + ": cannot be opened: " + std::strerror(error),
                "check the file's permissions");
  }
  struct stat status;
  const bool known = ::fstat(descriptor, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    ::close(descriptor);
    if (known && S_ISREG(status.st_mode)) {
      throw Error(ErrorCode::kCorruption, path + ": the file is empty", "download it again");
    }
    throw Error(ErrorCode::kIo, path + ": is not a regular file", "give the path of a file");
  }
  MappedFile file;
  file.size = static_cast<uint64_t>(status.st_size);
  void* const address = ::mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  ::close(descriptor);
  if (address == MAP_FAILED) {
    throw Error(ErrorCode::kIo, path + ": cannot be mapped: " + std::strerror(error), {});
  }
  file.data = static_cast<const uint8_t*>(address);
  return file;
}

void Unmap(const MappedFile& file) noexcept {
  if (file.data != nullptr) ::munmap(const_cast<uint8_t*>(file.data), file.size);
}

}  // namespace eidetic::model
