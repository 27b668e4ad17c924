// Numbers of 16 bits, rounded to from fp32: to the nearest, and of two as near to the even one.
#ifndef EIDETIC_MODEL_HALF_H_
#define EIDETIC_MODEL_HALF_H_

#include <bit>
#include <cstdint>

namespace eidetic::model {

// What a value must stay below in magnitude, or it would round to infinity.
inline constexpr float kHalfOverflow = 65520;
inline constexpr float kBfloat16Overflow = 0x1.FFp127f;

// The bits of the nearest half of a finite value below kHalfOverflow.
inline uint16_t RoundToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x38800000u) {  // 2^-14: normal; a carry out of the fraction is right
    const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u);
    return static_cast<uint16_t>(sign | rounded >> 13);
  }
  // The sum's last bit is worth 2^-24, as that of a subnormal half is: the addition rounds.
  const float sum = std::bit_cast<float>(magnitude) + 0.5f;
  return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000u));
}

// The bits of the nearest bfloat16 of a finite value below kBfloat16Overflow.
inline uint16_t RoundToBfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_HALF_H_
