#include "kernels/block_codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace eidetic::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();

std::vector<float> RandomRows(size_t count, float size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> rows(count);
  for (float& number : rows) number = normal(random);
  return rows;
}

// The value of fp16 bits by the definition of binary16.
double HalfByDefinition(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const double fraction = (half & 1023) / 1024.0;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

bool IsFiniteHalf(int half) {
  return (half & 0x7c00) != 0x7c00;
}

TEST(HalfConversion, EveryFiniteHalfHasTheValueOfItsDefinition) {
  for (int half = 0; half < 65536; ++half) {
    if (!IsFiniteHalf(half)) continue;
    ASSERT_EQ(HalfByDefinition(static_cast<uint16_t>(half)),
              static_cast<double>(HalfToFloat(static_cast<uint16_t>(half))))
        << half;
  }
}

TEST(HalfConversion, EveryHalfComesBackFromFloat) {
  for (int half = 0; half < 65536; ++half) {
    if (!IsFiniteHalf(half) && (half & 0x3ff) != 0) continue;  // NaN: checked below
    ASSERT_EQ(half, FloatToHalf(HalfToFloat(static_cast<uint16_t>(half))));
  }
  EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(kNotANumber))));
}

TEST(HalfConversion, RoundsToTheNearestAndTiesToEven) {
  for (int half = 0; half < 0x7bff; ++half) {
    const double low = HalfByDefinition(static_cast<uint16_t>(half));
    const double high = HalfByDefinition(static_cast<uint16_t>(half + 1));
    const float middle = static_cast<float>((low + high) / 2);  // exact: one bit more
    const int even = half % 2 == 0 ? half : half + 1;
    ASSERT_EQ(even, FloatToHalf(middle)) << half;
    ASSERT_EQ(half, FloatToHalf(std::nextafter(middle, 0.0f))) << half;
    ASSERT_EQ(half + 1, FloatToHalf(std::nextafter(middle, kInfinity))) << half;
    ASSERT_EQ(even | 0x8000, FloatToHalf(-middle)) << half;
  }
  EXPECT_EQ(0x7bff, FloatToHalf(std::nextafter(65520.0f, 0.0f)));
  EXPECT_EQ(0x7c00, FloatToHalf(65520.0f));
  EXPECT_EQ(0xfc00, FloatToHalf(-kInfinity));
  EXPECT_EQ(0, FloatToHalf(std::numeric_limits<float>::denorm_min()));
}

TEST(HalfConversion, ArraysOfAnyLengthEqualSingleNumbers) {
  std::vector<float> values = RandomRows(67, 1000.0f, 1);
  for (const float special : {0.0f, -0.0f, 6e-8f, -3e-5f, 65504.0f, 1e9f, -kInfinity, 1e-30f}) {
    values.push_back(special);
  }
  for (size_t count = 0; count <= values.size(); ++count) {
    std::vector<uint16_t> halves(count);
    FloatToHalf(values.data(), count, halves.data());
    std::vector<float> back(count);
    HalfToFloat(halves.data(), count, back.data());
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(FloatToHalf(values[i]), halves[i]) << values[i];
      ASSERT_EQ(std::bit_cast<uint32_t>(HalfToFloat(halves[i])), std::bit_cast<uint32_t>(back[i]));
    }
  }
  std::vector<uint16_t> all;
  for (int half = 0; half < 65536; ++half) {
    if (IsFiniteHalf(half)) all.push_back(static_cast<uint16_t>(half));
  }
  std::vector<float> widened(all.size());
  HalfToFloat(all.data(), all.size(), widened.data());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(HalfToFloat(all[i]), widened[i]);
}

TEST(Codec, NamesAreReadBackAndOthersRefused) {
  Codec codec = Codec::kFp16;
  for (const Codec known : {Codec::kInt8, Codec::kFp16}) {
    ASSERT_TRUE(ParseCodec(CodecName(known), &codec));
    EXPECT_EQ(known, codec);
  }
  for (const char* other : {"", "int4", "INT8", "int8 "}) EXPECT_FALSE(ParseCodec(other, &codec));
  EXPECT_FALSE(ParseCodec(nullptr, &codec));
}

TEST(Codec, PayloadBytesAreTheNumbersAndForInt8AScaleARow) {
  EXPECT_EQ(32u * 3 * 64 * 2, PayloadBytes(Codec::kFp16, 32, 3, 64));
  EXPECT_EQ(32u * 3 * (64 + 2), PayloadBytes(Codec::kInt8, 32, 3, 64));
}

