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

constexpr int kBlock = 32;        // values in a block of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL
constexpr int kSuperBlock = 256;  // values in one of the K types: eight or sixteen small blocks

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

// IQ4_NL: a nibble stands for one of sixteen values, denser around zero.
constexpr float kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

inline void NonLinearNibbles(const uint8_t* data, float scale, float* values) {
  for (int i = 0; i < kBlock / 2; ++i) {
    values[i] = scale * kNonLinear[data[i] & 15];
    values[i + kBlock / 2] = scale * kNonLinear[data[i] >> 4];
  }
}

// The 6-bit scale and minimum of small block `j` of Q4_K and Q5_K, packed into 12 bytes: those of
// blocks 4..7 have their low bits in bytes 8..11 and their high bits on top of bytes 0..7.
inline void ScaleAndMinimum(const uint8_t* packed, int j, float* scale, float* minimum) {
  const int s = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4);
  const int m = j < 4 ? packed[j + 4] & 63 : (packed[j + 4] >> 4) | (packed[j] >> 6 << 4);
  *scale = static_cast<float>(s);
  *minimum = static_cast<float>(m);
}

// Q4_K, and with `fifth` (bit j of byte i belongs to value i of small block j) Q5_K. Small blocks
// 2j and 2j + 1 are the low and the high nibbles of the same 32 bytes.
inline void SuperBlockWithMinima(const uint8_t* header, const uint8_t* fifth,
                                 const uint8_t* nibbles, float* values) {
  const float all_scales = HalfToFloat(Load16(header));
  const float all_minima = HalfToFloat(Load16(header + 2));
  for (int j = 0; j < kSuperBlock / kBlock; ++j) {
    float scale, minimum;
    ScaleAndMinimum(header + 4, j, &scale, &minimum);
    scale *= all_scales;
    minimum *= all_minima;
    const uint8_t* bytes = nibbles + j / 2 * kBlock;
    const int shift = j % 2 * 4;
    for (int i = 0; i < kBlock; ++i) {
      const int high = fifth == nullptr ? 0 : (fifth[i] >> j & 1) << 4;
      values[j * kBlock + i] =
          scale * static_cast<float>((bytes[i] >> shift & 15) | high) - minimum;
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 of two high bits, sixteen int8 scales of 16 values, one half.
// Each half of the values takes 64 bytes of nibbles and 32 of high bits.
inline void SixBitSuperBlock(const uint8_t* data, float* values) {
  const float all_scales = HalfToFloat(Load16(data + 208));
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = data + half * 64;
    const uint8_t* high = data + 128 + half * 32;
    const uint8_t* scales = data + 192 + half * 8;
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < kBlock; ++i) {
        const int nibble = low[quarter % 2 * kBlock + i] >> (quarter / 2 * 4) & 15;
        const int six = nibble | (high[i] >> (2 * quarter) & 3) << 4;
        const auto scale = static_cast<int8_t>(scales[quarter * 2 + i / 16]);
        values[half * 128 + quarter * kBlock + i] =
            all_scales * static_cast<float>(scale) * static_cast<float>(six - 32);
      }
    }
  }
}

inline void DequantizeBlock(GgmlType type, const uint8_t* data, float* values) {
  const float scale = HalfToFloat(Load16(data));  // of the types that begin with one
  switch (type) {
    case GgmlType::kQ4_K:
      return SuperBlockWithMinima(data, nullptr, data + 16, values);
    case GgmlType::kQ5_K:
      return SuperBlockWithMinima(data, data + 16, data + 48, values);
    case GgmlType::kQ6_K:
      return SixBitSuperBlock(data, values);
    case GgmlType::kIQ4_NL:
      return NonLinearNibbles(data + 2, scale, values);
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
      const GgmlTypeSize size = SizeOf(type);
      const auto bytes = static_cast<uint64_t>(size.bytes);
      const auto count = static_cast<uint64_t>(size.values);
      for (uint64_t i = begin; i < end; ++i) {
        DequantizeBlock(type, data + i * bytes, values + i * count);
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
