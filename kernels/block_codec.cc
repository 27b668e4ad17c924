#include "kernels/block_codec.h"

#include <bit>
#include <cstring>
#include <initializer_list>

#if defined(__x86_64__)
#include <immintrin.h>
#define EID_AVX2 __attribute__((target("avx2,fma,f16c")))
#endif

namespace eidetic::kernels {
namespace {

constexpr uint32_t kSignMask = 0x80000000u;
constexpr uint32_t kInfinityBits = 0x7f800000u;
// 65520: the smallest number that rounds to infinity in fp16 (the largest finite one is 65504).
constexpr uint32_t kHalfOverflowBits = 0x477ff000u;
constexpr float kInt8Max = 127.0f;

// The bits of the largest |x|. As integers the bits of non-negative floats are in the order of
// their values, with infinity and then NaN above all of them, so one pass finds both the maximum
// and whatever is not finite.
uint32_t MaxAbsBitsPortable(const float* values, size_t count) {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]) & ~kSignMask;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

void StoreHalf(uint8_t* to, uint16_t half) {
  to[0] = static_cast<uint8_t>(half & 0xff);
  to[1] = static_cast<uint8_t>(half >> 8);
}

uint16_t LoadHalf(const uint8_t* from) {
  return static_cast<uint16_t>(from[0] | (from[1] << 8));
}

// The scale of a row whose largest |x| has these bits; false when the row cannot be coded.
bool RowScale(uint32_t max_bits, uint16_t* half) {
  if (max_bits >= kInfinityBits) return false;
  const float max_abs = std::bit_cast<float>(max_bits);
  *half = FloatToHalf(max_abs / kInt8Max);
  // Among fp16's subnormals rounding to nearest may halve the scale (or make it 0), which would
  // clamp the row; the next scale up keeps the promised error.
  if (max_abs > (kInt8Max + 0.5f) * HalfToFloat(*half)) ++*half;
  return (*half & 0x7c00u) != 0x7c00u;
}

void QuantizeRowPortable(const float* row, int dim, float scale, uint8_t* coded) {
  // Adding 1.5 * 2^23 rounds to the nearest integer (ties to even) and leaves it in the low bits.
  constexpr float kRounder = 12582912.0f;
  for (int i = 0; i < dim; ++i) {
    const int32_t rounded =
        static_cast<int32_t>(std::bit_cast<uint32_t>(row[i] / scale + kRounder)) -
        static_cast<int32_t>(std::bit_cast<uint32_t>(kRounder));
    const int32_t clamped = rounded > 127 ? 127 : (rounded < -127 ? -127 : rounded);
    coded[i] = static_cast<uint8_t>(static_cast<int8_t>(clamped));
  }
}

void ScaleInt8RowPortable(const int8_t* coded, int dim, float scale, float* row) {
  for (int i = 0; i < dim; ++i) row[i] = static_cast<float>(coded[i]) * scale;
}

#if defined(__x86_64__)
EID_AVX2 uint32_t MaxAbsBitsAvx2(const float* values, size_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256();
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
    largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, magnitude));
  }
  uint32_t lanes[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), largest);
  uint32_t most = MaxAbsBitsPortable(values + i, count - i);
  for (const uint32_t lane : lanes) most = lane > most ? lane : most;
  return most;
}

EID_AVX2 void QuantizeRowAvx2(const float* row, int dim, float scale, uint8_t* coded) {
  const __m256 divisor = _mm256_set1_ps(scale);
  const __m256i top = _mm256_set1_epi32(127);
  const __m256i bottom = _mm256_set1_epi32(-127);
  int i = 0;
  for (; i + 8 <= dim; i += 8) {
    const __m256 scaled = _mm256_div_ps(_mm256_loadu_ps(row + i), divisor);
    const __m256 nearest = _mm256_round_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i whole =
        _mm256_max_epi32(_mm256_min_epi32(_mm256_cvtps_epi32(nearest), top), bottom);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(coded + i), _mm_packs_epi16(words, words));
  }
  QuantizeRowPortable(row + i, dim - i, scale, coded + i);
}

EID_AVX2 void ScaleInt8RowAvx2(const int8_t* coded, int dim, float scale, float* row) {
  const __m256 factor = _mm256_set1_ps(scale);
  int i = 0;
  for (; i + 8 <= dim; i += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(coded + i));
    const __m256 numbers = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    _mm256_storeu_ps(row + i, _mm256_mul_ps(numbers, factor));
  }
  for (; i < dim; ++i) row[i] = static_cast<float>(coded[i]) * scale;
}

EID_AVX2 void HalfToFloatAvx2(const uint16_t* halves, size_t count, float* values) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + i));
    _mm256_storeu_ps(values + i, _mm256_cvtph_ps(bits));
  }
  for (; i < count; ++i) values[i] = HalfToFloat(halves[i]);
}

EID_AVX2 void FloatToHalfAvx2(const float* values, size_t count, uint16_t* halves) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i), bits);
  }
  for (; i < count; ++i) halves[i] = FloatToHalf(values[i]);
}
#endif

uint32_t MaxAbsBits(const float* values, size_t count, InstructionSet set) {
#if defined(__x86_64__)
  if (set != InstructionSet::kPortable) return MaxAbsBitsAvx2(values, count);
#endif
  (void)set;
  return MaxAbsBitsPortable(values, count);
}

