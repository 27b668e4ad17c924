#include "memory/block.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "memory/hash.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::SmallLayout;

// Rows of one layer, [tokens, kv_heads, head_dim].
std::vector<float> Ramp(const Layout& layout, int tokens, float step) {
  std::vector<float> rows(static_cast<size_t>(tokens) * static_cast<size_t>(layout.RowWidth()));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = step * static_cast<float>(i % 97) - 3.0f;
  return rows;
}

BlockHeader HeaderOf(int tokens) {
  BlockHeader header;
  header.tokens.assign(static_cast<size_t>(tokens), 5);
  return header;
}

Result<Block> Encode(const Layout& layout, int tokens, std::vector<float> keys,
                     std::vector<float> values) {
  const std::vector<const float*> key_rows(layout.layers.size(), keys.data());
  const std::vector<const float*> value_rows(layout.layers.size(), values.data());
  return EncodeBlock(layout, HeaderOf(tokens), key_rows.data(), value_rows.data());
}

TEST(Block, RepresentativesAreMeansOfEightKeysAndTheLastCoversWhatIsLeft) {
  const Layout layout = SmallLayout();
  for (int tokens : {1, 7, 8, 9, 29, 32}) {
    const std::vector<float> keys = Ramp(layout, tokens, 0.25f);
    EID_ASSERT_RESULT(const Block block, Encode(layout, tokens, keys, keys));
    const int count = (tokens + 7) / 8;
    ASSERT_EQ(block.representatives.size(),
              layout.layers.size() * static_cast<size_t>(count * layout.RowWidth()));
    size_t at = 0;
    for (size_t layer = 0; layer < layout.layers.size(); ++layer) {
      for (int head = 0; head < layout.kv_heads; ++head) {
        for (int group = 0; group < count; ++group) {
          const int begin = group * 8;
          const int end = std::min(tokens, begin + 8);
          for (int i = 0; i < layout.head_dim; ++i) {
            double sum = 0;
            for (int token = begin; token < end; ++token) {
              sum +=
                  keys[static_cast<size_t>((token * layout.kv_heads + head) * layout.head_dim + i)];
            }
            const double mean = sum / (end - begin);
            // Half a unit of fp16's 11 bits, and fp32's rounding of the sum.
            EXPECT_NEAR(kernels::HalfToFloat(block.representatives[at++]), mean,
                        std::fabs(mean) * 0x1p-11 + 1e-5);
          }
        }
      }
    }
  }
}

TEST(Block, PayloadsDecodeToTheirRowsWithinTheCodecsError) {
  for (const kernels::Codec codec : {kernels::Codec::kFp16, kernels::Codec::kInt8}) {
    Layout layout = SmallLayout();
    layout.codec = codec;
    const std::vector<float> keys = Ramp(layout, 19, 0.1f);
    const std::vector<float> values = Ramp(layout, 19, -0.3f);
    EID_ASSERT_RESULT(const Block block, Encode(layout, 19, keys, values));
    ASSERT_EQ(block.keys.size(), layout.layers.size());
    ASSERT_EQ(block.values.size(), layout.layers.size());
    std::vector<float> decoded(keys.size());
    for (const bool is_key : {true, false}) {
      const std::string& payload = is_key ? block.keys[1] : block.values[1];
      const std::vector<float>& rows = is_key ? keys : values;
      kernels::DecodeRows(codec, reinterpret_cast<const uint8_t*>(payload.data()), 19,
                          layout.kv_heads, layout.head_dim, decoded.data());
      for (size_t i = 0; i < rows.size(); ++i) {
        // The largest number here is 32: int8 has steps of 32/127, fp16 of 2^-6.
        EXPECT_NEAR(decoded[i], rows[i], codec == kernels::Codec::kInt8 ? 0.13 : 0.016);
      }
    }
  }
}

TEST(Block, ANumberThatIsNotFiniteIsRefusedAndNamed) {
  const Layout layout = SmallLayout();
  const std::vector<float> good = Ramp(layout, 32, 0.1f);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    std::vector<float> keys = good;
    keys[static_cast<size_t>((5 * layout.kv_heads + 1) * layout.head_dim + 3)] = bad;
    const Status status = Encode(layout, 32, keys, good).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    for (const char* part : {"layer 3", "keys", "token 5", "kv head 1", "component 3"}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    }
    const Status in_values = Encode(layout, 32, good, keys).status();
    EXPECT_NE(in_values.message().find("values"), std::string::npos) << in_values.message();
  }
}

TEST(Block, ANumberTooLargeForFp16IsRefusedWithWhatToDo) {
  Layout layout = SmallLayout();
  layout.codec = kernels::Codec::kFp16;
  const std::vector<float> good = Ramp(layout, 32, 0.1f);
  std::vector<float> large = good;
  large[100] = -70000.0f;
  const Status status = Encode(layout, 32, good, large).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("-70000"), std::string::npos) << status.message();
  EXPECT_FALSE(status.remedy().empty());
}

TEST(Block, RefusesBlocksWithoutTokensOrWithTooMany) {
  const Layout layout = SmallLayout();
  const std::vector<float> rows = Ramp(layout, 40, 0.1f);
  EXPECT_EQ(Encode(layout, 0, rows, rows).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Encode(layout, 33, rows, rows).status().code(), Code::kInvalidArgument);
}

TEST(Layout, ValidateNamesTheFieldThatIsWrong) {
  EID_ASSERT_OK(SmallLayout().Validate());
  const auto expect = [](const char* field, const std::function<void(Layout*)>& change) {
    Layout layout = SmallLayout();
    change(&layout);
    const Status status = layout.Validate();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << field;
    EXPECT_NE(status.message().find(field), std::string::npos) << status.message();
  };
  expect("fingerprint", [](Layout* layout) { layout->fingerprint.clear(); });
  expect("layers", [](Layout* layout) { layout->layers.clear(); });
  expect("ascending", [](Layout* layout) { layout->layers = {3, 3}; });
  expect("layer", [](Layout* layout) { layout->layers = {-1}; });
  expect("layer", [](Layout* layout) { layout->layers = {70000}; });
  expect("kv_heads", [](Layout* layout) { layout->kv_heads = 0; });
  expect("head_dim", [](Layout* layout) { layout->head_dim = 5000; });
  expect("block_tokens", [](Layout* layout) { layout->block_tokens = -4; });
  expect("representative_tokens", [](Layout* layout) { layout->representative_tokens = 33; });
  expect("codec", [](Layout* layout) { layout->codec = static_cast<kernels::Codec>(9); });
}

TEST(Layout, LayersAreFoundByTheirModelNumber) {
  EXPECT_EQ(SmallLayout().LayerIndex(3), 0);
  EXPECT_EQ(SmallLayout().LayerIndex(7), 1);
  EXPECT_EQ(SmallLayout().LayerIndex(4), -1);
  EXPECT_EQ(SmallLayout().LayerIndex(8), -1);
}

TEST(Hash, Sha256OfKnownTexts) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 pieces;
  pieces.Update("a");
  pieces.Update("");
  pieces.Update("bc");
  EXPECT_EQ(pieces.Finish(), Sha256Hex("abc"));
}

TEST(Hash, ARecordsChecksumDependsOnKeyAndValueAndOnTheBorderBetweenThem) {
  EXPECT_NE(RecordChecksum("ab", "c"), RecordChecksum("a", "bc"));
  EXPECT_NE(RecordChecksum("a", "c"), RecordChecksum("b", "c"));
  EXPECT_NE(RecordChecksum("a", "c"), RecordChecksum("a", "d"));
}

}  // namespace
}  // namespace eidetic::memory
