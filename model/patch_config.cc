#include "model/patch_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/error.h"
#include "model/mapped_file.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

class Reader {
 public:
  Reader(const std::string& path, const ModelConfig& base) : path_(path), base_(base) {
    const MappedFile file = MapFile(path);
    const auto* text = reinterpret_cast<const char*>(file.data);
    config_ = json::parse(text, text + file.size, nullptr, false);
    Unmap(file);
    if (config_.is_discarded() || !config_.is_object()) {
      throw Error(ErrorCode::kCorruption, path + " is no JSON object", "download the patch again");
    }
  }

  ModelConfig Read() {
    if (Text("model_type", "") != "granitemoehybrid") {
      Fail(ErrorCode::kUnsupported, "model_type", "is not 'granitemoehybrid'");
    }
    ModelConfig config = base_;
    config.architecture = "granitehybrid";
    config.name = Text("_name_or_path", base_.name + " with Mamba-2 mixers");
    ReadLayers(&config);
    CheckBase();
    RequireFlag("attention_bias", false, false);
    RequireFlag("mamba_proj_bias", false, false);
    RequireFlag("mamba_conv_bias", true, true);
    if (config_.contains("time_step_limit") && !config_["time_step_limit"].is_null()) {
      Fail(ErrorCode::kUnsupported, "time_step_limit", "is set");
    }
    if (Number("num_local_experts", 0) != 0) {
      Fail(ErrorCode::kUnsupported, "num_local_experts", "is not 0");
    }
    if (Text("position_embedding_type", "") != "rope") {
      Fail(ErrorCode::kUnsupported, "position_embedding_type", "is not 'rope'");
    }
    config.attention_scale = Scale("attention_multiplier");
    config.embedding_scale = Scale("embedding_multiplier");
    config.residual_scale = Scale("residual_multiplier");
    config.logit_scale = Scale("logits_scaling");
    config.trained_context = Size("max_position_embeddings");
    ReadMamba(&config);
    return config;
  }

 private:
  [[noreturn]] void Fail(ErrorCode code, const std::string& key, const std::string& problem) const {
    throw Error(code, path_ + ": " + Quoted(key) + " " + problem,
                code == ErrorCode::kMismatch ? "use the patch that was made for this base"
                                             : "use a patch in the form docs/models.md describes");
  }

  std::string Text(const char* key, const std::string& fallback) const {
    const auto found = config_.find(key);
    return found != config_.end() && found->is_string() ? found->get<std::string>() : fallback;
  }

  double Number(const char* key) const {
    const auto found = config_.find(key);
    if (found == config_.end() || !found->is_number()) {
      Fail(ErrorCode::kCorruption, key, "is missing or no number");
    }
    return found->get<double>();
  }
  double Number(const char* key, double fallback) const {
    return config_.contains(key) ? Number(key) : fallback;
  }

  int Size(const char* key) const {
    constexpr double kLargest = 1 << 24;
    const double value = Number(key);
    if (!(value >= 1 && value <= kLargest) || value != std::floor(value)) {
      Fail(ErrorCode::kCorruption, key, "is " + std::to_string(value) + ", not a size");
    }
    return static_cast<int>(value);
  }

  float Scale(const char* key) const {
    const double value = Number(key);
    if (!(value > 0) || !std::isfinite(value)) {
      Fail(ErrorCode::kCorruption, key, "is not a number above 0");
    }
    return static_cast<float>(value);
  }

  void RequireFlag(const char* key, bool required, bool fallback) const {
    const auto found = config_.find(key);
    if (found != config_.end() && !found->is_boolean()) {
      Fail(ErrorCode::kCorruption, key, "is no boolean");
    }
    if ((found == config_.end() ? fallback : found->get<bool>()) != required) {
      Fail(ErrorCode::kUnsupported, key, required ? "is false" : "is true");
    }
  }

  void RequireSame(const char* key, double patch, double base) const {
    if (patch != base) {
      Fail(ErrorCode::kMismatch, key,
           "is " + json(patch).dump() + ", but the base has " + json(base).dump());
    }
  }

  // Both spellings of the key and of the kinds are in use.
  void ReadLayers(ModelConfig* config) const {
    const char* key = config_.contains("layer_types") ? "layer_types" : "layers_block_type";
    if (!config_.contains(key) || !config_[key].is_array()) {
      Fail(ErrorCode::kCorruption, key, "is missing or no array");
    }
    config->layers.clear();
    for (const json& kind : config_[key]) {
      if (kind == "mamba" || kind == "linear_attention") {
        config->layers.push_back(LayerKind::kMamba2);
      } else if (kind == "attention" || kind == "full_attention") {
        config->layers.push_back(LayerKind::kAttention);
      } else {
        Fail(ErrorCode::kUnsupported, key, "holds " + Quoted(kind.dump()));
      }
    }
    RequireSame(key, static_cast<double>(config->layers.size()),
                static_cast<double>(base_.layers.size()));
    RequireSame("num_hidden_layers", Size("num_hidden_layers"),
                static_cast<double>(base_.layers.size()));
    if (config->MambaLayers().empty() || config->AttentionLayers().empty()) {
      Fail(ErrorCode::kUnsupported, key, "does not hold both kinds of layers");
    }
  }

  void CheckBase() const {
    RequireSame("vocab_size", Size("vocab_size"), base_.vocabulary);
    RequireSame("hidden_size", Size("hidden_size"), base_.hidden);
    RequireSame("shared_intermediate_size", Size("shared_intermediate_size"), base_.feed_forward);
    RequireSame("num_attention_heads", Size("num_attention_heads"), base_.heads);
    RequireSame("num_key_value_heads", Size("num_key_value_heads"), base_.kv_heads);
    RequireSame("head_dim", Number("head_dim", static_cast<double>(base_.hidden) / base_.heads),
                base_.head_dim);
    RequireSame("rms_norm_eps", static_cast<float>(Number("rms_norm_eps")), base_.norm_epsilon);
    RequireSame("rope_theta", Number("rope_theta"), base_.rotary_base);
    const bool tied = config_.value("tie_word_embeddings", false);
    RequireSame("tie_word_embeddings", tied, base_.tied_embeddings);
  }

  void ReadMamba(ModelConfig* config) const {
    MambaConfig& mamba = config->mamba;
    mamba.heads = Size("mamba_n_heads");
    mamba.head_dim = Size("mamba_d_head");
    mamba.state = Size("mamba_d_state");
    mamba.groups = Size("mamba_n_groups");
    mamba.conv_width = Size("mamba_d_conv");
    const double inner = static_cast<double>(mamba.heads) * mamba.head_dim;
    const double channels = inner + 2.0 * mamba.groups * mamba.state;
    if (channels > (1 << 24) || mamba.conv_width > 64) {
      Fail(ErrorCode::kCorruption, "mamba_d_state", "and its like give a mixer that is too large");
    }
    if (mamba.heads % mamba.groups != 0) {
      Fail(ErrorCode::kCorruption, "mamba_n_groups", "does not divide mamba_n_heads");
    }
    if (inner != Number("mamba_expand") * base_.hidden) {
      Fail(ErrorCode::kCorruption, "mamba_expand",
           "times hidden_size is not mamba_n_heads * mamba_d_head");
    }
  }

  const std::string path_;
  const ModelConfig& base_;
  json config_;
};

}  // namespace

ModelConfig ReadPatchConfig(const std::string& path, const ModelConfig& base) {
  return Reader(path, base).Read();
}

}  // namespace eidetic::model
