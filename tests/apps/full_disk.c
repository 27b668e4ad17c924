/* Preloaded into a program under test: the files under EIDETIC_TEST_DISK_FOLDER take
 * EIDETIC_TEST_DISK_BYTES bytes, after which every write to them fails as on a full disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_llong written;

static int is_full(int descriptor, long long bytes) {
  const char* folder = getenv("EIDETIC_TEST_DISK_FOLDER");
  const char* limit = getenv("EIDETIC_TEST_DISK_BYTES");
  if (!folder || !limit) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) != 0) return 0;
  return atomic_fetch_add(&written, bytes) + bytes > atoll(limit);
}

__attribute__((visibility("default"))) ssize_t write(int descriptor, const void* data,
                                                     size_t size) {
  static ssize_t (*next)(int, const void*, size_t);
  if (!next) next = (ssize_t(*)(int, const void*, size_t))dlsym(RTLD_NEXT, "write");
  if (is_full(descriptor, (long long)size)) {
    errno = ENOSPC;
    return -1;
  }
  return next(descriptor, data, size);
}

static ssize_t write_at(const char* name, int descriptor, const void* data, size_t size,
                        off_t offset) {
  ssize_t (*next)(int, const void*, size_t, off_t) =
      (ssize_t(*)(int, const void*, size_t, off_t))dlsym(RTLD_NEXT, name);
  if (is_full(descriptor, (long long)size)) {
    errno = ENOSPC;
    return -1;
  }
  return next(descriptor, data, size, offset);
}

__attribute__((visibility("default"))) ssize_t pwrite(int descriptor, const void* data, size_t size,
                                                      off_t offset) {
  return write_at("pwrite", descriptor, data, size, offset);
}

__attribute__((visibility("default"))) ssize_t pwrite64(int descriptor, const void* data,
                                                        size_t size, off_t offset) {
  return write_at("pwrite64", descriptor, data, size, offset);
}
