#include "model/utf8.h"

#include <cstdint>
#include <cstring>

namespace eidetic::model {
namespace {

// The range of a character's second byte, and its length; length 0: no character begins like this.
// Overlong forms, surrogates and what lies above U+10FFFF are excluded by the second byte.
struct Lead {
  size_t bytes;
  uint8_t lowest, highest;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

size_t SkipAscii(std::string_view text, size_t position) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  while (position + sizeof(uint64_t) <= text.size()) {
    uint64_t bytes;
    std::memcpy(&bytes, text.data() + position, sizeof(bytes));
    if ((bytes & kHighBits) != 0) break;
    position += sizeof(bytes);
  }
  return position;
}

}  // namespace

Utf8Character ReadUtf8(std::string_view text, size_t position) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[position + i]); };
  const size_t left = text.size() - position;
  const Lead lead = LeadOf(byte(0));
  if (lead.bytes == 1) return {Utf8Kind::kValid, 1};
  if (lead.bytes == 0) return {Utf8Kind::kInvalid, 1};
  for (size_t i = 1; i < lead.bytes; ++i) {
    if (i == left) return {Utf8Kind::kIncomplete, i};
    const uint8_t lowest = i == 1 ? lead.lowest : 0x80;
    const uint8_t highest = i == 1 ? lead.highest : 0xbf;
    if (byte(i) < lowest || byte(i) > highest) return {Utf8Kind::kInvalid, i};
  }
  return {Utf8Kind::kValid, lead.bytes};
}

size_t FindInvalidUtf8(std::string_view text) {
  for (size_t position = SkipAscii(text, 0); position < text.size();) {
    const Utf8Character character = ReadUtf8(text, position);
    if (character.kind != Utf8Kind::kValid) return position;
    position = SkipAscii(text, position + character.bytes);
  }
  return std::string_view::npos;
}

std::string RepairUtf8(std::string_view text) {
  std::string repaired;
  repaired.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const Utf8Character character = ReadUtf8(text, position);
    repaired += character.kind == Utf8Kind::kValid ? text.substr(position, character.bytes)
                                                   : kReplacementCharacter;
    position += character.bytes;
  }
  return repaired;
}

}  // namespace eidetic::model
