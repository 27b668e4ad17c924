#include "model/packed_floats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "model/error.h"

namespace eidetic::model {
namespace {

std::string Bytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

std::vector<float> NormalColumns(size_t rows, size_t columns) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * columns);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = normal(random) * std::exp2(static_cast<float>(i % columns % 17));
  }
  return values;
}

void ExpectRefused(const std::string& bytes, const std::string& what) {
  try {
    UnpackFloats(bytes);
    ADD_FAILURE() << what;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruption) << what;
  }
}

TEST(PackedFloats, AnyShapeComesBackToTheBit) {
  for (const size_t rows : {0, 1, 2, 31, 32, 33, 70}) {
    for (const size_t columns : {1, 3, 8, 64, 65}) {
      for (const char* lead : {"", "x", "xyz", "a state's head"}) {
        const std::string plain = lead + Bytes(NormalColumns(rows, columns));
        for (const uint32_t chunk : {1, 20, 32, 1000}) {
          EXPECT_EQ(UnpackFloats(PackFloats(plain, chunk, static_cast<uint32_t>(columns))), plain);
          EXPECT_EQ(UnpackFloats(PackFloats(plain, chunk, 64)), plain);
        }
      }
    }
  }
}

TEST(PackedFloats, AnyBitsComeBack) {
  // Some columns of any bits among those that pack well, so that the whole is packed.
  std::mt19937 random(8);
  std::vector<float> values = NormalColumns(320, 64);
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> special = {0,    -0.0f,  infinity, -infinity, NAN,
                                      -NAN, 1e-45f, -1e-45f,  1,         1e38f};
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % 64 == 5) values[i] = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (i % 64 == 9) values[i] = special[random() % special.size()];
  }
  const std::string plain = Bytes(values), packed = PackFloats(plain, 32, 64);
  EXPECT_LT(packed.size(), plain.size());
  EXPECT_EQ(UnpackFloats(packed), plain);
}

TEST(PackedFloats, NumbersOfOneSizeInAColumnTakeASeventhLess) {
  const std::string plain = Bytes(NormalColumns(32 * 50, 64));
  EXPECT_LT(PackFloats(plain, 32, 64).size(), plain.size() * 87 / 100);
}

TEST(PackedFloats, BytesThatDoNotPackStayAsTheyAre) {
  std::mt19937 random(9);
  std::vector<float> values(6400);
  for (float& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(random()));
  EXPECT_EQ(PackFloats(Bytes(values), 32, 64), Bytes(values));
  EXPECT_EQ(UnpackFloats(Bytes(values)), Bytes(values));
  // What begins as packed bytes do is packed, so that it comes back.
  const std::string taken = "EIDPACK1" + Bytes(values);
  EXPECT_NE(PackFloats(taken, 32, 64), taken);
  EXPECT_EQ(UnpackFloats(PackFloats(taken, 32, 64)), taken);
}

TEST(PackedFloats, WhatIsCutOffOrLongerIsRefused) {
  std::vector<float> values = NormalColumns(40, 5);
  values[12] = 0;  // stands apart
  const std::string whole = PackFloats("ab" + Bytes(values) + "rest", 32, 5);
  ASSERT_TRUE(whole.starts_with("EIDPACK1"));
  for (size_t size = 8; size < whole.size(); ++size) {
    ExpectRefused(whole.substr(0, size), std::to_string(size));
  }
  ExpectRefused(whole + "x", "longer");
}

TEST(PackedFloats, HeadsAndExponentsThatCannotBeAreRefused) {
  // Rows and columns, the plain length, then of the chunk four largest exponents, their codes of
  // three bits, and so on.
  const std::string whole = PackFloats(Bytes(std::vector<float>(400, 1.0f)), 100, 4);
  ASSERT_TRUE(whole.starts_with("EIDPACK1"));
  const auto changed = [&](size_t at, char to) {
    std::string bytes = whole;
    bytes[at] = to;
    return bytes;
  };
  ExpectRefused(changed(8, 0), "no rows");
  ExpectRefused(changed(15, 1), "too many columns");
  ExpectRefused(changed(16, 1), "another length");
  ExpectRefused(changed(23, 1), "an immense length");
  std::string below = changed(24, 2);
  below[28] = 3;
  ExpectRefused(below, "an exponent of 2 - 3");
  std::string apart = changed(28, 7) + std::string(1, 121);
  ExpectRefused(apart, "127 - 121 has a code");
  apart.back() = 120;
  EXPECT_EQ(UnpackFloats(apart).substr(4), Bytes(std::vector<float>(399, 1.0f)));
}

}  // namespace
}  // namespace eidetic::model
