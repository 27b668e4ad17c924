// Random models of a few small layers as folders of `transformers`, and the same weights as a GGUF,
// laid out by what the formats say and not by the reader's code.
#ifndef EIDETIC_TESTS_MODEL_TINY_FOLDER_H_
#define EIDETIC_TESTS_MODEL_TINY_FOLDER_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/gguf_writer.h"
#include "tests/model/model_files.h"

namespace eidetic::model {

struct TinyFolder {
  struct Tensor {
    std::vector<uint64_t> shape;
    std::vector<float> values;
    std::string dtype = "F32";
  };
  nlohmann::json config, tokenizer;
  std::map<std::string, Tensor> tensors;

  static constexpr uint64_t kVocabulary = 24, kHidden = 32, kFeedForward = 48, kHeads = 4,
                            kKvHeads = 2, kHeadDim = 8;
  static constexpr uint64_t kMixerHeads = 4, kMixerHeadDim = 8, kState = 8, kGroups = 2, kWidth = 4;
  static constexpr uint64_t kInner = kMixerHeads * kMixerHeadDim;
  static constexpr uint64_t kChannels = kInner + 2 * kGroups * kState;

  static TinyFolder Llama();
  static TinyFolder Granite();

  // Rounds every tensor to `dtype` (F16, BF16: towards zero, so that the test needs no more).
  void Round(const std::string& dtype);
  // One file of weights, or `shards` and an index.
  void Write(const std::string& folder, size_t shards = 1) const;
  // The same model as a GGUF in F32, q and k rows interleaved.
  std::string Gguf() const;

  // A safetensors file of some of the tensors.
  static std::string File(const std::vector<std::pair<std::string, const Tensor*>>& tensors,
                          const nlohmann::json& metadata = {{"format", "pt"}});

 private:
  void Add(std::mt19937* random, const std::string& name, std::vector<uint64_t> shape);
  void AddCommon(std::mt19937* random);
  static nlohmann::json ByteTokenizer();
};

inline void TinyFolder::Add(std::mt19937* random, const std::string& name,
                            std::vector<uint64_t> shape) {
  Tensor tensor;
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  const float scale = shape.size() == 2 ? 1.5f / std::sqrt(static_cast<float>(shape[1])) : 0.5f;
  const float middle = name.ends_with("norm.weight") ? 1.0f : 0.0f;
  for (uint64_t i = 0; i < count; ++i) {
    const float uniform = static_cast<float>((*random)() >> 8) * 0x1p-23f - 1;
    tensor.values.push_back(middle + scale * uniform);
  }
  tensor.shape = std::move(shape);
  tensors[name] = std::move(tensor);
}

// A few tokens in the rules of SmolLM; fewer than the embedding has rows.
inline nlohmann::json TinyFolder::ByteTokenizer() {
  using nlohmann::json;
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const auto added = [](int id, const char* name, bool special) {
    return json{{"id", id},        {"content", name},      {"special", special}, {"lstrip", false},
                {"rstrip", false}, {"single_word", false}, {"normalized", false}};
  };
  return {{"version", "1.0"},
          {"added_tokens", {added(0, "<|im_end|>", true), added(6, "<x>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {digits, bytes}}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", nullptr},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab",
             {{"<|im_end|>", 0}, {"a", 1}, {"b", 2}, {"ab", 3}, {"\u0120", 4}, {"\u0120a", 5}}},
            {"merges", {"a b", "\u0120 a"}}}}};
}

inline void TinyFolder::AddCommon(std::mt19937* random) {
  Add(random, "model.embed_tokens.weight", {kVocabulary, kHidden});
  Add(random, "model.norm.weight", {kHidden});
  config.update({{"vocab_size", kVocabulary},
                 {"hidden_size", kHidden},
                 {"intermediate_size", kFeedForward},
                 {"num_attention_heads", kHeads},
                 {"num_key_value_heads", kKvHeads},
                 {"hidden_act", "silu"},
                 {"rms_norm_eps", 0x1p-13},
                 {"max_position_embeddings", 256},
                 {"attention_bias", false},
                 {"bos_token_id", 0},
                 {"eos_token_id", 0}});
  tokenizer = ByteTokenizer();
}

