#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/error.h"
#include "model/gguf.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

// Looks keys up under the file's architecture.
class Reader {
 public:
  explicit Reader(const GgufFile& file)
      : file_(file), architecture_(file.String("general.architecture")) {}

  const std::string& architecture() const { return architecture_; }
  std::string Key(const std::string& name) const { return architecture_ + "." + name; }

  [[noreturn]] void Fail(ErrorCode code, const std::string& name,
                         const std::string& problem) const {
    throw Error(code, file_.path() + ": metadata " + Quoted(Key(name)) + " " + problem,
                code == ErrorCode::kUnsupported ? "docs/models.md lists what can be run"
                                                : "use a file that a converter made");
  }

  int Size(const std::string& name, uint64_t largest = kLargestSize) const {
    return Checked(name, file_.Unsigned(Key(name)), largest);
  }
  int SizeOr(const std::string& name, uint64_t fallback) const {
    return Checked(name, file_.UnsignedOr(Key(name), fallback), kLargestSize);
  }
  bool Has(const std::string& name) const { return file_.Find(Key(name)) != nullptr; }

  // A finite number above zero.
  double Positive(const std::string& name, double fallback) const {
    const double value = file_.FloatOr(Key(name), fallback);
    if (!std::isfinite(value) || value <= 0) {
      Fail(ErrorCode::kCorruption, name, "is " + std::to_string(value) + ", not a number above 0");
    }
    return value;
  }

  // One value per layer, from an array or from one number for all.
  std::vector<uint64_t> PerLayer(const std::string& name, size_t layers) const {
    const GgufValue* value = file_.Find(Key(name));
    std::vector<uint64_t> values;
    if (value != nullptr && std::holds_alternative<std::vector<uint64_t>>(*value)) {
      values = std::get<std::vector<uint64_t>>(*value);
    } else if (value != nullptr && std::holds_alternative<std::vector<int64_t>>(*value)) {
      for (const int64_t number : std::get<std::vector<int64_t>>(*value)) {
        if (number < 0) Fail(ErrorCode::kCorruption, name, "holds a negative number");
        values.push_back(static_cast<uint64_t>(number));
      }
    } else {
      values.assign(layers, file_.Unsigned(Key(name)));
    }
    if (values.size() != layers) {
      Fail(ErrorCode::kCorruption, name,
           "has " + std::to_string(values.size()) + " entries for " + std::to_string(layers) +
               " layers");
    }
    for (const uint64_t number : values) {
      if (number > kLargestSize) Fail(ErrorCode::kCorruption, name, "is out of range");
    }
    return values;
  }

 private:
  int Checked(const std::string& name, uint64_t value, uint64_t largest) const {
    if (value == 0 || value > largest) {
      Fail(ErrorCode::kCorruption, name,
           "is " + std::to_string(value) + ", not within 1 to " + std::to_string(largest));
    }
    return static_cast<int>(value);
  }

  const GgufFile& file_;
  const std::string architecture_;
};

// head_count_kv decides the kind of a layer: 0 means it has no attention.
void ReadLayers(const Reader& reader, ModelConfig* config) {
  const auto layers = static_cast<size_t>(reader.Size("block_count", kMostLayers));
  for (const uint64_t kv_heads : reader.PerLayer("attention.head_count_kv", layers)) {
    config->layers.push_back(kv_heads == 0 ? LayerKind::kMamba2 : LayerKind::kAttention);
    if (kv_heads == 0) continue;
    if (config->kv_heads != 0 && config->kv_heads != static_cast<int>(kv_heads)) {
      reader.Fail(ErrorCode::kUnsupported, "attention.head_count_kv",
                  "differs between attention layers: " + std::to_string(config->kv_heads) +
                      " and " + std::to_string(kv_heads));
    }
    config->kv_heads = static_cast<int>(kv_heads);
  }
  if (config->kv_heads == 0) {
    reader.Fail(ErrorCode::kUnsupported, "attention.head_count_kv",
                "is 0 for every layer: a model without attention has nothing to remember");
  }
}

