#include "model/dequantize.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace eidetic::model {
namespace {

// Written without branches so that loops over it vectorise; exact for every half, subnormals too,
// and independent of the processor's flush-to-zero mode.
inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t shifted = static_cast<uint32_t>(half & 0x7fffu) << 13;
  const uint32_t exponent = shifted & 0x0f800000u;
  const uint32_t normal = shifted + 0x38000000u;     // rebias 15 to 127
  const uint32_t non_finite = normal + 0x38000000u;  // exponent 31 to 255
  const float subnormal = std::bit_cast<float>(shifted + 0x38800000u) - 0x1p-14f;
  const uint32_t bits = exponent == 0x0f800000u ? non_finite
                        : exponent == 0         ? std::bit_cast<uint32_t>(subnormal)
                                                : normal;
  return std::bit_cast<float>(bits | sign);
}

inline uint16_t Load16(const uint8_t* data) {
  uint16_t value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

inline uint32_t Load32(const uint8_t* data) {
  uint32_t value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

constexpr int kBlock = 32;  // values in a block of every quantised type here

// Low nibbles are the block's first half, high nibbles its second.
inline void Nibbles(const uint8_t* data, float scale, float offset, float minimum, float* values) {
  for (int i = 0; i < kBlock / 2; ++i) {
    values[i] = scale * (static_cast<float>(data[i] & 15) - offset) + minimum;
    values[i + kBlock / 2] = scale * (static_cast<float>(data[i] >> 4) - offset) + minimum;
  }
}

// As above; bit i of `high` is the fifth bit of value i.
inline void NibblesAndHighBits(const uint8_t* data, uint32_t high, float scale, float offset,
                               float minimum, float* values) {
  for (int i = 0; i < kBlock / 2; ++i) {
    const uint32_t low = (data[i] & 15u) | ((high >> i & 1u) << 4);
    const uint32_t upper = (data[i] >> 4) | ((high >> (i + kBlock / 2) & 1u) << 4);
    values[i] = scale * (static_cast<float>(low) - offset) + minimum;
    values[i + kBlock / 2] = scale * (static_cast<float>(upper) - offset) + minimum;
  }
}

inline void DequantizeBlock(GgmlType type, const uint8_t* data, float* values) {
  const float scale = HalfToFloat(Load16(data));
  switch (type) {
    case GgmlType::kQ4_0:
      return Nibbles(data + 2, scale, 8, 0, values);
    case GgmlType::kQ4_1:
      return Nibbles(data + 4, scale, 0, HalfToFloat(Load16(data + 2)), values);
    case GgmlType::kQ5_0:
      return NibblesAndHighBits(data + 6, Load32(data + 2), scale, 16, 0, values);
    case GgmlType::kQ5_1:
      return NibblesAndHighBits(data + 8, Load32(data + 4), scale, 0, HalfToFloat(Load16(data + 2)),
                                values);
    default:  // kQ8_0: Dequantize hands over nothing else
      for (int i = 0; i < kBlock; ++i) {
        values[i] = scale * static_cast<float>(static_cast<int8_t>(data[i + 2]));
      }
  }
}

// Blocks [begin, end) of one type.
void DequantizeRange(GgmlType type, const uint8_t* data, uint64_t begin, uint64_t end,
                     float* values) {
  switch (type) {
    case GgmlType::kF32:
      std::memcpy(values + begin, data + begin * 4, (end - begin) * 4);
      return;
    case GgmlType::kF16:
      for (uint64_t i = begin; i < end; ++i) values[i] = HalfToFloat(Load16(data + i * 2));
      return;
    case GgmlType::kBF16:
      for (uint64_t i = begin; i < end; ++i) {
        values[i] = std::bit_cast<float>(static_cast<uint32_t>(Load16(data + i * 2)) << 16);
      }
      return;
    default: {
      const uint64_t bytes = SizeOf(type).bytes;
      for (uint64_t i = begin; i < end; ++i) {
        DequantizeBlock(type, data + i * bytes, values + i * kBlock);
      }
    }
  }
}

}  // namespace

void Dequantize(GgmlType type, const uint8_t* data, uint64_t blocks, float* values) {
  constexpr uint64_t kChunkValues = 1u << 18;
  const uint64_t chunk = kChunkValues / static_cast<uint64_t>(SizeOf(type).values);
  const auto chunks = static_cast<int64_t>((blocks + chunk - 1) / chunk);
#pragma omp parallel for schedule(static) if (chunks > 1)
  for (int64_t i = 0; i < chunks; ++i) {
    const uint64_t begin = static_cast<uint64_t>(i) * chunk;
    DequantizeRange(type, data, begin, std::min(begin + chunk, blocks), values);
  }
}

}  // namespace eidetic::model
