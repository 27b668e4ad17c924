#include "model/hybridize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "model/config.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/merge.h"
#include "model/safetensors.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

// Three layers, four query heads of 8 that share two key heads.
class HybridizeTest : public ::testing::Test {
 protected:
  static constexpr int kHidden = 32, kHeads = 4, kKeyHeads = 2, kHeadDim = 8, kLayers = 3;

  HybridizeTest() { WriteBase("llama"); }

  void WriteBase(const std::string& architecture) {
    GgufWriter writer;
    writer.AddString("general.architecture", architecture);
    writer.AddString("general.name", "Tiny base");
    writer.AddString("general.license", "apache-2.0");
    writer.AddUint32("llama.block_count", kLayers);
    writer.AddUint32("llama.embedding_length", kHidden);
    writer.AddUint32("llama.feed_forward_length", 64);
    writer.AddUint32("llama.context_length", 256);
    writer.AddUint32("llama.attention.head_count", kHeads);
    writer.AddUint32("llama.attention.head_count_kv", kKeyHeads);
    writer.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer.AddStringArray("tokenizer.ggml.tokens", {"a", "b", "c", "d"});
    writer.AddTensor("token_embd.weight", {4, kHidden}, GgmlType::kF32);
    for (int layer = 0; layer < kLayers; ++layer) {
      const std::string block = "blk." + std::to_string(layer) + ".";
      writer.AddTensor(block + "attn_q.weight", {kHeads * kHeadDim, kHidden}, GgmlType::kF32);
      writer.AddTensor(block + "attn_k.weight", {kKeyHeads * kHeadDim, kHidden}, GgmlType::kF32);
      writer.AddTensor(block + "attn_v.weight", {kKeyHeads * kHeadDim, kHidden}, GgmlType::kF32);
      writer.AddTensor(block + "attn_output.weight", {kHidden, kHeads * kHeadDim}, GgmlType::kF32);
    }
    std::string data(writer.data_bytes(), '\0');
    for (size_t i = 0; i + sizeof(float) <= data.size(); i += sizeof(float)) {
      const auto value =
          static_cast<float>(i / sizeof(float));  // each number says where it is from
      std::memcpy(&data[i], &value, sizeof(value));
    }
    WriteFile(base_, writer.Header() + data);
  }

