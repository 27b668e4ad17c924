// Threads that do the same over and over beside what a test does, for the tests with the label
// `concurrent`.
#ifndef EIDETIC_TESTS_MEMORY_CONCURRENT_THREADS_H_
#define EIDETIC_TESTS_MEMORY_CONCURRENT_THREADS_H_

#include <gtest/gtest.h>
#include <omp.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory/status.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory::testing {

// How often a test does its work: `usual` times EIDETIC_TEST_ROUNDS, which scripts/soak sets.
inline int Rounds(int usual) {
  const char* times = std::getenv("EIDETIC_TEST_ROUNDS");
  return times == nullptr ? usual : usual * std::stoi(times);
}

// What a thread's turn found wrong.
inline Status Wrong(std::string what) {
  return Status(Code::kInternal, std::move(what));
}

// Each `work` gets the number of its turn and runs on a thread of its own, again and again until
// Join(). A status that is not OK fails the test and ends that thread.
class Threads {
 public:
  ~Threads() { Join(); }

  void Repeat(std::string name, std::function<Status(uint64_t turn)> work) {
    threads_.emplace_back([this, name = std::move(name), work = std::move(work)] {
      // OpenMP's library is not instrumented: its threads would look as if they raced.
      omp_set_num_threads(1);
      uint64_t turn = 0;
      Status status;
      // At least once each, however soon the others are done.
      do {
        status = work(turn++);
      } while (status.ok() && !stop_);
      if (!status.ok()) {
        ADD_FAILURE() << name << ", turn " << turn << ": " << Explain(status);
        failed_ = true;
      }
    });
  }
  // For loops that write: whether there is still somebody to write beside.
  bool failed() const { return failed_; }
  void Join() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<bool> failed_ = false;
  std::vector<std::thread> threads_;
};

// The same, but what was removed while it was read is no error.
inline Status UnlessRemoved(const Status& status) {
  return status.code() == Code::kNotFound ? Status() : status;
}

}  // namespace eidetic::memory::testing

#endif  // EIDETIC_TESTS_MEMORY_CONCURRENT_THREADS_H_
