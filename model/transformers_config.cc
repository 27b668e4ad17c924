#include "model/transformers_config.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "model/text.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// The class that the weights belong to. Old files name the model's type alone.
void CheckClass(const JsonFile& file, const std::string& type) {
  const std::string expected = type == "llama" ? "LlamaForCausalLM" : "GraniteMoeHybridForCausalLM";
  const json* classes = file.Find("architectures");
  if (classes == nullptr || (classes->is_array() && classes->empty())) return;
  if (!classes->is_array() ||
      std::find(classes->begin(), classes->end(), expected) == classes->end()) {
    file.Fail(ErrorCode::kUnsupported, "architectures",
              "is " + Quoted(classes->dump()) + ", not [\"" + expected + "\"]");
  }
}

// Both spellings of the key and of the kinds are in use.
void ReadLayers(const JsonFile& file, ModelConfig* config) {
  const int layers = file.Size("num_hidden_layers");
  if (layers > kMostLayers) {
    file.Fail(ErrorCode::kCorruption, "num_hidden_layers",
              "is " + std::to_string(layers) + ", more than " + std::to_string(kMostLayers));
  }
  if (config->architecture == "llama") {
    config->layers.assign(static_cast<size_t>(layers), LayerKind::kAttention);
    return;
  }
  const char* key = file.Has("layer_types") ? "layer_types" : "layers_block_type";
  const json* kinds = file.Find(key);
  if (kinds == nullptr || !kinds->is_array()) {
    file.Fail(ErrorCode::kCorruption, key, "is missing or no array");
  }
  for (const json& kind : *kinds) {
    if (kind == "mamba" || kind == "linear_attention") {
      config->layers.push_back(LayerKind::kMamba2);
    } else if (kind == "attention" || kind == "full_attention") {
      config->layers.push_back(LayerKind::kAttention);
    } else {
      file.Fail(ErrorCode::kUnsupported, key, "holds " + Quoted(kind.dump()));
    }
  }
  if (config->layers.size() != static_cast<size_t>(layers)) {
    file.Fail(ErrorCode::kCorruption, key,
              "has " + std::to_string(config->layers.size()) + " entries, num_hidden_layers is " +
                  std::to_string(layers));
  }
  if (config->AttentionLayers().empty()) {
    file.Fail(ErrorCode::kUnsupported, key,
              "has no attention layer: a model without attention has nothing to remember");
  }
}

void ReadAttention(const JsonFile& file, ModelConfig* config) {
  file.RequireFlag("attention_bias", false, false);
  config->heads = file.Size("num_attention_heads");
  config->kv_heads = file.SizeOr("num_key_value_heads", config->heads);
  if (config->heads % config->kv_heads != 0) {
    file.Fail(ErrorCode::kCorruption, "num_attention_heads",
              "is " + std::to_string(config->heads) + ", not a multiple of the " +
                  std::to_string(config->kv_heads) + " key/value heads");
  }
  if (!file.Has("head_dim") && config->hidden % config->heads != 0) {
    file.Fail(ErrorCode::kCorruption, "hidden_size",
              "is " + std::to_string(config->hidden) + ", not a multiple of the " +
                  std::to_string(config->heads) + " heads");
  }
  config->head_dim = file.SizeOr("head_dim", std::max(config->hidden / config->heads, 1));
  if (static_cast<int64_t>(config->heads) * config->head_dim > kLargestSize) {
    file.Fail(ErrorCode::kCorruption, "head_dim", "times num_attention_heads is too large");
  }
  config->attention_scale =
      static_cast<float>(1 / std::sqrt(static_cast<double>(config->head_dim)));
  config->norm_epsilon = static_cast<float>(file.NumberOr("rms_norm_eps", 1e-6));
  if (!(config->norm_epsilon > 0 && config->norm_epsilon < 1)) {
    file.Fail(ErrorCode::kCorruption, "rms_norm_eps", "is not within 0 to 1");
  }
}

