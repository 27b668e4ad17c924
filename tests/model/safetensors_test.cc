#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "model/error.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

std::string File(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

constexpr char kGood[] =
    R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"I8","shape":[3],"data_offsets":[8,11]},)"
    R"("c":{"dtype":"F16","shape":[0,4],"data_offsets":[11,11]}})";
const std::string kData("\0\0\x80\x3f\0\0\0\xc0\x01\xff\x80", 11);

class SafetensorsTest : public ::testing::Test {
 protected:
  std::shared_ptr<const SafetensorsFile> Open(const std::string& bytes) {
    WriteFile(path_, bytes);
    return SafetensorsFile::Open(path_);
  }
  void ExpectRefused(const std::string& bytes, const std::string& part,
                     ErrorCode code = ErrorCode::kCorruption) {
    try {
      Open(bytes);
      ADD_FAILURE() << "no error about: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  // The good header with `from` replaced.
  static std::string Changed(const std::string& from, const std::string& to) {
    std::string header = kGood;
    header.replace(header.find(from), from.size(), to);
    return File(header, kData);
  }
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "x.safetensors";
};

TEST_F(SafetensorsTest, ReadsTensorsAndMetadata) {
  const auto file = Open(File(kGood, kData));
  EXPECT_EQ(file->metadata().at("k"), "v");
  EXPECT_EQ(file->tensors().size(), 3u);
  float values[2];
  std::memcpy(values, file->Tensor("a", "F32", {2, 1}).data, sizeof(values));
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -2.0f);
  const SafeTensor& b = file->Tensor("b", "I8", {3});
  EXPECT_EQ(static_cast<int8_t>(b.data[1]), -1);
  EXPECT_EQ(static_cast<int8_t>(b.data[2]), -128);
  EXPECT_EQ(file->Tensor("c", "F16", {0, 4}).bytes, 0u);
}

TEST_F(SafetensorsTest, NamesATensorThatIsMissingOrAnother) {
  const auto file = Open(File(kGood, kData));
  EXPECT_THROW(file->Tensor("d", "F32", {1}), Error);
  EXPECT_THROW(file->Tensor("a", "F32", {1, 2}), Error);
  try {
    file->Tensor("a", "F16", {2, 1});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'a' as F32 [2, 1], expected F16 [2, 1]"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(SafetensorsTest, RefusesBadHeaders) {
  ExpectRefused("1234567", "shorter than");
  ExpectRefused(std::string(8, '\xff'), "claims a header");
  ExpectRefused(File(kGood, kData).substr(0, 40), "claims a header");
  ExpectRefused(File("", ""), "no JSON");
  ExpectRefused(File("{\"a\":", ""), "no JSON");
  ExpectRefused(File("[1]", ""), "no JSON object");
  ExpectRefused(File(std::string(100000, '['), ""), "no JSON");
  ExpectRefused(File("{\"\xff\":1}", ""), "no JSON");
  ExpectRefused(Changed("\"v\"", "7"), "metadata 'k'");
  ExpectRefused(Changed("{\"k\":\"v\"}", "[]"), "metadata that is no JSON object");
  ExpectRefused(Changed("\"c\":", "\"b\":"), "names 'b' twice");
}

TEST_F(SafetensorsTest, RefusesBadTensors) {
  ExpectRefused(Changed("\"F32\"", "\"F31\""), "the dtype 'F31'", ErrorCode::kUnsupported);
  ExpectRefused(Changed("\"F32\"", "32"), "no dtype");
  ExpectRefused(Changed("\"shape\":[2,1]", "\"shape\":2"), "no shape");
  ExpectRefused(Changed("[2,1]", "[-2,1]"), "a bad number in its shape");
  ExpectRefused(Changed("[2,1]", "[2.0,1]"), "a bad number in its shape");
  ExpectRefused(Changed("[2,1]", "[4294967296,4294967296]"), "too many values");
  ExpectRefused(Changed("[2,1]", "[1,1,1,1,1,1,1,1,2]"), "too many dimensions");
  ExpectRefused(Changed("[2,1]", "[3,1]"), "8 bytes, not the 12 of F32 [3, 1]");
  ExpectRefused(Changed("[0,8]", "[8,0]"), "no range");
  ExpectRefused(Changed("[0,8]", "[0]"), "no range");
  ExpectRefused(Changed("[8,11]", "[9,12]"), "no range");
  ExpectRefused(Changed("[8,11]", "[18446744073709551615,2]"), "no range");
}

TEST_F(SafetensorsTest, TensorsMustFillTheDataExactly) {
  ExpectRefused(Changed("[8,11]", "[7,10]"), "an overlap before tensor 'b'");
  ExpectRefused(File(kGood, kData + "x"), "bytes behind its last tensor");
  ExpectRefused(File(kGood, kData.substr(0, 10)), "no range");
  std::string header = kGood;
  header.replace(header.find("[8,11]"), 6, "[9,12]");
  ExpectRefused(File(header, kData + "x"), "a gap before tensor 'b'");
}

TEST_F(SafetensorsTest, AnyChangedByteOfTheHeaderGivesAnErrorOrTensorsWithinTheFile) {
  const std::string good = File(kGood, kData);
  const size_t header = good.size() - kData.size();
  for (size_t at = 0; at < header; ++at) {
    for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ change);
      try {
        const auto file = Open(bytes);
        uint64_t total = 0;
        for (const auto& [name, tensor] : file->tensors()) total += tensor.bytes;
        ASSERT_LE(total, bytes.size()) << "byte " << at;
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(SafetensorsTest, EveryTruncationIsAnError) {
  const std::string good = File(kGood, kData);
  for (size_t length = 0; length < good.size(); ++length) {
    WriteFile(path_, good.substr(0, length));
    ASSERT_THROW(SafetensorsFile::Open(path_), Error) << length << " bytes";
  }
}

}  // namespace
}  // namespace eidetic::model
