// A disk that is full after so many bytes, for the whole test program.
#ifndef EIDETIC_TESTS_MODEL_FULL_DISK_H_
#define EIDETIC_TESTS_MODEL_FULL_DISK_H_

#include <atomic>
#include <cstdint>

// After this many more bytes, writes find the disk full. Negative: never. full_disk.cc has
// the write() that stands before the C library's own: it is among the program's SOURCES.
extern std::atomic<int64_t> bytes_until_full;

#endif  // EIDETIC_TESTS_MODEL_FULL_DISK_H_