// `rope` is the object under `key`.
RotaryScaling ScalingOf(const JsonFile& file, const char* key, const json& rope) {
  RotaryScaling scaling;
  const auto number = [&](const char* name, double fallback) {
    if (!rope.contains(name) || rope.at(name).is_null()) return fallback;
    if (!rope.at(name).is_number()) file.Fail(ErrorCode::kCorruption, key, "holds no numbers");
    return rope.at(name).get<double>();
  };
  for (const char* name : {"type", "rope_type"}) {
    if (!rope.contains(name) || rope.at(name) == "default") continue;
    const json& type = rope.at(name);
    scaling.kind = type == "linear" ? RotaryScalingKind::kLinear
                   : type == "yarn" ? RotaryScalingKind::kYarn
                                    : RotaryScalingKind::kNone;
    if (scaling.kind == RotaryScalingKind::kNone) {
      file.Fail(ErrorCode::kUnsupported, key,
                "has " + std::string(name) + " " + Quoted(type.dump()) +
                    ", none of 'default', 'linear', 'yarn'");
    }
  }
  if (scaling.kind == RotaryScalingKind::kNone) return scaling;
  for (const char* name : {"mscale", "mscale_all_dim", "truncate"}) {
    if (rope.contains(name)) {
      file.Fail(ErrorCode::kUnsupported, key, "has " + Quoted(name));
    }
  }
  scaling.factor = number("factor", 0);
  if (scaling.kind == RotaryScalingKind::kYarn) {
    scaling.original_context = number("original_max_position_embeddings", 0);
    scaling.beta_fast = number("beta_fast", scaling.beta_fast);
    scaling.beta_slow = number("beta_slow", scaling.beta_slow);
    scaling.attention_factor = number("attention_factor", 0);
  }
  if (const std::string problem = ProblemOf(scaling); !problem.empty()) {
    file.Fail(ErrorCode::kCorruption, key, "gives a scaling whose " + problem);
  }
  return scaling;
}

// Version 4 has `rope_theta` and `rope_scaling` at the top, version 5 all of it in
// `rope_parameters`.
void ReadRotary(const JsonFile& file, ModelConfig* config) {
  double base = file.NumberOr("rope_theta", 10000),
         part = file.NumberOr("partial_rotary_factor", 1);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* rope = file.Find(key);
    if (rope == nullptr) continue;
    if (!rope->is_object()) file.Fail(ErrorCode::kCorruption, key, "is no object");
    if (const RotaryScaling scaling = ScalingOf(file, key, *rope);
        scaling.kind != RotaryScalingKind::kNone) {
      config->SetRotaryScaling(scaling);
    }
    const auto number = [&](const char* name, double* value) {
      if (!rope->contains(name)) return;
      if (!rope->at(name).is_number()) file.Fail(ErrorCode::kCorruption, key, "holds no numbers");
      *value = rope->at(name).get<double>();
    };
    number("rope_theta", &base);
    number("partial_rotary_factor", &part);
  }
  if (!(base > 0) || !std::isfinite(base)) {
    file.Fail(ErrorCode::kCorruption, "rope_theta", "is not a number above 0");
  }
  if (part != 1) {
    file.Fail(ErrorCode::kUnsupported, "partial_rotary_factor", "is not 1");
  }
  config->rotary_base = base;
  config->rotary_dims = config->head_dim;
  if (config->architecture == "granitehybrid") {
    const std::string type = file.TextOr("position_embedding_type", "nope");
    if (type == "nope") config->rotary_dims = 0;
    if (type != "nope" && type != "rope") {
      file.Fail(ErrorCode::kUnsupported, "position_embedding_type", "is " + Quoted(type));
    }
  }
  if (config->rotary_dims % 2 != 0) {
    file.Fail(ErrorCode::kCorruption, "head_dim",
              "is " + std::to_string(config->head_dim) + ": rotary positions need an even number");
  }
}

// Limits of dt that limit nothing, [0, Infinity], are what every published file has.
void RequireNoTimeStepLimit(const JsonFile& file) {
  const char* key = "time_step_limit";
  const json* limit = file.Find(key);
  if (limit == nullptr) return;
  static const json kInfinity = {{"__float__", "Infinity"}};
  const bool none = limit->is_array() && limit->size() == 2 && (*limit)[0] == 0 &&
                    ((*limit)[1] == kInfinity || (*limit)[1].is_null());
  if (!none) file.Fail(ErrorCode::kUnsupported, key, "is set");
}

