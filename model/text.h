// Names and numbers from files, fit for an error message.
#ifndef EIDETIC_MODEL_TEXT_H_
#define EIDETIC_MODEL_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace eidetic::model {

// 'name', shortened, with what is not printable ASCII as \xNN.
inline std::string Quoted(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  constexpr size_t kLongest = 96;
  std::string quoted = "'";
  for (const char character : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte < 0x7f) {
      quoted += character;
    } else {
      quoted += "\\x";
      quoted += kDigits[byte >> 4];
      quoted += kDigits[byte & 15];
    }
  }
  quoted += text.size() > kLongest ? "...'" : "'";
  return quoted;
}

// "[576, 49152]"
inline std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TEXT_H_
