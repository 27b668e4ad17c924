#include "model/packed_floats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "model/error.h"
#include "tests/model/packed_floats_before.h"

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

// What recurrent states are: of each matrix a sum of products that decay, one a token.
std::vector<float> DecayingProducts(size_t matrices, size_t rows, size_t columns) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> values(matrices * rows * columns), row(rows), column(columns);
  for (size_t matrix = 0; matrix < matrices; ++matrix) {
    float* const at = values.data() + matrix * rows * columns;
    for (int token = 0; token < 12; ++token) {
      for (float& one : row) one = normal(random);
      for (float& one : column) one = normal(random);
      for (size_t i = 0; i < rows * columns; ++i) {
        at[i] = 0.5f * at[i] + row[i / columns] * column[i % columns];
      }
    }
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
  for (const uint32_t rows : {0, 1, 2, 31, 32, 33, 70}) {
    for (const uint32_t columns : {1, 3, 8, 64, 65}) {
      for (const std::string lead : {"", "x", "xyz", "a state's head"}) {
        const std::string plain = lead + Bytes(NormalColumns(rows, columns));
        for (const uint32_t chunk : {1, 20, 32, 1000}) {
          for (const size_t begin : {size_t{0}, lead.size(), plain.size() + 1}) {
            for (const size_t terms : {0, 3}) {
              const std::string packed = PackFloats(plain, {chunk, columns, begin, terms});
              EXPECT_EQ(UnpackFloats(packed), plain);
            }
          }
          EXPECT_EQ(UnpackFloats(PackFloats(plain, {.rows = chunk})), plain);
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
  const std::string plain = Bytes(values), packed = PackFloats(plain, {});
  EXPECT_LT(packed.size(), plain.size());
  EXPECT_EQ(UnpackFloats(packed), plain);
}

TEST(PackedFloats, AnyFiniteBitsComeBackBesideSumsOfProducts) {
  std::mt19937 random(9);
  const std::vector<float> special = {0, -0.0f, 1e-45f, -1e-45f, 1e-38f, 1, -1, 1e30f, -1e30f};
  std::vector<float> values = DecayingProducts(20, 64, 64);
  for (size_t i = 0; i < values.size(); ++i) {
    if (random() % 50 == 0) values[i] = special[random() % (i % 4096 < 2048 ? 7 : 9)];
    // Matrices whose numbers, or their products, are below the least normal one, or near the most.
    if (i / 4096 == 3) values[i] *= 1e-38f;
    if (i / 4096 == 4) values[i] *= 1e-43f;
    if (i / 4096 == 5) values[i] *= 1e36f;
  }
  const std::string plain = Bytes(values), packed = PackFloats(plain, {64, 64, 0, 8});
  EXPECT_LT(packed.size(), plain.size());
  EXPECT_EQ(UnpackFloats(packed), plain);
}

TEST(PackedFloats, NumbersOfOneSizeInAColumnTakeASixthLess) {
  const std::string plain = Bytes(NormalColumns(32 * 50, 64));
  EXPECT_LT(PackFloats(plain, {}).size(), plain.size() * 84 / 100);
}

TEST(PackedFloats, SumsOfFewProductsTakeAFourthLess) {
  const std::string plain = "state" + Bytes(DecayingProducts(20, 64, 64));
  const std::string packed = PackFloats(plain, {64, 64, 5, 8});
  EXPECT_LT(packed.size(), plain.size() * 75 / 100);
  EXPECT_EQ(UnpackFloats(packed), plain);
}

TEST(PackedFloats, BytesThatDoNotPackStayAsTheyAre) {
  std::mt19937 random(9);
  std::vector<float> values(6400);
  for (float& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(random()));
  EXPECT_EQ(PackFloats(Bytes(values), {}), Bytes(values));
  EXPECT_EQ(UnpackFloats(Bytes(values)), Bytes(values));
  // What begins as packed bytes do is packed, so that it comes back.
  for (const std::string magic : {"EIDPACK1", "EIDPACK2"}) {
    const std::string taken = magic + Bytes(values);
    EXPECT_NE(PackFloats(taken, {}), taken);
    EXPECT_EQ(UnpackFloats(PackFloats(taken, {})), taken);
  }
}

TEST(PackedFloats, WhatIsCutOffOrLongerIsRefused) {
  std::vector<float> values = NormalColumns(40, 5);
  values[12] = 0;  // stands apart
  for (const size_t terms : {0, 2}) {
    if (terms > 0) values = DecayingProducts(1, 40, 5);
    const std::string whole = PackFloats("ab" + Bytes(values) + "rest", {40, 5, 2, terms});
    ASSERT_TRUE(whole.starts_with("EIDPACK2"));
    for (size_t size = 8; size < whole.size(); ++size) {
      ExpectRefused(whole.substr(0, size), std::to_string(size));
    }
    ExpectRefused(whole + "x", "longer");
  }
}

TEST(PackedFloats, AnyChangedByteGivesAnErrorOrAsManyBytes) {
  for (const size_t terms : {0, 3}) {
    const std::string plain = "head" + Bytes(DecayingProducts(2, 16, 16));
    std::string bytes = PackFloats(plain, {16, 16, 4, terms});
    ASSERT_TRUE(bytes.starts_with("EIDPACK2"));
    for (size_t at = 8; at < bytes.size(); ++at) {
      for (const int bit : {0, 3, 7}) {
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
        try {
          const std::string unpacked = UnpackFloats(bytes);
          EXPECT_EQ(unpacked.size(), plain.size()) << at;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::kCorruption) << at;
        }
        bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
      }
    }
  }
}

// By hand, from docs/formats/session.md.
std::string Head(uint32_t rows, uint32_t columns, uint64_t plain_bytes, uint64_t lead_bytes) {
  std::string head = "EIDPACK2";
  head.append(reinterpret_cast<const char*>(&rows), 4);
  head.append(reinterpret_cast<const char*>(&columns), 4);
  head.append(reinterpret_cast<const char*>(&plain_bytes), 8);
  return head.append(reinterpret_cast<const char*>(&lead_bytes), 8);
}

TEST(PackedFloats, TheLayoutIsAsItIsWritten) {
  // One row of 1 and 1.5, exponents 127. The first column's level stands apart, the others, the row
  // and the numbers are as expected: symbol 15 is the bit 1, symbol 10 the bit 0.
  const std::string plain = "xy" + Bytes({1.0f, -1.5f});
  const std::string head = Head(1, 2, 10, 2) + "xy";
  const std::string lengths("\0\0\0\0\0\1\0\x10", 8);
  const std::string codes("\x80", 1), apart("\x7f", 1), low("\0\0\0\0", 4), high("\0\xc0", 2);
  const std::string none(1, '\0');
  EXPECT_EQ(UnpackFloats(head + none + lengths + codes + apart + low + high), plain);
  ExpectRefused(head + none + lengths + "\x81" + apart + low + high, "not filled with zeros");
  ExpectRefused(head + none + lengths + codes + "\x03" + low + high, "3 - 0 has a symbol");
  ExpectRefused(head + none + std::string("\0\0\0\0\0\2\0\x10", 8) + codes + apart + low + high,
                "bits that are no code");
  ExpectRefused(head + "\x09" + lengths + codes + apart + low + high, "nine terms");

  // A term of 0.5 * 2 * (1, -3): 1 and -3. Levels of 100 make both numbers differences; expected
  // are 25 + 100 - 127 = -2 and 25 + 100 - 128 = -3 bits. They have 2 and 0: symbols 14 and 13;
  // lengths of one bit for 14, two for 13, three for 10 and 15, whose codes are 0, 10, 110 and 111:
  // apart, 10, 10, 14, 13 is 111 110 110 0 10. The difference 1 is folded to 2, binary 10.
  const std::string term("\1\0\0\0\x3f\2\1\xfd", 8);
  const std::string of_terms("\0\0\0\0\0\3\x20\x31", 8);
  const std::string rest = std::string("\xfb\x20", 2) + "\x64" + none;
  const float above = std::bit_cast<float>(std::bit_cast<uint32_t>(1.0f) + 1);
  EXPECT_EQ(UnpackFloats(head + term + of_terms + rest), "xy" + Bytes({above, -3.0f}));
  const std::string infinite("\1\0\0\x80\x7f\2\1\xfd", 8);
  ExpectRefused(head + infinite + of_terms + rest, "an infinite term");
}

TEST(PackedFloats, HeadsThatCannotBeAreRefused) {
  const std::string whole = PackFloats(Bytes(std::vector<float>(400, 1.0f)), {100, 4, 0, 0});
  ASSERT_TRUE(whole.starts_with("EIDPACK2"));
  const auto changed = [&](size_t at, char to) {
    std::string bytes = whole;
    bytes[at] = to;
    return bytes;
  };
  ExpectRefused(changed(8, 0), "no rows");
  ExpectRefused(changed(15, 1), "too many columns");
  ExpectRefused(changed(16, 1), "another length");
  ExpectRefused(changed(23, 1), "an immense length");
  ExpectRefused(changed(24, 1), "half a number");
  ExpectRefused(changed(31, 1), "an immense lead");
}

// --- as numbers were packed at first -----------------------------------------------------------

TEST(PackedFloats, WhatWasPackedAtFirstIsRead) {
  std::vector<float> values = NormalColumns(70, 64);
  values[12] = 0;
  values[70] = NAN;
  const std::string plain = "xyz" + Bytes(values) + "rest";
  for (const uint32_t rows : {1, 32, 1000}) {
    for (const uint32_t columns : {5, 64}) {
      const std::string packed = PackFloatsBefore(plain, rows, columns);
      EXPECT_EQ(UnpackFloats(packed), plain);
      ExpectRefused(packed.substr(0, packed.size() - 1), "cut off");
      ExpectRefused(packed + "x", "longer");
    }
  }
}

TEST(PackedFloats, DamageToWhatWasPackedAtFirstIsRefused) {
  // Rows and columns, the plain length, then of the chunk four largest exponents, their codes of
  // three bits, and so on.
  const std::string whole = PackFloatsBefore(Bytes(std::vector<float>(400, 1.0f)), 100, 4);
  const auto changed = [&](size_t at, char to) {
    std::string bytes = whole;
    bytes[at] = to;
    return bytes;
  };
  ExpectRefused(changed(8, 0), "no rows");
  ExpectRefused(changed(16, 1), "another length");
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
