#include "model/merge.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "model/config.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/safetensors.h"
#include "tests/model/full_disk.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

using nlohmann::json;
const std::string kPatch = EIDETIC_PATCH_DIR;

std::string Sha256(const std::string& path) {
  const std::string bytes = ReadFile(path);
  unsigned char digest[32];
  unsigned int length = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &length, EVP_sha256(), nullptr);
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", digest[i]);
    text += digits;
  }
  return text;
}

// A base of two layers and a patch that makes the first of them a mixer of two heads.
class MergeTest : public ::testing::Test {
 protected:
  static constexpr int kHidden = 32, kHeads = 2, kHeadDim = 16, kState = 4, kGroups = 2, kWidth = 4;
  static constexpr int kInner = kHeads * kHeadDim, kChannels = kInner + 2 * kGroups * kState;

  MergeTest() {
    std::filesystem::create_directory(folder_ / "patch");
    WriteBase(7);
    config_ = {{"model_type", "granitemoehybrid"},
               {"_name_or_path", "tiny"},
               {"layer_types", {"mamba", "attention"}},
               {"num_hidden_layers", 2},
               {"vocab_size", 4},
               {"hidden_size", kHidden},
               {"shared_intermediate_size", 64},
               {"num_attention_heads", 2},
               {"num_key_value_heads", 1},
               {"rms_norm_eps", 1e-5},
               {"rope_theta", 10000.0},
               {"position_embedding_type", "rope"},
               {"max_position_embeddings", 128},
               {"tie_word_embeddings", true},
               {"attention_multiplier", 0.25},
               {"embedding_multiplier", 1.0},
               {"residual_multiplier", 1.0},
               {"logits_scaling", 2.0},
               {"num_local_experts", 0},
               {"mamba_n_heads", kHeads},
               {"mamba_d_head", kHeadDim},
               {"mamba_d_state", kState},
               {"mamba_n_groups", kGroups},
               {"mamba_d_conv", kWidth},
               {"mamba_expand", 1}};
    const std::string mixer = "model.layers.0.mamba.";
    AddFloats(mixer + "A_log", {kHeads});
    AddFloats(mixer + "D", {kHeads});
    AddFloats(mixer + "dt_bias", {kHeads});
    AddFloats(mixer + "conv1d.weight", {kChannels, 1, kWidth});
    AddFloats(mixer + "conv1d.bias", {kChannels});
    AddFloats(mixer + "norm.weight", {kInner});
    AddRows(mixer + "in_proj.weight", kInner + kChannels + kHeads, kHidden);
    AddRows(mixer + "out_proj.weight", kHidden, kInner);
  }

  void WriteBase(char fill, const std::function<void(GgufWriter*)>& add = {}) {
    GgufWriter writer;
    if (add) add(&writer);
    writer.AddString("general.architecture", "llama");
    writer.AddString("general.name", "Tiny base");
    writer.AddString("general.license", "apache-2.0");
    writer.AddUint32("llama.block_count", 2);
    writer.AddUint32("llama.embedding_length", kHidden);
    writer.AddUint32("llama.feed_forward_length", 64);
    writer.AddUint32("llama.attention.head_count", 2);
    writer.AddUint32("llama.attention.head_count_kv", 1);
    writer.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer.AddStringArray("tokenizer.ggml.tokens", {"a", "b", "c", "d"});
    writer.AddTensor("token_embd.weight", {4, kHidden}, GgmlType::kQ8_0);
    for (const std::string block : {"blk.0.", "blk.1."}) {
      writer.AddTensor(block + "attn_q.weight", {32, kHidden}, GgmlType::kQ4_1);
      writer.AddTensor(block + "attn_k.weight", {16, kHidden}, GgmlType::kQ4_1);
      writer.AddTensor(block + "attn_v.weight", {16, kHidden}, GgmlType::kQ4_1);
      writer.AddTensor(block + "attn_output.weight", {32, kHidden}, GgmlType::kQ4_1);
      writer.AddTensor(block + "ffn_norm.weight", {kHidden}, GgmlType::kF32);
    }
    WriteFile(base_, writer.Header() + std::string(writer.data_bytes(), fill));
    base_hash_ = Sha256(base_);
  }

