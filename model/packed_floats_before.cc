#include "model/packed_floats_before.h"

#include <cstring>

namespace eidetic::model {
namespace {

constexpr uint8_t kApartBefore = 7;  // the code of an exponent that stands apart

// Where the parts of a chunk of `count` numbers begin; exponents that stand apart follow `end`.
struct PartsBefore {
  PartsBefore(size_t columns, size_t count)
      : codes(columns),
        low(codes + (3 * count + 7) / 8),
        high(low + 2 * count),
        end(high + count) {}
  size_t codes, low, high, end;
};

}  // namespace

bool UnpackChunkBefore(std::string_view bytes, size_t* at, size_t rows, size_t columns,
                       uint32_t* numbers) {
  const size_t count = rows * columns;
  const PartsBefore parts(columns, count);
  if (bytes.size() - *at < parts.end) return false;
  const auto* const in = reinterpret_cast<const uint8_t*>(bytes.data() + *at);
  *at += parts.end;
  for (size_t i = 0; i < count; ++i) {
    const size_t bit = 3 * i, byte = parts.codes + bit / 8;
    // The byte behind the codes is there: the low halves follow.
    const int code = (in[byte] | in[byte + 1] << 8) >> (bit % 8) & 7;
    int exponent = in[i % columns] - code;
    if (code == kApartBefore) {
      if (*at == bytes.size()) return false;
      const auto apart = static_cast<uint8_t>(bytes[(*at)++]);
      if (apart > exponent) return false;  // it would have had a code
      exponent = apart;
    }
    if (exponent < 0) return false;
    uint16_t low = 0;
    std::memcpy(&low, in + parts.low + 2 * i, sizeof low);
    const uint32_t high = in[parts.high + i];
    numbers[i] =
        (high & 0x80) << 24 | static_cast<uint32_t>(exponent) << 23 | (high & 0x7f) << 16 | low;
  }
  return true;
}

}  // namespace eidetic::model
