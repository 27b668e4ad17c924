// Times: spans of a steady clock, and the moments that records keep.
#ifndef EIDETIC_SDK_CLOCK_H_
#define EIDETIC_SDK_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace eidetic::sdk {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

inline int64_t MillisecondsSince1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_CLOCK_H_