// Shapes with odd sizes, and sizes of rows from fp16's subnormals to near its largest.
struct Shape {
  int tokens, kv_heads, head_dim;
};
constexpr Shape kShapes[] = {{32, 3, 64}, {1, 1, 1}, {5, 2, 7}, {31, 3, 80}, {2, 1, 129}};
constexpr float kSizes[] = {1e-9f, 3e-7f, 1e-4f, 0.01f, 1.0f, 77.0f, 12000.0f};

TEST(Codec, Fp16RowsComeBackWithinHalfAUnitInTheLastPlace) {
  for (const Shape& s : kShapes) {
    for (const float size : kSizes) {
      const size_t count = static_cast<size_t>(s.tokens) * s.kv_heads * s.head_dim;
      const std::vector<float> rows = RandomRows(count, size, 2);
      std::vector<uint8_t> payload(PayloadBytes(Codec::kFp16, s.tokens, s.kv_heads, s.head_dim));
      ASSERT_TRUE(
          EncodeRows(Codec::kFp16, rows.data(), s.tokens, s.kv_heads, s.head_dim, payload.data()));
      std::vector<float> back(count);
      DecodeRows(Codec::kFp16, payload.data(), s.tokens, s.kv_heads, s.head_dim, back.data());
      for (size_t i = 0; i < count; ++i) {
        ASSERT_LE(std::fabs(back[i] - rows[i]), std::max(std::fabs(rows[i]) * 0x1p-11f, 0x1p-25f));
      }
    }
  }
}

TEST(Codec, Int8RowsComeBackWithinHalfAScale) {
  for (const Shape& s : kShapes) {
    for (const float size : kSizes) {
      const size_t row_count = static_cast<size_t>(s.tokens) * s.kv_heads;
      const size_t count = row_count * s.head_dim;
      const std::vector<float> rows = RandomRows(count, size, 3);
      std::vector<uint8_t> payload(PayloadBytes(Codec::kInt8, s.tokens, s.kv_heads, s.head_dim));
      ASSERT_TRUE(
          EncodeRows(Codec::kInt8, rows.data(), s.tokens, s.kv_heads, s.head_dim, payload.data()));
      std::vector<float> back(count);
      DecodeRows(Codec::kInt8, payload.data(), s.tokens, s.kv_heads, s.head_dim, back.data());
      for (size_t row = 0; row < row_count; ++row) {
        float largest = 0;
        for (int d = 0; d < s.head_dim; ++d) {
          largest = std::max(largest, std::fabs(rows[row * s.head_dim + d]));
        }
        const uint8_t* stored = payload.data() + count + 2 * row;
        const float scale = HalfToFloat(static_cast<uint16_t>(stored[0] | stored[1] << 8));
        // The scale is the nearest fp16, or the next one among subnormals (units of 2^-24).
        ASSERT_NEAR(scale, largest / 127, std::max(largest / 127 * 0x1p-11f, 0x1p-24f));
        for (int d = 0; d < s.head_dim; ++d) {
          const size_t i = row * s.head_dim + d;
          ASSERT_LE(std::fabs(back[i] - rows[i]), scale / 2 * (1 + 0x1p-10f)) << size;
        }
      }
    }
  }
}

TEST(Codec, EveryInstructionSetGivesTheSameBits) {
  for (const Shape& s : kShapes) {
    for (const float size : kSizes) {
      const size_t count = static_cast<size_t>(s.tokens) * s.kv_heads * s.head_dim;
      std::vector<float> rows = RandomRows(count, size, 6);
      for (size_t i = 0; i < count; i += 3) rows[i] = std::round(rows[i] / size * 2) * size / 2;
      for (const Codec codec : {Codec::kFp16, Codec::kInt8}) {
        const size_t bytes = PayloadBytes(codec, s.tokens, s.kv_heads, s.head_dim);
        std::vector<uint8_t> portable(bytes), wide(bytes);
        ASSERT_TRUE(EncodeRows(codec, rows.data(), s.tokens, s.kv_heads, s.head_dim,
                               portable.data(), InstructionSet::kPortable));
        std::vector<float> portable_rows(count), wide_rows(count);
        DecodeRows(codec, portable.data(), s.tokens, s.kv_heads, s.head_dim, portable_rows.data(),
                   InstructionSet::kPortable);
        for (const InstructionSet set : {InstructionSet::kAvx2, InstructionSet::kAvx512}) {
          if (!Supports(set)) continue;
          ASSERT_TRUE(
              EncodeRows(codec, rows.data(), s.tokens, s.kv_heads, s.head_dim, wide.data(), set));
          ASSERT_EQ(portable, wide) << InstructionSetName(set) << " size " << size;
          DecodeRows(codec, wide.data(), s.tokens, s.kv_heads, s.head_dim, wide_rows.data(), set);
          ASSERT_EQ(portable_rows, wide_rows);
        }
      }
    }
  }
}

