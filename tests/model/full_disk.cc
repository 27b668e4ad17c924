#include "tests/model/full_disk.h"

#include <dlfcn.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

std::atomic<int64_t> bytes_until_full{-1};

// Stands before the C library's own for the whole program.
extern "C" ssize_t write(int descriptor, const void* data, size_t bytes) {
  using Write = ssize_t (*)(int, const void*, size_t);
  static const auto original = reinterpret_cast<Write>(dlsym(RTLD_NEXT, "write"));
  const int64_t left = bytes_until_full.load();
  if (left < 0) return original(descriptor, data, bytes);
  if (left == 0) {
    errno = ENOSPC;
    return -1;
  }
  const ssize_t written = original(descriptor, data, std::min(bytes, static_cast<size_t>(left)));
  if (written > 0) bytes_until_full = left - written;
  return written;
}
