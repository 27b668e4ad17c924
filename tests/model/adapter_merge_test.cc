#include "model/adapter_merge.h"

#include <gtest/gtest.h>

#include <cstring>

#include "model/adapter_fit.h"
#include "model/error.h"
#include "model/gguf_writer.h"
#include "model/half.h"
#include "tests/model/full_disk.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::model {
namespace {

class AdapterMergeTest : public ::testing::Test {
 protected:
  AdapterMergeTest() {
    std::filesystem::create_directory(folder_ / "out");
    WriteFile(base_, tiny_.Gguf());
    adapter_.Write(folder_ / "adapter");
  }
  void Merge(GgmlType type = GgmlType::kF32,
             const std::function<bool(uint64_t, uint64_t)>& progress = {}) {
    const auto hash = [](const std::string& path) {
      return "hash of " + std::filesystem::path(path).filename().string();
    };
    MergeAdapter(base_, folder_ / "adapter", output_, type, hash, progress);
  }
  void ExpectRefused(ErrorCode code) {
    try {
      Merge();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder_ / "out"));
  }
  std::vector<float> Values(const GgufFile& file, const std::string& name) {
    const GgufTensor& tensor = *file.FindTensor(name);
    std::vector<float> values(tensor.Values());
    file.ReadTensor(tensor, values.data());
    return values;
  }
  TemporaryFolder folder_;
  const TinyFolder tiny_ = TinyFolder::Granite();
  TinyAdapter adapter_ = TinyAdapter::HyLora(tiny_);
  const std::string base_ = folder_ / "base.gguf", output_ = folder_ / "out/merged.gguf";
};

TEST_F(AdapterMergeTest, TheMergedFileIsBaseAndAdapterToTheBit) {
  Merge();
  const auto merged = Checkpoint::Open(output_);
  const auto adapted = WithAdapter(Checkpoint::Open(base_), AdapterFile::Open(folder_ / "adapter"));
  EXPECT_FALSE(merged->Config().tied_embeddings);
  for (const FolderTensor& tensor : FolderTensorsOf(adapted->Config())) {
    std::vector<float> one(tensor.Values()), other(tensor.Values());
    adapted->Read(tensor.name, tensor.shape, one.data());
    merged->Read(tensor.name, tensor.shape, other.data());
    EXPECT_EQ(one, other) << tensor.name;
  }
}

TEST_F(AdapterMergeTest, WhatTheAdapterLeavesAloneIsTheBasesByteForByte) {
  Merge();
  const auto base = GgufFile::Open(base_), merged = GgufFile::Open(output_);
  const AdapterFit fit(Checkpoint::Of(base), AdapterFile::Open(folder_ / "adapter"));
  int copied = 0;
  for (const GgufTensor& tensor : base->tensors()) {
    const GgufTensor& its = *merged->FindTensor(tensor.name);
    if (fit.Changes(tensor.name)) continue;
    ++copied;
    ASSERT_EQ(its.type, tensor.type);
    EXPECT_EQ(std::memcmp(merged->TensorData(its), base->TensorData(tensor), tensor.bytes), 0);
  }
  EXPECT_EQ(copied, 11);  // of the mixer 5, of attention none, of feed-forward 2 * 3
  for (const auto& [key, value] : base->metadata()) {
    EXPECT_EQ(merged->RawValue(key), base->RawValue(key)) << key;
  }
  // The output matrix, tied so far, is the embedding as it was.
  EXPECT_EQ(Values(*merged, "output.weight"), Values(*base, "token_embd.weight"));
  EXPECT_EQ(merged->String("eidetic.adapter.base_sha256"), "hash of base.gguf");
  EXPECT_EQ(merged->String("eidetic.adapter.sha256"), "hash of adapter_model.safetensors");
}

