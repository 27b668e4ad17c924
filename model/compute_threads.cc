#include "model/compute_threads.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "model/error.h"

namespace eidetic::model {

int ComputeThreads(int threads) {
  constexpr int kMostThreads = 1024;
  if (threads < 0 || threads > kMostThreads) {
    throw Error(ErrorCode::kInvalidArgument,
                "threads is " + std::to_string(threads) + "; it must be 0 to " +
                    std::to_string(kMostThreads),
                "Pass 0 for one thread per core.");
  }
  if (threads > 0) return threads;
  if (const char* wanted = std::getenv("OMP_NUM_THREADS"); wanted != nullptr) {
    int first = 0;  // of a list, whose others are for nested teams
    const auto parsed = std::from_chars(wanted, wanted + std::strlen(wanted), first);
    const bool whole = parsed.ec == std::errc() && (*parsed.ptr == '\0' || *parsed.ptr == ',');
    if (whole && first > 0 && first <= kMostThreads) return first;
  }
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace eidetic::model
