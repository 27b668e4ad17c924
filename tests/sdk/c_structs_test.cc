// How a struct that grew is read from, and told to, a program that was compiled before it did.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "sdk/c_handles.h"

namespace eidetic::sdk {

struct Grown {
  size_t struct_size;
  int first;
  int second;
  double later;  // of a later version
};

template <>
inline constexpr std::array<size_t, 2> kKnownSizes<Grown> = {offsetof(Grown, later), sizeof(Grown)};

namespace {

TEST(CStructs, AnOlderStructEndsInZeros) {
  const Grown given = {offsetof(Grown, later), 1, 2, 3.0};
  Grown read;
  ASSERT_TRUE(ReadOptions(&given, "Grown", &read).ok());
  EXPECT_EQ(read.first, 1);
  EXPECT_EQ(read.second, 2);
  EXPECT_EQ(read.later, 0.0);
}

TEST(CStructs, AnOlderResultIsFilledAsFarAsItGoes) {
  Grown out = {offsetof(Grown, later), 1, 2, 3.0};
  ASSERT_TRUE(CheckResult(&out, "Grown").ok());
  WriteResult(Grown{0, 7, 8, 9.0}, &out);
  EXPECT_EQ(out.struct_size, offsetof(Grown, later));
  EXPECT_EQ(out.first, 7);
  EXPECT_EQ(out.second, 8);
  EXPECT_EQ(out.later, 3.0);
  Clear(&out);
  EXPECT_EQ(out.first, 0);
  EXPECT_EQ(out.later, 3.0);
}

TEST(CStructs, EveryOtherSizeIsRefusedAndToldApart) {
  for (size_t size = 0; size < sizeof(Grown) + 64; ++size) {
    const Grown given = {size, 1, 2, 3.0};
    Grown read;
    const memory::Status status = ReadOptions(&given, "Grown", &read);
    const bool known = size == offsetof(Grown, later) || size == sizeof(Grown);
    ASSERT_EQ(status.ok(), known) << size;
    if (known) continue;
    EXPECT_NE(status.message().find(" is " + std::to_string(size)), std::string::npos);
    EXPECT_EQ(status.remedy().find("newer eidetic.h") != std::string::npos, size > sizeof(Grown));
  }
}

}  // namespace
}  // namespace eidetic::sdk