TEST(Codec, ARowOfZerosStaysZero) {
  const std::vector<float> rows(64, 0.0f);
  std::vector<uint8_t> payload(PayloadBytes(Codec::kInt8, 1, 1, 64), 0xff);
  ASSERT_TRUE(EncodeRows(Codec::kInt8, rows.data(), 1, 1, 64, payload.data()));
  std::vector<float> back(64, 1.0f);
  DecodeRows(Codec::kInt8, payload.data(), 1, 1, 64, back.data());
  EXPECT_EQ(rows, back);
}

TEST(Codec, TheLayoutIsTokenThenHeadThenNumberAndScalesFollow) {
  // Row (token t, head h) holds 127 at place 0 times a scale of its own: 1, 2, 4, 8 ...
  std::vector<float> rows(2 * 2 * 3, 0.0f);
  for (int row = 0; row < 4; ++row) rows[row * 3] = 127.0f * static_cast<float>(1 << row);
  std::vector<uint8_t> payload(PayloadBytes(Codec::kInt8, 2, 2, 3));
  ASSERT_TRUE(EncodeRows(Codec::kInt8, rows.data(), 2, 2, 3, payload.data()));
  const std::vector<uint8_t> wanted = {127, 0, 0, 127,  0, 0,    127, 0,    0, 127,
                                       0,   0, 0, 0x3c, 0, 0x40, 0,   0x44, 0, 0x48};
  EXPECT_EQ(wanted, payload);
}

TEST(Codec, APayloadNeedNotBeAligned) {
  const std::vector<float> rows = RandomRows(4 * 2 * 24, 1.0f, 4);
  for (const Codec codec : {Codec::kFp16, Codec::kInt8}) {
    const size_t bytes = PayloadBytes(codec, 4, 2, 24);
    std::vector<uint8_t> aligned(bytes), shifted(bytes + 1);
    ASSERT_TRUE(EncodeRows(codec, rows.data(), 4, 2, 24, aligned.data()));
    ASSERT_TRUE(EncodeRows(codec, rows.data(), 4, 2, 24, shifted.data() + 1));
    EXPECT_TRUE(std::equal(aligned.begin(), aligned.end(), shifted.begin() + 1));
    std::vector<float> one(rows.size()), other(rows.size());
    DecodeRows(codec, aligned.data(), 4, 2, 24, one.data());
    DecodeRows(codec, shifted.data() + 1, 4, 2, 24, other.data());
    EXPECT_EQ(one, other);
  }
}

TEST(Codec, NumbersThatAreNotFiniteAreRefusedWhereverTheyStand) {
  for (const Codec codec : {Codec::kFp16, Codec::kInt8}) {
    std::vector<uint8_t> payload(PayloadBytes(codec, 2, 3, 17));
    for (const float bad : {kInfinity, -kInfinity, kNotANumber, -kNotANumber}) {
      for (size_t at = 0; at < 2 * 3 * 17; ++at) {  // rows of 17: also the last, odd number
        std::vector<float> rows = RandomRows(2 * 3 * 17, 1.0f, 5);
        ASSERT_TRUE(EncodeRows(codec, rows.data(), 2, 3, 17, payload.data()));
        rows[at] = bad;
        ASSERT_FALSE(EncodeRows(codec, rows.data(), 2, 3, 17, payload.data())) << at;
      }
    }
  }
}

TEST(Codec, NumbersTooLargeForTheCodecAreRefused) {
  std::vector<uint8_t> payload(64);
  const auto encodes = [&](Codec codec, float value) {
    return EncodeRows(codec, &value, 1, 1, 1, payload.data());
  };
  EXPECT_TRUE(encodes(Codec::kFp16, 65519.0f));
  EXPECT_FALSE(encodes(Codec::kFp16, 65520.0f));
  EXPECT_FALSE(encodes(Codec::kFp16, -1e10f));
  EXPECT_TRUE(encodes(Codec::kInt8, 127.0f * 65504.0f));
  EXPECT_FALSE(encodes(Codec::kInt8, 127.0f * 65536.0f));
  EXPECT_FALSE(encodes(Codec::kInt8, -3e38f));
}

}  // namespace
}  // namespace eidetic::kernels
