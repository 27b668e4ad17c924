// UTF-8, read one character at a time, with what to make of bytes that are none.
#ifndef EIDETIC_MODEL_UTF8_H_
#define EIDETIC_MODEL_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace eidetic::model {

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

enum class Utf8Kind {
  kValid,
  kInvalid,    // no continuation can make these bytes a character
  kIncomplete  // the text ends inside a character
};
// The character at `position` (< text.size()), or the longest part of one there (Unicode's "maximal
// subpart": what one U+FFFD stands for).
struct Utf8Character {
  Utf8Kind kind;
  size_t bytes;  // 1..4
};
Utf8Character ReadUtf8(std::string_view text, size_t position);

// Where the first byte stands that is no UTF-8; npos when all of it is.
size_t FindInvalidUtf8(std::string_view text);

// Every invalid or incomplete part as one U+FFFD.
std::string RepairUtf8(std::string_view text);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_UTF8_H_
