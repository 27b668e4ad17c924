#include "model/patch_config.h"

#include "model/json_file.h"
#include "model/transformers_config.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

void RequireSame(const JsonFile& file, const char* key, double patch, double base) {
  if (patch == base) return;
  throw Error(ErrorCode::kMismatch,
              file.path() + ": '" + key + "' is " + json(patch).dump() + ", but the base has " +
                  json(base).dump(),
              "use the patch that was made for this base");
}

void CheckBase(const JsonFile& file, const ModelConfig& base) {
  const auto same = [&](const char* key, double expected) {
    RequireSame(file, key, file.Number(key), expected);
  };
  same("num_hidden_layers", static_cast<double>(base.layers.size()));
  same("vocab_size", base.vocabulary);
  same("hidden_size", base.hidden);
  same("shared_intermediate_size", base.feed_forward);
  same("num_attention_heads", base.heads);
  same("num_key_value_heads", base.kv_heads);
  same("rope_theta", base.rotary_base);
  RequireSame(file, "head_dim",
              file.NumberOr("head_dim", static_cast<double>(base.hidden) / base.heads),
              base.head_dim);
  RequireSame(file, "rms_norm_eps", static_cast<float>(file.Number("rms_norm_eps")),
              base.norm_epsilon);
  RequireSame(file, "tie_word_embeddings", file.FlagOr("tie_word_embeddings", false),
              base.tied_embeddings);
}

// A patch says of the base's scaling the same, or nothing. A GGUF holds fp32.
void CheckScaling(const JsonFile& file, const RotaryScaling& patch, const RotaryScaling& base) {
  if (patch.kind == RotaryScalingKind::kNone) return;
  const auto is_same = [](double one, double other) {
    return static_cast<float>(one) == static_cast<float>(other);
  };
  if (patch.kind == base.kind && is_same(patch.factor, base.factor) &&
      is_same(patch.original_context, base.original_context) &&
      is_same(patch.beta_fast, base.beta_fast) && is_same(patch.beta_slow, base.beta_slow) &&
      is_same(RotaryLength(patch), RotaryLength(base))) {
    return;
  }
  throw Error(ErrorCode::kMismatch,
              file.path() + ": 'rope_parameters' or 'rope_scaling' is " + RotaryScalingText(patch) +
                  ", but the base has " + RotaryScalingText(base),
              "use the patch that was made for this base");
}

}  // namespace

ModelConfig ReadPatchConfig(const std::string& path, const ModelConfig& base) {
  const JsonFile file(path, "use a patch in the form docs/models.md describes");
  if (file.TextOr("model_type", "") != "granitemoehybrid") {
    file.Fail(ErrorCode::kUnsupported, "model_type", "is not 'granitemoehybrid'");
  }
  CheckBase(file, base);
  const ModelConfig own = ReadTransformersConfig(file);
  if (own.MambaLayers().empty()) {
    file.Fail(ErrorCode::kUnsupported, "layer_types", "does not hold both kinds of layers");
  }
  if (own.rotary_dims == 0) {
    file.Fail(ErrorCode::kUnsupported, "position_embedding_type", "is not 'rope'");
  }
  CheckScaling(file, own.rotary_scaling, base.rotary_scaling);
  ModelConfig config = base;
  config.architecture = own.architecture;
  config.name = own.name.empty() ? base.name + " with Mamba-2 mixers" : own.name;
  config.layers = own.layers;
  config.attention_scale = own.attention_scale;
  config.embedding_scale = own.embedding_scale;
  config.residual_scale = own.residual_scale;
  config.logit_scale = own.logit_scale;
  config.trained_context = own.trained_context;
  config.mamba = own.mamba;
  return config;
}

}  // namespace eidetic::model
