// A disk that is full after so many bytes, for the whole test program.
#ifndef EIDETIC_TESTS_MODEL_FULL_DISK_H_
#define EIDETIC_TESTS_MODEL_FULL_DISK_H_

#include <atomic>
#include <cstdint>

// After this many more bytes, writes find the disk full. Negative: never. In merge_test.cc, with
// the write() that stands before the C library's own.
extern std::atomic<int64_t> bytes_until_full;

#endif  // EIDETIC_TESTS_MODEL_FULL_DISK_H_
