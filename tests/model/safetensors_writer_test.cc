#include "model/safetensors_writer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "model/adapter_file.h"
#include "model/error.h"
#include "model/half.h"
#include "model/safetensors.h"
#include "tests/model/full_disk.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

float OfBfloat16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// By what the format says, in double.
double OfHalf(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

TEST(Half, EveryFiniteHalfComesBackAndWhatLiesBetweenTwoGoesToTheNearer) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto low = static_cast<float>(OfHalf(static_cast<uint16_t>(bits)));
    ASSERT_EQ(RoundToHalf(low), bits);
    ASSERT_EQ(RoundToHalf(-low), bits | 0x8000);
    if (bits == 0x7bff) break;
    const auto high = static_cast<float>(OfHalf(static_cast<uint16_t>(bits + 1)));
    const float middle = low + (high - low) / 2;  // exact
    ASSERT_EQ(RoundToHalf(middle), bits + (bits & 1)) << bits;
    ASSERT_EQ(RoundToHalf(std::nextafter(middle, 0.0f)), bits) << bits;
    ASSERT_EQ(RoundToHalf(std::nextafter(middle, high)), bits + 1) << bits;
  }
  EXPECT_EQ(RoundToHalf(std::nextafter(kHalfOverflow, 0.0f)), 0x7bff);
}

TEST(Half, Bfloat16IsTheNearest) {
  for (const float value : {0.0f, 1.0f, -1.5f, 0x1.FEp127f, 0x1p-133f}) {
    EXPECT_EQ(OfBfloat16(RoundToBfloat16(value)), value);
  }
  EXPECT_EQ(OfBfloat16(RoundToBfloat16(0x1.01p0f)), 1.0f);       // a tie, to the even one
  EXPECT_EQ(OfBfloat16(RoundToBfloat16(0x1.03p0f)), 0x1.04p0f);  // likewise
  EXPECT_EQ(OfBfloat16(RoundToBfloat16(0x1.0101p0f)), 0x1.02p0f);
  EXPECT_EQ(OfBfloat16(RoundToBfloat16(std::nextafter(kBfloat16Overflow, 0.0f))), 0x1.FEp127f);
}

class SafetensorsWriterTest : public ::testing::Test {
 protected:
  void Add(const std::string& name, const std::string& dtype) {
    writer_.Add(name, dtype, {3, 2}, values_);
  }
  const float values_[6] = {0.5f, -1, 3, 1e-3f, 65504, 0};
  SafetensorsWriter writer_;
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "x.safetensors";
};

TEST_F(SafetensorsWriterTest, WhatIsWrittenIsReadBack) {
  Add("b", "F32");
  Add("a", "BF16");
  Add("c", "F16");
  writer_.Add("none", "F32", {0, 2}, nullptr);
  writer_.AddMetadata("format", "pt");
  writer_.Write(path_);
  const auto file = SafetensorsFile::Open(path_);
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->tensors().size(), 4u);
  float read[6];
  ReadValues(file->Tensor("b", "F32", {3, 2}), 0, 6, read);
  EXPECT_EQ(std::memcmp(read, values_, sizeof(read)), 0);
  ReadValues(file->Tensor("a", "BF16", {3, 2}), 0, 6, read);
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(read[i], values_[i], std::fabs(values_[i]) * 0x1p-8);
  ReadValues(file->Tensor("c", "F16", {3, 2}), 2, 4, read);
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(read[i], values_[i + 2], std::fabs(values_[i + 2]) * 0x1p-11);
  }
}

TEST_F(SafetensorsWriterTest, WideTypesComeFirstAndDataIsAligned) {
  Add("a", "F16");
  Add("b", "F32");
  Add("c", "F32");
  const std::string bytes = writer_.Bytes();
  uint64_t length;
  std::memcpy(&length, bytes.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
  writer_.Write(path_);
  EXPECT_EQ(ReadFile(path_), bytes);
  const auto file = SafetensorsFile::Open(path_);
  const auto& tensors = file->tensors();
  EXPECT_EQ(tensors.at("c").data - tensors.at("b").data, 24);
  EXPECT_EQ(tensors.at("a").data - tensors.at("c").data, 24);
}

TEST_F(SafetensorsWriterTest, TheOrderOfCallsHasNoPartInTheBytes) {
  Add("a", "F16");
  Add("b", "F32");
  const std::string one = writer_.Bytes();
  writer_ = SafetensorsWriter();
  Add("b", "F32");
  Add("a", "F16");
  EXPECT_EQ(writer_.Bytes(), one);
}

TEST_F(SafetensorsWriterTest, WhatCannotBeWrittenIsNamed) {
  const auto expect_refused = [&](const std::string& name, const std::string& dtype, float value,
                                  const std::string& part) {
    try {
      writer_.Add(name, dtype, {1}, &value);
      ADD_FAILURE() << "no error about: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  Add("a", "F32");
  expect_refused("a", "F32", 1, "there is one of this name");
  expect_refused("__metadata__", "F32", 1, "'__metadata__'");
  expect_refused("x", "I8", 1, "'I8'");
  expect_refused("x", "F32", NAN, "no number of F32");
  expect_refused("x", "F32", INFINITY, "no number of F32");
  expect_refused("x", "F16", 65520, "no number of F16");
  expect_refused("x", "BF16", 0x1.FFp127f, "no number of BF16");
  EXPECT_EQ(writer_.Bytes().find("\"x\""), std::string::npos);
}

TEST_F(SafetensorsWriterTest, AFullDiskIsReportedAndLeavesTheOldFile) {
  Add("a", "F32");
  WriteFile(path_, "the old one");
  const size_t size = writer_.Bytes().size();
  for (const size_t room : {size_t{0}, size_t{9}, size - 1}) {
    bytes_until_full = static_cast<int64_t>(room);
    try {
      writer_.Write(path_);
      ADD_FAILURE() << "no error with room for " << room;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNoSpace) << error.what();
    }
    bytes_until_full = -1;
    EXPECT_EQ(ReadFile(path_), "the old one");
  }
  bytes_until_full = static_cast<int64_t>(size);
  writer_.Write(path_);
  bytes_until_full = -1;
  EXPECT_EQ(ReadFile(path_), writer_.Bytes());
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(path_).parent_path())) {
    files += entry.is_regular_file();
  }
  EXPECT_EQ(files, 1u);
}

}  // namespace
}  // namespace eidetic::model