void ReadAttention(const Reader& reader, const GgufFile& file, ModelConfig* config) {
  config->heads = reader.Size("attention.head_count");
  if (config->heads % config->kv_heads != 0) {
    reader.Fail(ErrorCode::kCorruption, "attention.head_count",
                "is " + std::to_string(config->heads) + ", not a multiple of the " +
                    std::to_string(config->kv_heads) + " key/value heads");
  }
  if (!reader.Has("attention.key_length") && config->hidden % config->heads != 0) {
    reader.Fail(ErrorCode::kCorruption, "embedding_length",
                "is " + std::to_string(config->hidden) + ", not a multiple of the " +
                    std::to_string(config->heads) + " heads");
  }
  const int even_share = std::max(config->hidden / config->heads, 1);
  config->head_dim = reader.SizeOr("attention.key_length", static_cast<uint64_t>(even_share));
  const auto head_dim = static_cast<uint64_t>(config->head_dim);
  if (reader.SizeOr("attention.value_length", head_dim) != config->head_dim) {
    reader.Fail(ErrorCode::kUnsupported, "attention.value_length",
                "differs from attention.key_length");
  }
  config->attention_scale = static_cast<float>(
      reader.Positive("attention.scale", 1 / std::sqrt(static_cast<double>(config->head_dim))));
  config->norm_epsilon =
      static_cast<float>(file.Float(reader.Key("attention.layer_norm_rms_epsilon")));
  if (!(config->norm_epsilon > 0 && config->norm_epsilon < 1)) {
    reader.Fail(ErrorCode::kCorruption, "attention.layer_norm_rms_epsilon", "is not within 0 to 1");
  }
}

void ReadRotaryScaling(const Reader& reader, const GgufFile& file, ModelConfig* config) {
  const std::string kind = "rope.scaling.type", factor = "rope.scaling.factor";
  RotaryScaling scaling;
  // A factor without a type means linear scaling, under its old name as well; 0 means none.
  for (const char* name : {"rope.scale_linear", "rope.scaling.factor"}) {
    if (const double value = file.FloatOr(reader.Key(name), 0); value != 0) scaling.factor = value;
  }
  const std::string type = reader.Has(kind)      ? file.String(reader.Key(kind))
                           : scaling.factor != 1 ? "linear"
                                                 : "none";
  if (type == "linear") scaling.kind = RotaryScalingKind::kLinear;
  if (type == "yarn") {
    scaling.kind = RotaryScalingKind::kYarn;
    scaling.original_context =
        static_cast<double>(file.UnsignedOr(reader.Key("rope.scaling.original_context_length"), 0));
    scaling.beta_fast = file.FloatOr(reader.Key("rope.scaling.yarn_beta_fast"), scaling.beta_fast);
    scaling.beta_slow = file.FloatOr(reader.Key("rope.scaling.yarn_beta_slow"), scaling.beta_slow);
    for (const char* name : {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier"}) {
      if (reader.Has(name)) reader.Fail(ErrorCode::kUnsupported, name, "is set");
    }
    // What the usual factor is multiplied by.
    for (const char* name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"}) {
      if (!reader.Has(name)) continue;
      scaling.attention_factor =
          reader.Positive(name, 1) * RotaryLength({scaling.kind, scaling.factor});
    }
  }
  if (scaling.kind == RotaryScalingKind::kNone && type != "none") {
    reader.Fail(ErrorCode::kUnsupported, kind,
                "is " + Quoted(type) + ", none of 'none', 'linear', 'yarn'");
  }
  if (const std::string problem = ProblemOf(scaling); !problem.empty()) {
    reader.Fail(ErrorCode::kCorruption, factor, "and its like give a scaling whose " + problem);
  }
  config->SetRotaryScaling(scaling);
}

void ReadRotary(const Reader& reader, const GgufFile& file, ModelConfig* config) {
  if (file.FindTensor("rope_freqs.weight") != nullptr) {
    throw Error(ErrorCode::kUnsupported,
                file.path() +
                    ": tensor 'rope_freqs.weight' scales rotary frequencies, which is not "
                    "supported",
                "docs/models.md lists what can be run");
  }
  config->rotary_base = reader.Positive("rope.freq_base", 10000);
  config->rotary_dims =
      reader.SizeOr("rope.dimension_count", static_cast<uint64_t>(config->head_dim));
  if (config->rotary_dims > config->head_dim || config->rotary_dims % 2 != 0) {
    reader.Fail(ErrorCode::kCorruption, "rope.dimension_count",
                "is " + std::to_string(config->rotary_dims) + ": not an even number up to the " +
                    std::to_string(config->head_dim) + " dimensions of a head");
  }
  ReadRotaryScaling(reader, file, config);
  // Granite's files say with this key whether positions are rotary at all.
  if (config->architecture == "granitehybrid" &&
      !file.BoolOr(reader.Key("rope.scaling.finetuned"), true)) {
    config->rotary_dims = 0;
  }
}

void ReadMamba(const Reader& reader, ModelConfig* config) {
  MambaConfig& mamba = config->mamba;
  const int inner = reader.Size("ssm.inner_size");
  mamba.heads = reader.Size("ssm.time_step_rank");  // what the format calls the number of heads
  mamba.state = reader.Size("ssm.state_size");
  mamba.groups = reader.Size("ssm.group_count");
  mamba.conv_width = reader.Size("ssm.conv_kernel", 64);
  if (inner % mamba.heads != 0) {
    reader.Fail(ErrorCode::kCorruption, "ssm.inner_size",
                "is " + std::to_string(inner) + ", not a multiple of the " +
                    std::to_string(mamba.heads) + " heads");
  }
  if (mamba.heads % mamba.groups != 0) {
    reader.Fail(ErrorCode::kCorruption, "ssm.group_count",
                "is " + std::to_string(mamba.groups) + ", which does not divide the " +
                    std::to_string(mamba.heads) + " heads");
  }
  mamba.head_dim = inner / mamba.heads;
  const uint64_t channels = static_cast<uint64_t>(inner) + 2 * static_cast<uint64_t>(mamba.groups) *
                                                               static_cast<uint64_t>(mamba.state);
  if (channels > kLargestSize) {
    reader.Fail(ErrorCode::kCorruption, "ssm.state_size",
                "gives " + std::to_string(channels) + " convolution channels");
  }
}

void ReadVocabulary(const Reader& reader, const GgufFile& file, ModelConfig* config) {
  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2 || embedding->shape[0] > kLargestSize) {
    throw Error(ErrorCode::kCorruption,
                file.path() + ": tensor 'token_embd.weight' is missing or is no matrix",
                "use a file that a converter for this architecture made");
  }
  config->vocabulary = static_cast<int>(embedding->shape[0]);
  if (reader.SizeOr("vocab_size", embedding->shape[0]) != config->vocabulary) {
    reader.Fail(ErrorCode::kCorruption, "vocab_size",
                "differs from the " + std::to_string(config->vocabulary) +
                    " rows of tensor 'token_embd.weight'");
  }
  config->tied_embeddings = file.FindTensor("output.weight") == nullptr;
}

}  // namespace

