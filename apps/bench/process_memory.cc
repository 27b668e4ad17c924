#include "apps/bench/process_memory.h"

#include <chrono>
#include <fstream>
#include <string>

#include "eidetic/eidetic.hpp"

namespace eidetic::bench {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(20);

}  // namespace

std::uint64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("RssAnon:", 0) == 0) return std::stoull(line.substr(8)) * 1024;
  }
  throw Error(EID_UNSUPPORTED, "/proc/self/status has no RssAnon line",
              "measure memory on Linux 4.5 or newer");
}

MemorySampler::MemorySampler() {
  samples_.push_back({0, anonymous_bytes()});
  thread_ = std::thread([this] { run(); });
}

MemorySampler::~MemorySampler() {
  stop();
}

void MemorySampler::run() {
  while (!stopping_.load(std::memory_order_relaxed)) {
    samples_.push_back({done_.load(std::memory_order_relaxed), anonymous_bytes()});
    std::this_thread::sleep_for(kInterval);
  }
}

std::vector<MemorySampler::Sample> MemorySampler::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
  return samples_;
}

}  // namespace eidetic::bench