// One row to int8; false when it cannot be coded.
bool EncodeInt8Row(const float* row, int dim, uint8_t* coded, uint8_t* coded_scale,
                   InstructionSet set) {
  uint16_t half;
  if (!RowScale(MaxAbsBits(row, static_cast<size_t>(dim), set), &half)) return false;
  StoreHalf(coded_scale, half);
  const float scale = HalfToFloat(half);
  if (scale == 0.0f) {
    std::memset(coded, 0, static_cast<size_t>(dim));
    return true;
  }
#if defined(__x86_64__)
  if (set != InstructionSet::kPortable) {
    QuantizeRowAvx2(row, dim, scale, coded);
    return true;
  }
#endif
  QuantizeRowPortable(row, dim, scale, coded);
  return true;
}

void ScaleInt8Row(const int8_t* coded, int dim, float scale, float* row, InstructionSet set) {
#if defined(__x86_64__)
  if (set != InstructionSet::kPortable) return ScaleInt8RowAvx2(coded, dim, scale, row);
#endif
  (void)set;
  ScaleInt8RowPortable(coded, dim, scale, row);
}

}  // namespace

const char* CodecName(Codec codec) {
  switch (codec) {
    case Codec::kFp16:
      return "fp16";
    case Codec::kInt8:
      return "int8";
  }
  return "unknown";
}

bool ParseCodec(const char* name, Codec* codec) {
  if (name == nullptr) return false;
  for (const Codec known : {Codec::kFp16, Codec::kInt8}) {
    if (std::strcmp(name, CodecName(known)) == 0) {
      *codec = known;
      return true;
    }
  }
  return false;
}

size_t PayloadBytes(Codec codec, int tokens, int kv_heads, int head_dim) {
  const size_t rows = static_cast<size_t>(tokens) * static_cast<size_t>(kv_heads);
  const size_t numbers = rows * static_cast<size_t>(head_dim);
  return codec == Codec::kFp16 ? numbers * sizeof(uint16_t) : numbers + rows * sizeof(uint16_t);
}

bool EncodeRows(Codec codec, const float* rows, int tokens, int kv_heads, int head_dim,
                uint8_t* payload, InstructionSet set) {
  const size_t row_count = static_cast<size_t>(tokens) * static_cast<size_t>(kv_heads);
  const size_t numbers = row_count * static_cast<size_t>(head_dim);
  if (codec == Codec::kFp16) {
    if (MaxAbsBits(rows, numbers, set) >= kHalfOverflowBits) return false;
    // In pieces, because the payload need not be aligned for uint16_t.
    constexpr size_t kPiece = 256;
    uint16_t halves[kPiece];
    for (size_t at = 0; at < numbers; at += kPiece) {
      const size_t count = numbers - at < kPiece ? numbers - at : kPiece;
      FloatToHalf(rows + at, count, halves, set);
      std::memcpy(payload + at * sizeof(uint16_t), halves, count * sizeof(uint16_t));
    }
    return true;
  }
  for (size_t row = 0; row < row_count; ++row) {
    const size_t at = row * static_cast<size_t>(head_dim);
    if (!EncodeInt8Row(rows + at, head_dim, payload + at, payload + numbers + 2 * row, set)) {
      return false;
    }
  }
  return true;
}

void DecodeRows(Codec codec, const uint8_t* payload, int tokens, int kv_heads, int head_dim,
                float* rows, InstructionSet set) {
  const size_t row_count = static_cast<size_t>(tokens) * static_cast<size_t>(kv_heads);
  const size_t numbers = row_count * static_cast<size_t>(head_dim);
  if (codec == Codec::kFp16) {
    constexpr size_t kPiece = 256;
    uint16_t halves[kPiece];
    for (size_t at = 0; at < numbers; at += kPiece) {
      const size_t count = numbers - at < kPiece ? numbers - at : kPiece;
      std::memcpy(halves, payload + at * sizeof(uint16_t), count * sizeof(uint16_t));
      HalfToFloat(halves, count, rows + at, set);
    }
    return;
  }
  for (size_t row = 0; row < row_count; ++row) {
    const size_t at = row * static_cast<size_t>(head_dim);
    const float scale = HalfToFloat(LoadHalf(payload + numbers + 2 * row));
    ScaleInt8Row(reinterpret_cast<const int8_t*>(payload + at), head_dim, scale, rows + at, set);
  }
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits & kSignMask) >> 16);
  const uint32_t magnitude = bits & ~kSignMask;
  if (magnitude > kInfinityBits) {  // NaN: kept one, its payload cut
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x03ffu));
  }
  if (magnitude >= kHalfOverflowBits) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal in fp16, counted in units of 2^-24
    // Adding 0.5 puts that unit at the last bit of the float: the addition rounds to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t rounded = magnitude - 0x38000000u + 0x0fffu + odd;
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t fraction = half & 0x03ffu;
  if (exponent == 0x1fu) {
    const uint32_t quiet = fraction != 0 ? 0x00400000u : 0u;  // as the hardware does
    return std::bit_cast<float>(sign | kInfinityBits | quiet | (fraction << 13));
  }
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

void FloatToHalf(const float* values, size_t count, uint16_t* halves, InstructionSet set) {
#if defined(__x86_64__)
  if (set != InstructionSet::kPortable) return FloatToHalfAvx2(values, count, halves);
#endif
  (void)set;
  for (size_t i = 0; i < count; ++i) halves[i] = FloatToHalf(values[i]);
}

void HalfToFloat(const uint16_t* halves, size_t count, float* values, InstructionSet set) {
#if defined(__x86_64__)
  if (set != InstructionSet::kPortable) return HalfToFloatAvx2(halves, count, values);
#endif
  (void)set;
  for (size_t i = 0; i < count; ++i) values[i] = HalfToFloat(halves[i]);
}

}  // namespace eidetic::kernels
