#include "model/adapter_file.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/error.h"
#include "tests/model/full_disk.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

class AdapterFileTest : public ::testing::Test {
 protected:
  std::shared_ptr<const AdapterFile> Open(const TinyAdapter& adapter) {
    adapter.Write(path_);
    return AdapterFile::Open(path_);
  }
  void ExpectRefused(const TinyAdapter& adapter, ErrorCode code,
                     const std::vector<std::string>& parts) {
    try {
      Open(adapter);
      ADD_FAILURE() << "no error about: " << parts[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_FALSE(error.remedy().empty());
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    }
  }
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "adapter";
  const TinyFolder base_ = TinyFolder::Llama();
  const TinyAdapter good_ = TinyAdapter::Lora(base_);
};

TEST_F(AdapterFileTest, SaysWhatIsInIt) {
  const auto lora = Open(good_);
  EXPECT_EQ(lora->Kind(), "LoRA");
  EXPECT_EQ(lora->low_rank().size(), 14u);
  EXPECT_TRUE(lora->whole().empty());
  EXPECT_EQ(lora->config().rank, 3);
  EXPECT_EQ(lora->config().base_model, "tiny/base");
  const LowRank& query = lora->low_rank().at("model.layers.1.self_attn.q_proj");
  EXPECT_DOUBLE_EQ(query.scale, 7.0 / 3);
  EXPECT_EQ(query.a->shape, (std::vector<uint64_t>{3, 32}));
  EXPECT_EQ(AdapterFile::FilesOf(path_).size(), 2u);

  TinyAdapter adapter = TinyAdapter::HyLora(TinyFolder::Granite());
  EXPECT_EQ(Open(adapter)->Kind(), "HyLoRA");
  std::erase_if(adapter.tensors,
                [](const auto& entry) { return entry.first.find("conv1d") != std::string::npos; });
  EXPECT_EQ(Open(adapter)->Kind(), "LoRA+");
  std::erase_if(adapter.tensors,
                [](const auto& entry) { return entry.first.find(".lora_") != std::string::npos; });
  EXPECT_EQ(Open(adapter)->Kind(), "modules");
}

TEST_F(AdapterFileTest, NamesOfAStateDictAreTheSameTensors) {
  TinyAdapter adapter = TinyAdapter::HyLora(TinyFolder::Granite());
  const auto expected = Open(adapter);
  TinyAdapter other;
  other.config = adapter.config;
  for (const auto& [original, tensor] : adapter.tensors) {
    std::string name = original;
    const size_t lora = name.find(".lora_");
    if (lora != std::string::npos) {
      name.insert(lora + 7, ".default");
    } else {
      name.insert(name.rfind('.'), ".modules_to_save.default");
    }
    other.tensors[name] = tensor;
  }
  const auto read = Open(other);
  EXPECT_EQ(read->low_rank().size(), expected->low_rank().size());
  for (const auto& [module, pair] : expected->low_rank()) {
    EXPECT_TRUE(read->low_rank().contains(module)) << module;
  }
  for (const auto& [name, tensor] : expected->whole()) {
    EXPECT_TRUE(read->whole().contains(name)) << name;
  }
  // Both forms of one tensor are one too many.
  other.tensors.insert(*adapter.tensors.begin());
  ExpectRefused(other, ErrorCode::kCorruption, {"twice"});
}

TEST_F(AdapterFileTest, WhatCannotBeAppliedIsRefusedByItsKey) {
  const std::pair<const char*, json> changes[] = {{"peft_type", "IA3"},
                                                  {"use_dora", true},
                                                  {"lora_bias", true},
                                                  {"layer_replication", {{0, 1}}},
                                                  {"target_parameters", {"x"}},
                                                  {"trainable_token_indices", {1}},
                                                  {"use_qalora", true},
                                                  {"alora_invocation_tokens", {1, 2}},
                                                  {"bias", "some"},
                                                  {"layers_pattern", "blocks"},
                                                  {"megatron_config", {{"a", 1}}}};
  for (const auto& [key, value] : changes) {
    TinyAdapter adapter = good_;
    adapter.config[key] = value;
    adapter.config["layers_to_transform"] = 1;
    ExpectRefused(adapter, ErrorCode::kUnsupported, {"adapter_config.json", key});
  }
  // Set to nothing they are no obstacle.
  TinyAdapter adapter = good_;
  for (const auto& [key, value] : changes) {
    if (key == std::string("peft_type") || key == std::string("bias")) continue;
    adapter.config[key] = value.is_boolean() ? json(false) : json();
  }
  EXPECT_NO_THROW(Open(adapter));
}

TEST_F(AdapterFileTest, ConfigurationsThatContradictThemselvesAreRefused) {
  const std::pair<const char*, json> changes[] = {{"r", 0},
                                                  {"r", 2.5},
                                                  {"r", "4"},
                                                  {"lora_alpha", "a"},
                                                  {"lora_dropout", 2},
                                                  {"use_rslora", 1},
                                                  {"target_modules", {1}},
                                                  {"target_modules", json::array()},
                                                  {"target_modules", "("},
                                                  {"modules_to_save", "x"},
                                                  {"layers_to_transform", {-1}},
                                                  {"rank_pattern", {{"q_proj", 0}}},
                                                  {"rank_pattern", {1}},
                                                  {"alpha_pattern", {{"[", 1}}},
                                                  {"alpha_pattern", {{"q_proj", nullptr}}}};
  for (const auto& [key, value] : changes) {
    TinyAdapter adapter = good_;
    adapter.config[key] = value;
    ExpectRefused(adapter, ErrorCode::kCorruption, {"adapter_config.json"});
  }
}

TEST_F(AdapterFileTest, TensorsThatDoNotBelongTogetherAreNamed) {
  const std::string query = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  TinyAdapter adapter = good_;
  adapter.tensors.erase(query + "B.weight");
  ExpectRefused(adapter, ErrorCode::kCorruption, {"layers.0.self_attn.q_proj", "A and no B"});
  adapter = good_;
  adapter.config["r"] = 4;
  ExpectRefused(adapter, ErrorCode::kCorruption, {"[3, 48]", "rank 4"});
  adapter = good_;
  adapter.tensors.at(query + "A.weight").shape = {3, 32, 1};
  ExpectRefused(adapter, ErrorCode::kUnsupported, {"convolution", "q_proj"});
  adapter = good_;
  adapter.tensors.at(query + "B.weight").values[5] = NAN;
  ExpectRefused(adapter, ErrorCode::kCorruption, {"q_proj", "not finite at 5"});
  adapter = good_;
  adapter.tensors[query + "magnitude_vector"] = adapter.tensors.at(query + "A.weight");
  ExpectRefused(adapter, ErrorCode::kUnsupported, {"q_proj.lora_magnitude_vector"});
  adapter = good_;
  adapter.tensors.clear();
  ExpectRefused(adapter, ErrorCode::kCorruption, {"no tensor"});
  adapter = good_;
  std::filesystem::remove(path_ + "/adapter_config.json");
  EXPECT_THROW(AdapterFile::Open(path_), Error);
}

TEST_F(AdapterFileTest, ModulesAreChosenAsPeftDoes) {
  AdapterConfig config;
  config.targets.names = {"q_proj", "model.layers.1.mlp.up_proj"};
  config.layers = {0, 2};
  config.modules_to_save = {"norm", "layers.2.mlp"};
  config.excluded.names = {"layers.2.self_attn.q_proj"};
  config.ranks = {{"layers.0.self_attn.q_proj", 5}, {"v_proj", 6}};
  config.alphas = {{R"(layers\.\d\.self_attn\..*)", 9}};
  config.rank = 4;
  const AdapterModules modules(config, "file");
  EXPECT_TRUE(modules.HasLora("model.layers.0.self_attn.q_proj", true));
  EXPECT_FALSE(modules.HasLora("model.layers.1.self_attn.q_proj", true));  // not of these layers
  EXPECT_TRUE(modules.HasLora("model.layers.1.mlp.up_proj", true));        // a whole path counts
  EXPECT_FALSE(modules.HasLora("model.layers.2.self_attn.q_proj", true));  // excluded
  EXPECT_FALSE(modules.HasLora("model.layers.0.self_attn.xq_proj", true));
  EXPECT_FALSE(modules.HasLora("model.layers.2.mlp.q_proj", true));  // within what is whole
  EXPECT_TRUE(modules.IsSaved("model.norm"));
  EXPECT_TRUE(modules.IsSaved("model.layers.0.input_layernorm"));  // no dot is needed
  EXPECT_FALSE(modules.IsSaved("model.norm.weight"));
  EXPECT_EQ(modules.Rank("model.layers.0.self_attn.q_proj"), 5);
  EXPECT_EQ(modules.Rank("model.layers.10.self_attn.q_proj"), 4);
  EXPECT_EQ(modules.Rank("model.layers.0.self_attn.xv_proj"), 4);  // only at a dot
  EXPECT_EQ(modules.Alpha("model.layers.3.self_attn.o_proj"), 9);

  config.targets = {{}, "all-linear"};
  const AdapterModules all(config, "file");
  EXPECT_TRUE(all.HasLora("model.layers.5.mlp.down_proj", true));
  EXPECT_FALSE(all.HasLora("model.layers.5.mamba.conv1d", false));
  EXPECT_FALSE(all.HasLora("lm_head", true));

  config.targets = {{}, R"(.*\.(q|k)_proj)"};
  const AdapterModules expression(config, "file");
  EXPECT_TRUE(expression.HasLora("model.layers.1.self_attn.k_proj", true));
  EXPECT_FALSE(expression.HasLora("model.layers.1.self_attn.k_proj2", true));
}

TEST_F(AdapterFileTest, ExpressionsThatTakeForeverOrDisagreeAreRefused) {
  AdapterConfig config;
  config.targets.pattern = "(a|aa)+(b|c)";
  const AdapterModules slow(config, "file");
  EXPECT_THROW(slow.HasLora(std::string(200, 'a'), true), Error);
  config.targets = {{"q_proj"}, ""};
  config.ranks = {{"q_proj", 2}, {"self_attn.q_proj", 3}};
  config.alphas = {{"q_proj", 2}, {"self_attn.q_proj", 3}};
  const AdapterModules two(config, "file");
  EXPECT_THROW(two.Rank("model.layers.0.self_attn.q_proj"), Error);
  EXPECT_THROW(two.Alpha("model.layers.0.self_attn.q_proj"), Error);
}

TEST_F(AdapterFileTest, TheScaleIsAlphaOverRankOrItsRoot) {
  TinyAdapter adapter = good_;
  adapter.config["use_rslora"] = true;
  adapter.config["alpha_pattern"] = {{"down_proj", 2.5}};
  const auto file = Open(adapter);
  EXPECT_DOUBLE_EQ(file->low_rank().at("model.layers.0.mlp.up_proj").scale, 7 / std::sqrt(3.0));
  EXPECT_DOUBLE_EQ(file->low_rank().at("model.layers.0.mlp.down_proj").scale, 2.5 / std::sqrt(3.0));
}

// What is read of PEFT's files and written again is, byte for byte, PEFT's file of tensors, and a
// configuration that says the same.
TEST_F(AdapterFileTest, WhatIsWrittenIsWhatPeftWrites) {
  for (const char* name : {"peft_llama", "peft_granite"}) {
    const std::string golden = std::string(EIDETIC_GOLDEN_DIR) + "/" + name;
    const auto file = AdapterFile::Open(golden);
    std::vector<AdapterTensor> tensors;
    std::vector<std::vector<float>> values;
    values.reserve(file->low_rank().size() * 2 + file->whole().size());
    const auto add = [&](const std::string& tensor_name, const SafeTensor& tensor) {
      values.emplace_back(tensor.bytes / sizeof(float));
      ReadValues(tensor, 0, values.back().size(), values.back().data());
      tensors.push_back({tensor_name, tensor.shape, values.back().data(), "F32"});
    };
    for (const auto& [module, pair] : file->low_rank()) {
      add(module + ".lora_B.weight", *pair.b);
      add(module + ".lora_A.weight", *pair.a);
    }
    for (const auto& [tensor_name, tensor] : file->whole()) add(tensor_name, *tensor);
    WriteAdapter(path_, file->config(), tensors);
    EXPECT_EQ(ReadFile(path_ + "/adapter_model.safetensors"),
              ReadFile(golden + "/adapter_model.safetensors"));
    const auto again = json::parse(ReadFile(path_ + "/adapter_config.json"));
    const auto peft = json::parse(ReadFile(golden + "/adapter_config.json"));
    for (const auto& [key, value] : again.items()) EXPECT_EQ(value, peft.at(key)) << key;
  }
}

TEST_F(AdapterFileTest, AnyChangedByteOfConfigurationAndHeaderIsAnErrorOrAnAdapter) {
  const std::string golden = std::string(EIDETIC_GOLDEN_DIR) + "/peft_llama/";
  const std::string config = ReadFile(golden + "adapter_config.json");
  const std::string weights = ReadFile(golden + "adapter_model.safetensors");
  const size_t header = weights.find("base_model") + 600;  // the first of its tensors
  std::filesystem::create_directory(path_);
  // Every byte, changed in one of three ways.
  const auto change_each = [&](const std::string& name, const std::string& sound, size_t bytes) {
    constexpr uint8_t kChanges[] = {1, 32, 255};
    for (size_t at = 0; at < bytes; ++at) {
      std::string changed = sound;
      changed[at] = static_cast<char>(changed[at] ^ kChanges[at % 3]);
      WriteFile(path_ + name, changed);
      try {
        const auto file = AdapterFile::Open(path_);
        ASSERT_LE(file->Parameters() * 2, weights.size()) << name << ", byte " << at;
      } catch (const Error& error) {
        ASSERT_FALSE(std::string(error.what()).empty()) << name << ", byte " << at;
      }
    }
    WriteFile(path_ + name, sound);
  };
  WriteFile(path_ + "/adapter_model.safetensors", weights);
  change_each("/adapter_config.json", config, config.size());
  change_each("/adapter_model.safetensors", weights, header);
}

TEST_F(AdapterFileTest, ScaledPositionsGoAlongWithTheWeights) {
  AdapterConfig config;
  config.targets.names = {"q_proj"};
  const std::vector<float> values(64, 0.5f);
  const std::vector<AdapterTensor> tensors = {{"m.q_proj.lora_A.weight", {8, 8}, values.data()},
                                              {"m.q_proj.lora_B.weight", {8, 8}, values.data()}};
  const std::string weights = path_ + "/adapter_model.safetensors";
  WriteAdapter(path_, config, tensors);
  EXPECT_FALSE(AdapterFile::Open(path_)->config().rotary_scaling);
  EXPECT_EQ(SafetensorsFile::Open(weights)->metadata().size(), 1u);
  const std::string config_text = ReadFile(path_ + "/adapter_config.json");
  for (const char* text : {"linear:4", "ntk:2.5", "yarn:4:8192", "none"}) {
    config.rotary_scaling = ParseRotaryScaling(text);
    WriteAdapter(path_, config, tensors);
    EXPECT_EQ(AdapterFile::Open(path_)->config().rotary_scaling, config.rotary_scaling) << text;
    // PEFT's own file is as ever, and what loads tensors finds "format" as ever.
    EXPECT_EQ(ReadFile(path_ + "/adapter_config.json"), config_text);
    EXPECT_EQ(SafetensorsFile::Open(weights)->metadata().at("format"), "pt");
  }
  std::string unknown = ReadFile(weights);
  unknown.replace(unknown.find("\"none\""), 6, "\"more\"");
  WriteFile(weights, unknown);
  try {
    AdapterFile::Open(path_);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("'more'"), std::string::npos) << error.what();
    EXPECT_FALSE(error.remedy().empty());
  }
}

TEST_F(AdapterFileTest, AFullDiskLeavesTheOldAdapter) {
  good_.Write(path_);
  const std::string old_weights = ReadFile(path_ + "/adapter_model.safetensors");
  const std::string old_config = ReadFile(path_ + "/adapter_config.json");
  AdapterConfig config;
  config.targets.names = {"q_proj"};
  const std::vector<float> values(64, 0.5f);
  const std::vector<AdapterTensor> tensors = {{"m.q_proj.lora_A.weight", {8, 8}, values.data()},
                                              {"m.q_proj.lora_B.weight", {8, 8}, values.data()}};
  bytes_until_full = 300;
  EXPECT_THROW(WriteAdapter(path_, config, tensors), Error);
  bytes_until_full = -1;
  EXPECT_EQ(ReadFile(path_ + "/adapter_model.safetensors"), old_weights);
  EXPECT_EQ(ReadFile(path_ + "/adapter_config.json"), old_config);
  EXPECT_THROW(WriteAdapter(folder_ / "not/there", config, tensors), Error);
  EXPECT_NO_THROW(WriteAdapter(path_, config, tensors));
  EXPECT_EQ(AdapterFile::Open(path_)->low_rank().size(), 1u);
}

}  // namespace
}  // namespace eidetic::model