// A GGUF has keys for it, or a base that turns as slowly.
TEST_F(AdapterMergeTest, TheMergedFileHasTheScalingThatTheAdapterWasTrainedWith) {
  GgufWriter writer;
  const auto base = GgufFile::Open(base_);
  for (const auto& [key, value] : base->metadata()) writer.AddRaw(key, base->RawValue(key));
  writer.AddString("granitehybrid.rope.scaling.type", "linear");
  writer.AddFloat32("granitehybrid.rope.scaling.factor", 2);
  for (const GgufTensor& tensor : base->tensors()) {
    writer.AddTensor(tensor.name, tensor.shape, tensor.type);
  }
  std::string scaled = writer.Header();
  const std::string bytes = ReadFile(base_);
  scaled += bytes.substr(bytes.size() - writer.data_bytes());
  for (const bool is_scaled : {false, true}) {
    WriteFile(base_, is_scaled ? scaled : bytes);
    for (const char* text : {"", "linear:4", "ntk:4", "yarn:4:8192", "none"}) {
      adapter_.metadata.erase("eidetic.rope_scaling");
      if (*text != 0) adapter_.metadata["eidetic.rope_scaling"] = text;
      adapter_.Write(folder_ / "adapter");
      Merge();
      const ModelConfig merged = Checkpoint::Open(output_)->Config();
      const ModelConfig adapted =
          WithAdapter(Checkpoint::Open(base_), AdapterFile::Open(folder_ / "adapter"))->Config();
      if (*text == 0) {
        EXPECT_EQ(adapted.rotary_scaling.factor, is_scaled ? 2 : 1);
      } else {
        EXPECT_EQ(adapted.rotary_scaling, ParseRotaryScaling(text)) << text;
      }
      const auto frequencies = [](const ModelConfig& config) {
        return RotaryFrequencies(config.head_dim, config.rotary_base, config.rotary_scaling);
      };
      const std::vector<double> expected = frequencies(adapted), given = frequencies(merged);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_NEAR(given[i], expected[i], 1e-7 * expected[i]) << text;  // fp32 of the file
      }
      EXPECT_EQ(RotaryLength(merged.rotary_scaling), RotaryLength(adapted.rotary_scaling)) << text;
      EXPECT_EQ(merged.rotary_dims, adapted.rotary_dims);
    }
  }
}

TEST_F(AdapterMergeTest, MatricesMayBeStoredAsHalves) {
  Merge();
  const auto whole = GgufFile::Open(output_);
  const std::vector<float> exact = Values(*whole, "blk.1.attn_q.weight");
  const std::vector<float> norm = Values(*whole, "blk.1.attn_norm.weight");
  const uint64_t size = whole->size();
  Merge(GgmlType::kF16);
  const auto halves = GgufFile::Open(output_);
  EXPECT_LT(halves->size(), size);
  EXPECT_EQ(halves->FindTensor("blk.1.attn_q.weight")->type, GgmlType::kF16);
  EXPECT_EQ(halves->FindTensor("blk.0.ssm_conv1d.weight")->type, GgmlType::kF32);
  const std::vector<float> rounded = Values(*halves, "blk.1.attn_q.weight");
  for (size_t i = 0; i < exact.size(); ++i) {
    ASSERT_EQ(RoundToHalf(rounded[i]), RoundToHalf(exact[i])) << i;
  }
  EXPECT_EQ(Values(*halves, "blk.1.attn_norm.weight"), norm);
  EXPECT_THROW(Merge(GgmlType::kQ8_0), Error);
}

TEST_F(AdapterMergeTest, EqualInputsGiveEqualBytesAndAMergedFileCanBeABase) {
  Merge();
  const std::string first = ReadFile(output_);
  Merge();
  EXPECT_EQ(ReadFile(output_), first);
  WriteFile(base_, first);
  Merge();
  EXPECT_EQ(GgufFile::Open(output_)->String("eidetic.adapter.base_sha256"), "hash of base.gguf");
}

TEST_F(AdapterMergeTest, AFullDiskAndACancelledMergeLeaveNothing) {
  Merge();
  const auto size = static_cast<int64_t>(std::filesystem::file_size(output_));
  std::filesystem::remove(output_);
  for (const int64_t room : {int64_t{0}, size / 2, size - 1}) {
    bytes_until_full = room;
    ExpectRefused(ErrorCode::kNoSpace);
    bytes_until_full = -1;
  }
  int calls = 0;
  EXPECT_THROW(Merge(GgmlType::kF32, [&](uint64_t, uint64_t) { return ++calls < 3; }), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "out"));
}

TEST_F(AdapterMergeTest, WhatDoesNotFitOrIsAFolderIsRefusedAndInputsStay) {
  TinyAdapter::Lora(TinyFolder::Llama()).Write(folder_ / "adapter");
  ExpectRefused(ErrorCode::kMismatch);
  adapter_.Write(folder_ / "adapter");
  const std::string before = ReadFile(base_);
  try {
    MergeAdapter(base_, folder_ / "adapter", base_, GgmlType::kF32, {}, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(ReadFile(base_), before);
  std::filesystem::remove(base_);
  tiny_.Write(base_);
  ExpectRefused(ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace eidetic::model
