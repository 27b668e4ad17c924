// Values of the options of `memory forget`.
#ifndef EIDETIC_APPS_CLI_FORGET_OPTIONS_H_
#define EIDETIC_APPS_CLI_FORGET_OPTIONS_H_

#include <cstdint>
#include <string>

namespace eidetic::cli {

struct ByteRange {
  std::uint64_t begin = 0, end = 0;  // the end is not part of it
};

// "1200-1350". Throws EID_INVALID_ARGUMENT when it is no range that begins before it ends.
ByteRange parse_bytes(const std::string& text);
// "30d", "12h", "90m", "45s" or "8w" in milliseconds. Throws EID_INVALID_ARGUMENT.
std::int64_t parse_age(const std::string& text);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_FORGET_OPTIONS_H_