ModelConfig ReadModelConfig(const GgufFile& file) {
  const Reader reader(file);
  ModelConfig config;
  config.architecture = reader.architecture();
  if (config.architecture != "llama" && config.architecture != "granitehybrid") {
    throw Error(ErrorCode::kUnsupported,
                file.path() + ": architecture " + Quoted(config.architecture) +
                    " is none of 'llama', 'granitehybrid'",
                "docs/models.md lists what can be run");
  }
  if (file.UnsignedOr(reader.Key("expert_count"), 0) != 0) {
    reader.Fail(ErrorCode::kUnsupported, "expert_count",
                "is " + std::to_string(file.Unsigned(reader.Key("expert_count"))) +
                    ": mixtures of experts are not supported");
  }
  if (const GgufValue* name = file.Find("general.name")) {
    if (const auto* text = std::get_if<std::string>(name)) config.name = *text;
  }
  config.hidden = reader.Size("embedding_length");
  config.trained_context = reader.SizeOr("context_length", kLargestSize);
  ReadLayers(reader, &config);
  const std::vector<uint64_t> feed_forward =
      reader.PerLayer("feed_forward_length", config.layers.size());
  for (const uint64_t size : feed_forward) {
    if (size == 0 || size != feed_forward[0]) {
      reader.Fail(ErrorCode::kUnsupported, "feed_forward_length",
                  "is not one size above 0 for all layers");
    }
  }
  config.feed_forward = static_cast<int>(feed_forward[0]);
  ReadAttention(reader, file, &config);
  ReadRotary(reader, file, &config);
  ReadVocabulary(reader, file, &config);
  if (config.architecture == "granitehybrid") {
    config.embedding_scale = static_cast<float>(reader.Positive("embedding_scale", 1));
    config.residual_scale = static_cast<float>(reader.Positive("residual_scale", 1));
    config.logit_scale = static_cast<float>(reader.Positive("logit_scale", 1));
  }
  if (!config.MambaLayers().empty()) {
    if (config.architecture == "llama") {
      reader.Fail(ErrorCode::kCorruption, "attention.head_count_kv", "is 0 for a layer");
    }
    ReadMamba(reader, &config);
  }
  return config;
}

namespace {

std::vector<int> LayersOf(const ModelConfig& config, LayerKind kind) {
  std::vector<int> layers;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i] == kind) layers.push_back(static_cast<int>(i));
  }
  return layers;
}

}  // namespace

void ModelConfig::SetRotaryScaling(const RotaryScaling& scaling) {
  rotary_scaling = scaling.factor == 1 ? RotaryScaling() : scaling;
  if (rotary_scaling.kind == RotaryScalingKind::kYarn && rotary_scaling.original_context == 0) {
    rotary_scaling.original_context = trained_context;
  }
}

std::vector<int> ModelConfig::AttentionLayers() const {
  return LayersOf(*this, LayerKind::kAttention);
}

std::vector<int> ModelConfig::MambaLayers() const {
  return LayersOf(*this, LayerKind::kMamba2);
}

}  // namespace eidetic::model