inline TinyFolder TinyFolder::Llama() {
  TinyFolder folder;
  std::mt19937 random(5);
  folder.config = {{"architectures", {"LlamaForCausalLM"}},
                   {"model_type", "llama"},
                   {"num_hidden_layers", 2},
                   {"rope_theta", 5000.0},
                   {"rope_scaling", nullptr},
                   {"mlp_bias", false},
                   {"tie_word_embeddings", false}};
  folder.AddCommon(&random);
  folder.Add(&random, "lm_head.weight", {kVocabulary, kHidden});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    folder.Add(&random, layer + "input_layernorm.weight", {kHidden});
    folder.Add(&random, layer + "post_attention_layernorm.weight", {kHidden});
    folder.Add(&random, layer + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
    folder.Add(&random, layer + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
    folder.Add(&random, layer + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
    folder.Add(&random, layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
    folder.Add(&random, layer + "mlp.gate_proj.weight", {kFeedForward, kHidden});
    folder.Add(&random, layer + "mlp.up_proj.weight", {kFeedForward, kHidden});
    folder.Add(&random, layer + "mlp.down_proj.weight", {kHidden, kFeedForward});
  }
  return folder;
}

// Layers: Mamba-2, attention. Every multiplier differs from 1; spelt as version 5 spells it.
inline TinyFolder TinyFolder::Granite() {
  TinyFolder folder;
  std::mt19937 random(6);
  folder.config = {{"architectures", {"GraniteMoeHybridForCausalLM"}},
                   {"model_type", "granitemoehybrid"},
                   {"num_hidden_layers", 2},
                   {"layer_types", {"linear_attention", "full_attention"}},
                   {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5000.0}}},
                   {"position_embedding_type", "rope"},
                   {"shared_intermediate_size", kFeedForward},
                   {"num_local_experts", 0},
                   {"attention_multiplier", 0.3125},
                   {"embedding_multiplier", 3.0},
                   {"residual_multiplier", 0.625},
                   {"logits_scaling", 2.5},
                   {"mamba_n_heads", kMixerHeads},
                   {"mamba_d_head", "auto"},
                   {"mamba_d_state", kState},
                   {"mamba_n_groups", kGroups},
                   {"mamba_d_conv", kWidth},
                   {"mamba_expand", 1},
                   {"mamba_conv_bias", true},
                   {"mamba_proj_bias", false},
                   {"time_step_limit", {0.0, {{"__float__", "Infinity"}}}},
                   {"tie_word_embeddings", true}};
  folder.AddCommon(&random);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    folder.Add(&random, layer + "input_layernorm.weight", {kHidden});
    folder.Add(&random, layer + "post_attention_layernorm.weight", {kHidden});
    folder.Add(&random, layer + "shared_mlp.input_linear.weight", {2 * kFeedForward, kHidden});
    folder.Add(&random, layer + "shared_mlp.output_linear.weight", {kHidden, kFeedForward});
  }
  const std::string mixer = "model.layers.0.mamba.", attention = "model.layers.1.self_attn.";
  folder.Add(&random, mixer + "in_proj.weight", {kInner + kChannels + kMixerHeads, kHidden});
  folder.Add(&random, mixer + "conv1d.weight", {kChannels, 1, kWidth});
  folder.Add(&random, mixer + "conv1d.bias", {kChannels});
  folder.Add(&random, mixer + "dt_bias", {kMixerHeads});
  folder.Add(&random, mixer + "A_log", {kMixerHeads});
  folder.Add(&random, mixer + "D", {kMixerHeads});
  folder.Add(&random, mixer + "norm.weight", {kInner});
  folder.Add(&random, mixer + "out_proj.weight", {kHidden, kInner});
  folder.Add(&random, attention + "q_proj.weight", {kHeads * kHeadDim, kHidden});
  folder.Add(&random, attention + "k_proj.weight", {kKvHeads * kHeadDim, kHidden});
  folder.Add(&random, attention + "v_proj.weight", {kKvHeads * kHeadDim, kHidden});
  folder.Add(&random, attention + "o_proj.weight", {kHidden, kHeads * kHeadDim});
  return folder;
}

