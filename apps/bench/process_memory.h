// The anonymous memory of this process, sampled while something runs.
#ifndef EIDETIC_APPS_BENCH_PROCESS_MEMORY_H_
#define EIDETIC_APPS_BENCH_PROCESS_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace eidetic::bench {

// RssAnon of /proc/self/status, in bytes: memory that is no file's. Throws Error.
std::uint64_t anonymous_bytes();

// Samples anonymous_bytes() every few milliseconds on a thread of its own until it is stopped.
class MemorySampler {
 public:
  struct Sample {
    std::uint64_t done;   // what set_done() said last
    std::uint64_t bytes;  // anonymous memory
  };

  MemorySampler();
  ~MemorySampler();
  MemorySampler(const MemorySampler&) = delete;
  MemorySampler& operator=(const MemorySampler&) = delete;

  void set_done(std::uint64_t done) { done_.store(done, std::memory_order_relaxed); }
  // Ends the sampling and returns all samples in order; at least one.
  std::vector<Sample> stop();

 private:
  void run();

  std::atomic<std::uint64_t> done_{0};
  std::atomic<bool> stopping_{false};
  std::vector<Sample> samples_;
  std::thread thread_;
};

}  // namespace eidetic::bench

#endif  // EIDETIC_APPS_BENCH_PROCESS_MEMORY_H_
