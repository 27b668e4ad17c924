#include "sdk/utf8.h"

#include <cstdint>

namespace eidetic::sdk {

namespace {

// Bytes of the well-formed sequence at `text`, or 0. Table 3-7 of the Unicode Standard.
size_t SequenceLength(const uint8_t* text, size_t left) {
  const uint8_t lead = text[0];
  if (lead < 0x80) return 1;
  auto continues = [&](size_t i, uint8_t low = 0x80, uint8_t high = 0xBF) {
    return i < left && text[i] >= low && text[i] <= high;
  };
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const uint8_t low = lead == 0xE0 ? 0xA0 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : 0xBF;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const uint8_t low = lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xF4 ? 0x8F : 0xBF;
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

size_t FirstInvalidUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (size_t at = 0; at < text.size();) {
    const size_t length = SequenceLength(bytes + at, text.size() - at);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

}  // namespace eidetic::sdk