void ReadMamba(const JsonFile& file, ModelConfig* config) {
  file.RequireFlag("mamba_proj_bias", false, false);
  file.RequireFlag("mamba_conv_bias", true, true);
  RequireNoTimeStepLimit(file);
  MambaConfig& mamba = config->mamba;
  mamba.heads = file.Size("mamba_n_heads");
  mamba.state = file.Size("mamba_d_state");
  mamba.groups = file.Size("mamba_n_groups");
  mamba.conv_width = file.Size("mamba_d_conv");
  const double inner = file.Number("mamba_expand") * config->hidden;
  const json* head_dim = file.Find("mamba_d_head");
  if (head_dim == nullptr || *head_dim == "auto") {
    const double share = inner / mamba.heads;
    if (!(share >= 1 && share <= kLargestSize) || share != std::floor(share)) {
      file.Fail(ErrorCode::kCorruption, "mamba_n_heads",
                "does not divide mamba_expand times hidden_size");
    }
    mamba.head_dim = static_cast<int>(share);
  } else {
    mamba.head_dim = file.Size("mamba_d_head");
  }
  if (inner != static_cast<double>(mamba.heads) * mamba.head_dim) {
    file.Fail(ErrorCode::kCorruption, "mamba_expand",
              "times hidden_size is not mamba_n_heads * mamba_d_head");
  }
  if (inner + 2.0 * mamba.groups * mamba.state > kLargestSize || mamba.conv_width > 64) {
    file.Fail(ErrorCode::kCorruption, "mamba_d_state",
              "and its like give a mixer that is too large");
  }
  if (mamba.heads % mamba.groups != 0) {
    file.Fail(ErrorCode::kCorruption, "mamba_n_groups", "does not divide mamba_n_heads");
  }
}

void ReadGranite(const JsonFile& file, ModelConfig* config) {
  if (file.NumberOr("num_local_experts", 0) != 0) {
    file.Fail(ErrorCode::kUnsupported, "num_local_experts",
              "is not 0: mixtures of experts are not supported");
  }
  if (const std::string norm = file.TextOr("normalization_function", "rmsnorm");
      norm != "rmsnorm") {
    file.Fail(ErrorCode::kUnsupported, "normalization_function", "is " + Quoted(norm));
  }
  config->attention_scale = file.ScaleOr("attention_multiplier", 1);
  config->embedding_scale = file.ScaleOr("embedding_multiplier", 1);
  config->residual_scale = file.ScaleOr("residual_multiplier", 1);
  config->logit_scale = file.ScaleOr("logits_scaling", 1);
  if (!config->MambaLayers().empty()) ReadMamba(file, config);
}

}  // namespace

ModelConfig ReadTransformersConfig(const JsonFile& file) {
  const std::string type = file.TextOr("model_type", "");
  if (type != "llama" && type != "granitemoehybrid") {
    file.Fail(ErrorCode::kUnsupported, "model_type",
              "is " + Quoted(type) + ", none of 'llama', 'granitemoehybrid'");
  }
  CheckClass(file, type);
  if (file.Has("quantization_config")) {
    file.Fail(ErrorCode::kUnsupported, "quantization_config",
              "is set: tensors can be F32, F16 and BF16");
  }
  if (const std::string act = file.TextOr("hidden_act", "silu"); act != "silu") {
    file.Fail(ErrorCode::kUnsupported, "hidden_act", "is " + Quoted(act) + ", not 'silu'");
  }
  ModelConfig config;
  const bool llama = type == "llama";
  config.architecture = llama ? "llama" : "granitehybrid";
  config.name = file.TextOr("_name_or_path", "");
  config.vocabulary = file.Size("vocab_size");
  config.hidden = file.Size("hidden_size");
  config.feed_forward = file.Size(llama ? "intermediate_size" : "shared_intermediate_size");
  config.trained_context = file.SizeOr("max_position_embeddings", 2048);
  config.tied_embeddings = file.FlagOr("tie_word_embeddings", false);
  ReadLayers(file, &config);
  ReadAttention(file, &config);
  ReadRotary(file, &config);
  if (llama) {
    file.RequireFlag("mlp_bias", false, false);
  } else {
    ReadGranite(file, &config);
  }
  return config;
}

}  // namespace eidetic::model