  static std::string Hash(const std::string& path) {
    // Of this base alone: MergeModel only compares it.
    return std::string(63, 'a') + (path.ends_with("base.gguf") ? "b" : "c");
  }
  void Make(std::vector<int> layers, uint64_t seed = 0, const std::string& folder = "patch") {
    Hybridize(base_, {std::move(layers), 4, seed}, folder_ / folder, Hash);
  }
  void ExpectRefused(std::vector<int> layers, ErrorCode code, const std::string& words) {
    try {
      Make(std::move(layers), 0, "refused");
      ADD_FAILURE() << "no error about: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / "refused"));
  }
  static std::vector<float> Values(const SafeTensor& tensor) {
    std::vector<float> values(tensor.bytes / sizeof(float));
    std::memcpy(values.data(), tensor.data, tensor.bytes);
    return values;
  }
  std::vector<float> OfBase(const std::string& name) const {
    const auto file = GgufFile::Open(base_);
    std::vector<float> values(file->FindTensor(name)->Values());
    file->ReadTensor(*file->FindTensor(name), values.data());
    return values;
  }

  TemporaryFolder folder_;
  const std::string base_ = folder_ / "base.gguf";
};

TEST_F(HybridizeTest, AMixerBeginsAsTheAttentionItReplaces) {
  Make({1});
  const auto patch = SafetensorsFile::Open(folder_ / "patch/mixers.safetensors");
  const std::string mixer = "model.layers.2.mamba.";
  const size_t inner = kHeads * kHeadDim, rows = 4 * inner + kHeads;
  const std::vector<float> in =
      Values(patch->Tensor(mixer + "in_proj.weight", "F32", {rows, kHidden}));
  const std::vector<float> q = OfBase("blk.2.attn_q.weight"), k = OfBase("blk.2.attn_k.weight"),
                           v = OfBase("blk.2.attn_v.weight");
  for (size_t row = 0; row < inner; ++row) {
    const size_t key_row = row / (2 * kHeadDim) * kHeadDim + row % kHeadDim;  // two heads share one
    for (size_t i = 0; i < kHidden; ++i) {
      ASSERT_EQ(in[(inner + row) * kHidden + i], v[key_row * kHidden + i]) << "x " << row;
      ASSERT_EQ(in[(2 * inner + row) * kHidden + i], k[key_row * kHidden + i]) << "B " << row;
      ASSERT_EQ(in[(3 * inner + row) * kHidden + i], q[row * kHidden + i]) << "C " << row;
    }
  }
  EXPECT_EQ(Values(patch->Tensor(mixer + "out_proj.weight", "F32", {kHidden, inner})),
            OfBase("blk.2.attn_output.weight"));
  const std::vector<float> taps =
      Values(patch->Tensor(mixer + "conv1d.weight", "F32", {3 * inner, 1, 4}));
  for (size_t i = 0; i < taps.size(); ++i) EXPECT_EQ(taps[i], i % 4 == 3 ? 1 : 0);
  for (const float bias : Values(patch->Tensor(mixer + "dt_bias", "F32", {kHeads}))) {
    const double step = std::log1p(std::exp(static_cast<double>(bias)));
    EXPECT_GE(step, 0.000999);
    EXPECT_LE(step, 0.1001);
  }
  for (const float log : Values(patch->Tensor(mixer + "A_log", "F32", {kHeads}))) {
    EXPECT_GE(log, 0);
    EXPECT_LE(log, std::log(16.001f));
  }
  EXPECT_EQ(patch->tensors().count("model.layers.1.mamba.in_proj.weight"), 0u);
}

TEST_F(HybridizeTest, BaseAndPatchMergeIntoAHybrid) {
  Make({2, 0});
  MergeModel(base_, folder_ / "patch", folder_ / "hybrid.gguf", Hash, {});
  const auto merged = GgufFile::Open(folder_ / "hybrid.gguf");
  const ModelConfig config = ReadModelConfig(*merged);
  EXPECT_EQ(config.AttentionLayers(), (std::vector<int>{0, 2}));
  EXPECT_EQ(config.MambaLayers(), std::vector<int>{1});
  EXPECT_EQ(config.mamba.heads, kHeads);
  EXPECT_EQ(config.mamba.groups, kHeads);
  EXPECT_EQ(config.mamba.state, kHeadDim);
  EXPECT_EQ(config.attention_scale, 1 / std::sqrt(static_cast<float>(kHeadDim)));
  EXPECT_EQ(config.trained_context, 256);
  EXPECT_EQ(merged->FindTensor("blk.1.ssm_in.weight")->type, GgmlType::kF32);
}

TEST_F(HybridizeTest, TheSameSeedGivesTheSameBytesAndAnotherSeedOthers) {
  Make({0}, 3, "one");
  Make({0}, 3, "two");
  Make({0}, 4, "three");
  const auto bytes = [&](const std::string& folder) {
    return ReadFile(folder_ / (folder + "/mixers.safetensors"));
  };
  EXPECT_EQ(bytes("one"), bytes("two"));
  EXPECT_NE(bytes("one"), bytes("three"));
  EXPECT_EQ(ReadFile(folder_ / "one/config.json"), ReadFile(folder_ / "three/config.json"));
}

TEST_F(HybridizeTest, LayersThatDoNotMakeAHybridAreRefused) {
  ExpectRefused({}, ErrorCode::kInvalidArgument, "no layer keeps its attention");
  ExpectRefused({0, 1, 2}, ErrorCode::kInvalidArgument, "no layer becomes a mixer");
  ExpectRefused({0, 3}, ErrorCode::kInvalidArgument, "no layer 3");
  ExpectRefused({-1}, ErrorCode::kInvalidArgument, "no layer -1");
}

}  // namespace
}  // namespace eidetic::model