  struct PatchTensor {
    std::string dtype;
    std::vector<uint64_t> shape;
    std::string data;
  };
  static uint64_t Count(const std::vector<uint64_t>& shape) {
    uint64_t count = 1;
    for (const uint64_t size : shape) count *= size;
    return count;
  }
  void AddFloats(const std::string& name, const std::vector<uint64_t>& shape) {
    std::string data;
    for (uint64_t i = 0; i < Count(shape); ++i) {
      const float value = 0.25f * static_cast<float>(i % 13) - 1;
      data.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    patch_[name] = {"F32", shape, data};
  }
  void AddRows(const std::string& name, uint64_t rows, uint64_t width) {
    std::string data;
    for (uint64_t i = 0; i < rows * width; ++i) data += static_cast<char>(i * 5 % 255);
    patch_[name] = {"I8", {rows, width}, data};
    AddFloats(name + ".scale", {rows});
  }

  std::string PatchBytes() const {
    json header = {
        {"__metadata__", {{"base", "Tiny.gguf sha256 " + base_hash_}, {"license", "Apache-2.0"}}}};
    std::string data;
    for (const auto& [name, tensor] : patch_) {
      header[name] = {{"dtype", tensor.dtype},
                      {"shape", tensor.shape},
                      {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
      data += tensor.data;
    }
    const std::string text = header.dump();
    std::string bytes(8, '\0');
    const uint64_t length = text.size();
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + text + data;
  }

  void WritePatch() {
    WriteFile(folder_ / "patch/mixers.safetensors", PatchBytes());
    WriteFile(folder_ / "patch/config.json", config_.dump());
  }
  void Merge(const std::function<bool(uint64_t, uint64_t)>& progress = {}) {
    MergeModel(base_, folder_ / "patch", output_, Sha256, progress);
  }
  void ExpectRefused(ErrorCode code, const std::vector<std::string>& parts) {
    try {
      Merge();
      ADD_FAILURE() << "no error about: " << parts[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    }
    ExpectNothingWritten();
  }
  void ExpectNothingWritten() {
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "out")) {
      ADD_FAILURE() << "left behind: " << entry.path();
    }
  }

  TemporaryFolder folder_;
  const std::string base_ = folder_ / "base.gguf";
  const std::string output_ = [this] {
    std::filesystem::create_directory(folder_ / "out");
    return folder_ / "out/merged.gguf";
  }();
  std::string base_hash_;
  json config_;
  std::map<std::string, PatchTensor> patch_;
};

TEST_F(MergeTest, TheMergedFileIsAHybridThatNamesItsOrigin) {
  WritePatch();
  Merge();
  const auto file = GgufFile::Open(output_);
  const ModelConfig config = ReadModelConfig(*file);
  EXPECT_EQ(config.architecture, "granitehybrid");
  EXPECT_EQ(config.name, "tiny");
  EXPECT_EQ(config.MambaLayers(), std::vector<int>{0});
  EXPECT_EQ(config.AttentionLayers(), std::vector<int>{1});
  EXPECT_EQ(config.mamba.heads, kHeads);
  EXPECT_EQ(config.mamba.groups, kGroups);
  EXPECT_EQ(config.logit_scale, 2);
  EXPECT_EQ(config.rotary_dims, 16);
  EXPECT_EQ(file->String("eidetic.base.sha256"), base_hash_);
  EXPECT_EQ(file->String("eidetic.patch.sha256"), Sha256(folder_ / "patch/mixers.safetensors"));
  EXPECT_EQ(file->String("general.license"), "apache-2.0");
  EXPECT_EQ(file->String("general.base_model.0.name"), "Tiny base");
  EXPECT_EQ(file->FindTensor("blk.0.attn_q.weight"), nullptr);
  EXPECT_NE(file->FindTensor("blk.1.attn_q.weight"), nullptr);
}

TEST_F(MergeTest, MixersAreStoredExactlyInTheConventionsOfTheFormat) {
  WritePatch();
  Merge();
  const auto file = GgufFile::Open(output_);
  const auto read = [&](const std::string& name, const std::vector<uint64_t>& shape) {
    const GgufTensor& tensor = file->Tensor("blk.0." + name, shape);
    std::vector<float> values(tensor.Values());
    file->ReadTensor(tensor, values.data());
    return values;
  };
  const auto floats = [&](const std::string& name) {
    const std::string& data = patch_.at("model.layers.0.mamba." + name).data;
    std::vector<float> values(data.size() / sizeof(float));
    std::memcpy(values.data(), data.data(), data.size());
    return values;
  };
  const std::vector<float> decay = read("ssm_a", {kHeads, 1}), log = floats("A_log");
  for (size_t i = 0; i < decay.size(); ++i) EXPECT_FLOAT_EQ(decay[i], -std::exp(log[i]));
  EXPECT_EQ(read("ssm_d", {kHeads, 1}), floats("D"));
  EXPECT_EQ(read("ssm_dt.bias", {kHeads}), floats("dt_bias"));
  EXPECT_EQ(read("ssm_conv1d.weight", {kChannels, kWidth}), floats("conv1d.weight"));
  EXPECT_EQ(read("ssm_conv1d.bias", {kChannels}), floats("conv1d.bias"));
  EXPECT_EQ(read("ssm_norm.weight", {kGroups, kInner / kGroups}), floats("norm.weight"));
  const std::pair<std::string, std::string> projections[] = {{"in_proj.weight", "ssm_in.weight"},
                                                             {"out_proj.weight", "ssm_out.weight"}};
  for (const auto& [name, output] : projections) {
    const PatchTensor& rows = patch_.at("model.layers.0.mamba." + name);
    const std::vector<float> scales = floats(name + ".scale");
    const std::vector<float> values = read(output, rows.shape);
    for (size_t i = 0; i < values.size(); ++i) {
      const float expected =
          static_cast<float>(static_cast<int8_t>(rows.data[i])) * scales[i / rows.shape[1]];
      ASSERT_EQ(values[i], expected) << output << " " << i;
    }
  }
}

TEST_F(MergeTest, WhatTheBaseHasIsCopiedByteForByte) {
  WritePatch();
  Merge();
  const auto base = GgufFile::Open(base_);
  const auto file = GgufFile::Open(output_);
  EXPECT_EQ(file->RawValue("tokenizer.ggml.tokens"), base->RawValue("tokenizer.ggml.tokens"));
  int copied = 0;
  for (const GgufTensor& tensor : base->tensors()) {
    const GgufTensor* copy = file->FindTensor(tensor.name);
    if (copy == nullptr) continue;
    ++copied;
    ASSERT_EQ(copy->type, tensor.type);
    ASSERT_EQ(copy->shape, tensor.shape);
    ASSERT_EQ(std::memcmp(file->TensorData(*copy), base->TensorData(tensor), tensor.bytes), 0)
        << tensor.name;
  }
  EXPECT_EQ(copied, 7);  // the embedding, one norm of each layer, four matrices of the second
}

TEST_F(MergeTest, EqualInputsGiveEqualBytesAndReplaceWhatWasThere) {
  WritePatch();
  WriteFile(output_, "GGUF of another time");
  Merge();
  const std::string first = ReadFile(output_);
  Merge();
  EXPECT_EQ(ReadFile(output_), first);
}

TEST_F(MergeTest, AFileThatIsNoGgufIsNotReplaced) {
  WritePatch();
  for (const char* content : {"GGU", "a letter to my mother"}) {
    WriteFile(output_, content);
    try {
      Merge();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
    EXPECT_EQ(ReadFile(output_), content);
  }
}

TEST_F(MergeTest, APatchForAnotherBaseIsRefusedNamingBoth) {
  WritePatch();
  const std::string expected = base_hash_;
  WriteBase(8);
  ExpectRefused(ErrorCode::kMismatch, {base_hash_, expected});
}

TEST_F(MergeTest, AConfigurationThatContradictsTheBaseIsRefused) {
  const std::pair<const char*, json> changes[] = {
      {"hidden_size", 64},           {"vocab_size", 5},          {"num_hidden_layers", 3},
      {"num_attention_heads", 4},    {"num_key_value_heads", 2}, {"shared_intermediate_size", 32},
      {"rms_norm_eps", 1e-6},        {"rope_theta", 500.0},      {"head_dim", 8},
      {"tie_word_embeddings", false}};
  const json good = config_;
  for (const auto& [key, value] : changes) {
    config_ = good;
    config_[key] = value;
    WritePatch();
    ExpectRefused(ErrorCode::kMismatch, {key});
  }
}

// By the base's own keys, under the hybrid's architecture.
TEST_F(MergeTest, ScaledPositionsOfTheBaseAreThoseOfTheMergedFile) {
  const auto write_base = [&](const std::function<void(GgufWriter*)>& add) {
    WriteBase(7, add);
    WritePatch();
  };
  const auto merged_as_base = [&] {
    Merge();
    const ModelConfig base = ReadModelConfig(*GgufFile::Open(base_));
    const ModelConfig merged = ReadModelConfig(*GgufFile::Open(output_));
    EXPECT_EQ(merged.rotary_scaling.kind, base.rotary_scaling.kind);
    EXPECT_EQ(merged.rotary_scaling.original_context, base.rotary_scaling.original_context);
    EXPECT_NEAR(RotaryLength(merged.rotary_scaling), RotaryLength(base.rotary_scaling), 1e-6);
    EXPECT_EQ(RotaryFrequencies(kHeadDim, merged.rotary_base, merged.rotary_scaling),
              RotaryFrequencies(kHeadDim, base.rotary_base, base.rotary_scaling));
    EXPECT_NE(RotaryFrequencies(kHeadDim, base.rotary_base, base.rotary_scaling),
              RotaryFrequencies(kHeadDim, base.rotary_base, {}));
  };
  const json plain = config_;
  write_base([](GgufWriter* writer) {
    writer->AddString("llama.rope.scaling.type", "linear");
    writer->AddFloat32("llama.rope.scaling.factor", 4);
  });
  merged_as_base();
  config_["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  WritePatch();
  merged_as_base();
  config_["rope_scaling"]["factor"] = 2.0;
  WritePatch();
  std::filesystem::remove(output_);
  ExpectRefused(ErrorCode::kMismatch, {"rope_scaling", "linear:2", "linear:4"});

  // The context before scaling is the base's, whatever the hybrid's is.
  config_ = plain;
  config_["max_position_embeddings"] = 4096;
  write_base([](GgufWriter* writer) {
    writer->AddUint32("llama.context_length", 1024);
    writer->AddString("llama.rope.scaling.type", "yarn");
    writer->AddFloat32("llama.rope.scaling.factor", 8);
    writer->AddFloat32("llama.rope.scaling.yarn_beta_fast", 16);
    writer->AddFloat32("llama.rope.scaling.attn_factor", 1.25f);
  });
  merged_as_base();
  EXPECT_EQ(ReadModelConfig(*GgufFile::Open(output_)).trained_context, 4096);
  config_["rope_parameters"] = {{"rope_type", "yarn"},
                                {"factor", 8.0},
                                {"beta_fast", 16.0},
                                {"original_max_position_embeddings", 1024},
                                {"attention_factor", 1.25 * (0.1 * std::log(8) + 1)}};
  WritePatch();
  merged_as_base();
}

TEST_F(MergeTest, AConfigurationThatCannotBeMergedIsRefused) {
  const std::tuple<const char*, json, ErrorCode> changes[] = {
      {"model_type", "llama", ErrorCode::kUnsupported},
      {"num_local_experts", 4, ErrorCode::kUnsupported},
      {"position_embedding_type", "nope", ErrorCode::kUnsupported},
      {"attention_bias", true, ErrorCode::kUnsupported},
      {"mamba_proj_bias", true, ErrorCode::kUnsupported},
      {"mamba_conv_bias", false, ErrorCode::kUnsupported},
      {"time_step_limit", {0.001, 0.1}, ErrorCode::kUnsupported},
      {"layer_types", {"mamba", "moe"}, ErrorCode::kUnsupported},
      {"layer_types", {"attention", "attention"}, ErrorCode::kUnsupported},
      {"layer_types", "mamba", ErrorCode::kCorruption},
      {"mamba_n_groups", 3, ErrorCode::kCorruption},
      {"mamba_d_state", -1, ErrorCode::kCorruption},
      {"mamba_d_state", 1 << 24, ErrorCode::kCorruption},
      {"mamba_expand", 2, ErrorCode::kCorruption},
      {"logits_scaling", 0, ErrorCode::kCorruption},
      {"hidden_size", "many", ErrorCode::kCorruption}};
  const json good = config_;
  for (const auto& [key, value, code] : changes) {
    config_ = good;
    config_[key] = value;
    WritePatch();
    ExpectRefused(code, {key});
  }
  WriteFile(folder_ / "patch/config.json", "{\"model_type\"");
  ExpectRefused(ErrorCode::kCorruption, {"config.json"});
  std::filesystem::remove(folder_ / "patch/config.json");
  ExpectRefused(ErrorCode::kNotFound, {"config.json"});
}

TEST_F(MergeTest, MixersThatDoNotFitAreNamed) {
  const auto good = patch_;
  const std::string name = "model.layers.0.mamba.dt_bias";
  patch_.erase(name);
  WritePatch();
  ExpectRefused(ErrorCode::kCorruption, {"lacks tensor", name});
  patch_ = good;
  AddFloats(name, {kHeads + 1});
  WritePatch();
  ExpectRefused(ErrorCode::kCorruption, {name, "F32 [3], expected F32 [2]"});
  patch_ = good;
  patch_[name].data.replace(0, 4, "\xff\xff\xff\x7f");  // NaN
  WritePatch();
  ExpectRefused(ErrorCode::kCorruption, {name, "not a finite number at index 0"});
  patch_ = good;
  patch_["model.layers.0.mamba.in_proj.weight"].dtype = "U8";
  WritePatch();
  ExpectRefused(ErrorCode::kCorruption, {"in_proj.weight", "U8"});
  patch_ = good;
  AddFloats("model.layers.1.mamba.D", {kHeads});
  WritePatch();
  ExpectRefused(ErrorCode::kCorruption, {"model.layers.1.mamba.D", "no mixer"});
}

TEST_F(MergeTest, ForeignAndTruncatedMixersAreRefused) {
  WritePatch();
  const std::string path = folder_ / "patch/mixers.safetensors", good = ReadFile(path);
  for (const size_t length : {size_t{0}, size_t{7}, good.size() / 2, good.size() - 1}) {
    WriteFile(path, good.substr(0, length));
    ExpectRefused(ErrorCode::kCorruption, {"mixers.safetensors"});
  }
  std::string foreign = good;
  foreign.replace(foreign.find("sha256 "), 7, "md5sum:");
  foreign.replace(foreign.find(base_hash_), 64, std::string(64, 'z'));
  WriteFile(path, foreign);
  ExpectRefused(ErrorCode::kCorruption, {"SHA-256"});
}

TEST_F(MergeTest, AFullDiskIsReportedAndLeavesNothing) {
  WritePatch();
  Merge();
  const std::string whole = ReadFile(output_);
  std::filesystem::remove(output_);
  for (const size_t room : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    bytes_until_full = static_cast<int64_t>(room);
    try {
      Merge();
      ADD_FAILURE() << "no error with room for " << room << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNoSpace) << error.what();
      EXPECT_NE(std::string(error.what()).find(output_), std::string::npos) << error.what();
    }
    bytes_until_full = -1;
    ExpectNothingWritten();
  }
  // With just enough room, in as many short writes as it takes, the file is whole.
  bytes_until_full = static_cast<int64_t>(whole.size());
  Merge();
  bytes_until_full = -1;
  EXPECT_EQ(ReadFile(output_), whole);
}

TEST_F(MergeTest, AFullDiskLeavesTheOldOutputAlone) {
  WritePatch();
  WriteFile(output_, "GGUF, the old one");
  bytes_until_full = 100;
  try {
    Merge();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNoSpace) << error.what();
  }
  bytes_until_full = -1;
  EXPECT_EQ(ReadFile(output_), "GGUF, the old one");
}

TEST_F(MergeTest, ProgressGrowsToTheFilesSizeAndCanCancel) {
  WritePatch();
  uint64_t last = 0, size = 0;
  Merge([&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last);
    EXPECT_LE(done, total);
    last = done;
    size = total;
    return true;
  });
  EXPECT_EQ(last, size);
  EXPECT_EQ(size, std::filesystem::file_size(output_));
  std::filesystem::remove(output_);
  int calls = 0;
  try {
    Merge([&](uint64_t, uint64_t) { return ++calls < 3; });
    ADD_FAILURE() << "not cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(calls, 3);
  ExpectNothingWritten();
}

TEST_F(MergeTest, ALeftoverOfAKilledMergeIsNoObstacle) {
  WritePatch();
  WriteFile(output_ + ".partial-0", "left behind");
  Merge();
  EXPECT_EQ(ReadFile(output_ + ".partial-0"), "left behind");
  EXPECT_NO_THROW(GgufFile::Open(output_));
}

TEST_F(MergeTest, AnInputIsNeverOverwritten) {
  WritePatch();
  const std::string before = ReadFile(base_);
  try {
    MergeModel(base_, folder_ / "patch", base_, Sha256, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
  }
  EXPECT_EQ(ReadFile(base_), before);
}

TEST_F(MergeTest, AFolderThatIsNotThereIsNamed) {
  WritePatch();
  try {
    MergeModel(base_, folder_ / "patch", folder_ / "none/merged.gguf", Sha256, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound) << error.what();
    EXPECT_NE(std::string(error.what()).find("none/merged.gguf"), std::string::npos);
  }
}

// The model the other tests use is what the merge makes of the base and the patch in the tree.
TEST(Merge, TheRealBaseAndPatchGiveTheModelThatTestsUse) {
  TemporaryFolder folder;
  MergeModel(BaseModelPath(), kPatch, folder / "merged.gguf", Sha256, {});
  EXPECT_EQ(Sha256(folder / "merged.gguf"), Sha256(HybridModelPath()));
  const auto file = GgufFile::Open(folder / "merged.gguf");
  const ModelConfig config = ReadModelConfig(*file);
  EXPECT_EQ(config.name, "smol-hybrid-135m");
  EXPECT_EQ(config.AttentionLayers(), (std::vector<int>{7, 16, 18, 19, 20, 21, 22, 23, 24, 25}));
  EXPECT_EQ(config.MambaLayers().size(), 20u);
  EXPECT_EQ(config.mamba.heads, 9);
  EXPECT_EQ(config.mamba.groups, 9);
  EXPECT_EQ(config.attention_scale, 0.125f);
  EXPECT_TRUE(config.tied_embeddings);
}

}  // namespace
}  // namespace eidetic::model
