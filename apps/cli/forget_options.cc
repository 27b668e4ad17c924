#include "apps/cli/forget_options.h"

#include <charconv>
#include <limits>

#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

ByteRange parse_bytes(const std::string& text) {
  ByteRange range;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, range.begin);
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '-') {
    const auto last = std::from_chars(first.ptr + 1, end, range.end);
    if (last.ec == std::errc() && last.ptr == end && range.begin < range.end) return range;
  }
  throw Error(EID_INVALID_ARGUMENT, "--bytes is '" + text + "', which is no range",
              "give the first byte and the one behind the last, such as 1200-1350");
}

std::int64_t parse_age(const std::string& text) {
  std::int64_t count = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, count);
  std::int64_t unit = 0;  // seconds
  if (parsed.ec == std::errc() && parsed.ptr + 1 == end) {
    switch (*parsed.ptr) {
      case 's':
        unit = 1;
        break;
      case 'm':
        unit = 60;
        break;
      case 'h':
        unit = 3600;
        break;
      case 'd':
        unit = 24 * 3600;
        break;
      case 'w':
        unit = 7 * 24 * 3600;
        break;
      default:
        break;
    }
  }
  constexpr std::int64_t kMostMilliseconds = std::numeric_limits<std::int64_t>::max() / 2;
  if (unit == 0 || count < 0 || count > kMostMilliseconds / (unit * 1000)) {
    throw Error(EID_INVALID_ARGUMENT, "--older-than is '" + text + "', which is no age",
                "give a number and its unit, such as 30d, 12h, 8w, 90m or 45s");
  }
  return count * unit * 1000;
}

}  // namespace eidetic::cli