// The bits of a half of a number between 2^-14 and 2^15, rounded towards zero.
inline uint16_t HalfBits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude < 0x38800000) return static_cast<uint16_t>(sign);  // subnormal ones become zero
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000) >> 13);
}

inline void TinyFolder::Round(const std::string& dtype) {
  for (auto& [name, tensor] : tensors) {
    tensor.dtype = dtype;
    for (float& value : tensor.values) {
      auto bits = std::bit_cast<uint32_t>(value);
      if (dtype == "BF16") bits &= 0xffff0000;
      if (dtype == "F16") bits = (HalfBits(value) & 0x7fff) == 0 ? 0 : bits & 0xffffe000;
      value = std::bit_cast<float>(bits);
    }
  }
}

inline std::string TinyFolder::File(
    const std::vector<std::pair<std::string, const Tensor*>>& tensors,
    const nlohmann::json& metadata) {
  nlohmann::json header = {{"__metadata__", metadata}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    for (const float value : tensor->values) {
      const auto bits = std::bit_cast<uint32_t>(value);
      const uint16_t half =
          tensor->dtype == "F16" ? HalfBits(value) : static_cast<uint16_t>(bits >> 16);
      const bool whole = tensor->dtype == "F32";
      data.append(
          whole ? reinterpret_cast<const char*>(&bits) : reinterpret_cast<const char*>(&half),
          whole ? sizeof(bits) : sizeof(half));
    }
    header[name] = {
        {"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  return bytes + text + data;
}

inline void TinyFolder::Write(const std::string& folder, size_t shards) const {
  std::filesystem::create_directories(folder);
  WriteFile(folder + "/config.json", config.dump());
  WriteFile(folder + "/tokenizer.json", tokenizer.dump());
  std::vector<std::vector<std::pair<std::string, const Tensor*>>> parts(shards);
  size_t next = 0;
  for (const auto& [name, tensor] : tensors) parts[next++ % shards].emplace_back(name, &tensor);
  if (shards == 1) {
    WriteFile(folder + "/model.safetensors", File(parts[0]));
    return;
  }
  nlohmann::json map;
  for (size_t i = 0; i < shards; ++i) {
    const std::string file =
        "model-0000" + std::to_string(i + 1) + "-of-0000" + std::to_string(shards) + ".safetensors";
    WriteFile(folder + "/" + file, File(parts[i]));
    for (const auto& part : parts[i]) map[part.first] = file;
  }
  WriteFile(folder + "/model.safetensors.index.json",
            nlohmann::json{{"metadata", {{"total_size", 0}}}, {"weight_map", map}}.dump());
}

inline std::string TinyFolder::Gguf() const {
  const bool llama = config.at("model_type") == "llama";
  const std::string architecture = llama ? "llama" : "granitehybrid";
  GgufWriter writer;
  const auto number = [&](const char* key, uint64_t value) {
    writer.AddUint32(architecture + "." + key, static_cast<uint32_t>(value));
  };
  const auto real = [&](const char* key, double value) {
    writer.AddFloat32(architecture + "." + key, static_cast<float>(value));
  };
  writer.AddString("general.architecture", architecture);
  number("block_count", 2);
  number("context_length", 256);
  number("embedding_length", kHidden);
  number("feed_forward_length", kFeedForward);
  number("attention.head_count", kHeads);
  const int kv = static_cast<int>(kKvHeads);
  writer.AddInt32Array(architecture + ".attention.head_count_kv",
                       llama ? std::vector<int32_t>{kv, kv} : std::vector<int32_t>{0, kv});
  real("attention.layer_norm_rms_epsilon", 0x1p-13);
  real("rope.freq_base", 5000);
  if (config.value("position_embedding_type", "") == "nope") {
    writer.AddBool(architecture + ".rope.scaling.finetuned", false);
  }
  if (!llama) {
    real("attention.scale", 0.3125);
    real("embedding_scale", 3);
    real("residual_scale", 0.625);
    real("logit_scale", 2.5);
    number("ssm.conv_kernel", kWidth);
    number("ssm.inner_size", kInner);
    number("ssm.state_size", kState);
    number("ssm.time_step_rank", kMixerHeads);
    number("ssm.group_count", kGroups);
  }
  std::string data;
  const auto add = [&](const std::string& name, const std::vector<uint64_t>& shape,
                       const std::vector<float>& values) {
    writer.AddTensor(name, shape, GgmlType::kF32);
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    data.append(GgufWriter::Padding(values.size() * sizeof(float)), '\0');
  };
  const auto copy = [&](const std::string& name, const std::string& source) {
    const Tensor& tensor = tensors.at(source);
    add(name, tensor.shape, tensor.values);
  };
  // Row 2 i + s of a head is row s d/2 + i of the source.
  const auto interleave = [&](const std::string& name, const std::string& source) {
    const Tensor& tensor = tensors.at(source);
    std::vector<float> values;
    for (uint64_t head = 0; head < tensor.shape[0] / kHeadDim; ++head) {
      for (uint64_t i = 0; i < kHeadDim / 2; ++i) {
        for (uint64_t s = 0; s < 2; ++s) {
          const uint64_t row = head * kHeadDim + s * kHeadDim / 2 + i;
          const auto* begin = tensor.values.data() + row * kHidden;
          values.insert(values.end(), begin, begin + kHidden);
        }
      }
    }
    add(name, tensor.shape, values);
  };
  copy("token_embd.weight", "model.embed_tokens.weight");
  copy("output_norm.weight", "model.norm.weight");
  if (tensors.contains("lm_head.weight")) copy("output.weight", "lm_head.weight");
  for (int layer = 0; layer < 2; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    const std::string source = "model.layers." + std::to_string(layer) + ".";
    copy(block + "attn_norm.weight", source + "input_layernorm.weight");
    copy(block + "ffn_norm.weight", source + "post_attention_layernorm.weight");
    if (llama) {
      copy(block + "ffn_gate.weight", source + "mlp.gate_proj.weight");
      copy(block + "ffn_up.weight", source + "mlp.up_proj.weight");
      copy(block + "ffn_down.weight", source + "mlp.down_proj.weight");
    } else {
      const std::vector<float>& both = tensors.at(source + "shared_mlp.input_linear.weight").values;
      const auto middle = both.begin() + static_cast<int64_t>(both.size() / 2);
      add(block + "ffn_gate.weight", {kFeedForward, kHidden}, {both.begin(), middle});
      add(block + "ffn_up.weight", {kFeedForward, kHidden}, {middle, both.end()});
      copy(block + "ffn_down.weight", source + "shared_mlp.output_linear.weight");
    }
    if (llama || layer == 1) {
      interleave(block + "attn_q.weight", source + "self_attn.q_proj.weight");
      interleave(block + "attn_k.weight", source + "self_attn.k_proj.weight");
      copy(block + "attn_v.weight", source + "self_attn.v_proj.weight");
      copy(block + "attn_output.weight", source + "self_attn.o_proj.weight");
      continue;
    }
    const auto values = [&](const char* name) -> const std::vector<float>& {
      return tensors.at(source + "mamba." + name).values;
    };
    copy(block + "ssm_in.weight", source + "mamba.in_proj.weight");
    add(block + "ssm_conv1d.weight", {kChannels, kWidth}, values("conv1d.weight"));
    copy(block + "ssm_conv1d.bias", source + "mamba.conv1d.bias");
    copy(block + "ssm_dt.bias", source + "mamba.dt_bias");
    std::vector<float> decay;
    for (const float log : values("A_log")) {
      decay.push_back(static_cast<float>(-std::exp(static_cast<double>(log))));
    }
    add(block + "ssm_a", {kMixerHeads, 1}, decay);
    add(block + "ssm_d", {kMixerHeads, 1}, values("D"));
    add(block + "ssm_norm.weight", {kGroups, kInner / kGroups}, values("norm.weight"));
    copy(block + "ssm_out.weight", source + "mamba.out_proj.weight");
  }
  return writer.Header() + data;
}

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_TINY_FOLDER_H_
