#include "model/hybridize.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <system_error>

#include "model/atomic_file.h"
#include "model/config.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/safetensors_writer.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

constexpr double kSmallestStep = 1e-3, kLargestStep = 0.1;  // of dt, as Mamba-2 draws it
constexpr double kSmallestDecay = 1, kLargestDecay = 16;    // of -A, likewise
constexpr int kNarrowestConvolution = 2, kWidestConvolution = 16;

[[noreturn]] void Refuse(const std::string& what, const std::string& remedy) {
  throw Error(ErrorCode::kInvalidArgument, "hybridize: " + what, remedy);
}

// Draws of the engine's bits alone, as a library's distributions differ (rule 9).
class Draws {
 public:
  explicit Draws(uint64_t seed) : random_(seed) {}
  double Uniform() { return (static_cast<double>(random_() >> 11) + 0.5) * 0x1p-53; }  // 0 .. 1
  double Within(double low, double high) { return low + (high - low) * Uniform(); }
  double Normal() {  // Box and Muller, 1958
    constexpr double kTurn = 6.283185307179586;
    const double radius = std::sqrt(-2 * std::log(Uniform()));
    return radius * std::cos(kTurn * Uniform());
  }

 private:
  std::mt19937_64 random_;
};

ModelConfig HybridConfig(const GgufFile& base, const HybridizeOptions& options) {
  ModelConfig config = ReadModelConfig(base);
  if (config.architecture != "llama") {
    throw Error(ErrorCode::kUnsupported,
                base.path() + ": a base of architecture " + Quoted(config.architecture) +
                    " cannot be made a hybrid, only 'llama'",
                "use a model of the Llama family");
  }
  if (config.rotary_dims != config.head_dim) {
    throw Error(ErrorCode::kUnsupported,
                base.path() + ": " + std::to_string(config.rotary_dims) + " of the " +
                    std::to_string(config.head_dim) + " numbers of a head are rotated",
                "use a model that rotates whole heads");
  }
  if (options.conv_width < kNarrowestConvolution || options.conv_width > kWidestConvolution) {
    Refuse("a convolution of " + std::to_string(options.conv_width) + " taps",
           "Use 2 to 16; 4 is usual.");
  }
  const auto layers = static_cast<int>(config.layers.size());
  std::fill(config.layers.begin(), config.layers.end(), LayerKind::kMamba2);
  for (const int layer : options.attention_layers) {
    if (layer < 0 || layer >= layers) {
      Refuse("there is no layer " + std::to_string(layer),
             "The base has layers 0 to " + std::to_string(layers - 1) + ".");
    }
    config.layers[layer] = LayerKind::kAttention;
  }
  if (config.MambaLayers().empty() || config.AttentionLayers().empty()) {
    Refuse(
        config.MambaLayers().empty() ? "no layer becomes a mixer" : "no layer keeps its attention",
        "A hybrid has layers of both kinds: name those that keep their attention.");
  }
  config.mamba.heads = config.heads;
  config.mamba.groups = config.heads;
  config.mamba.head_dim = config.head_dim;
  config.mamba.state = config.head_dim;
  config.mamba.conv_width = options.conv_width;
  return config;
}

std::string ConfigText(const ModelConfig& config) {
  nlohmann::ordered_json text;
  text["architectures"] = {"GraniteMoeHybridForCausalLM"};
  text["model_type"] = "granitemoehybrid";
  text["_name_or_path"] = config.name + " with Mamba-2 mixers";
  text["vocab_size"] = config.vocabulary;
  text["hidden_size"] = config.hidden;
  text["intermediate_size"] = config.feed_forward;
  text["shared_intermediate_size"] = config.feed_forward;
  text["num_hidden_layers"] = config.layers.size();
  text["num_attention_heads"] = config.heads;
  text["num_key_value_heads"] = config.kv_heads;
  text["head_dim"] = config.head_dim;
  text["hidden_act"] = "silu";
  text["rms_norm_eps"] = config.norm_epsilon;
  text["rope_theta"] = config.rotary_base;
  text["position_embedding_type"] = "rope";
  text["max_position_embeddings"] = config.trained_context;
  text["tie_word_embeddings"] = config.tied_embeddings;
  text["attention_bias"] = false;
  text["attention_multiplier"] = config.attention_scale;
  text["embedding_multiplier"] = config.embedding_scale;
  text["residual_multiplier"] = config.residual_scale;
  text["logits_scaling"] = config.logit_scale;
  text["num_local_experts"] = 0;
  text["num_experts_per_tok"] = 0;
  for (const LayerKind kind : config.layers) {
    text["layer_types"].push_back(kind == LayerKind::kAttention ? "attention" : "mamba");
  }
  const MambaConfig& mamba = config.mamba;
  text["mamba_n_heads"] = mamba.heads;
  text["mamba_d_head"] = mamba.head_dim;
  text["mamba_d_state"] = mamba.state;
  text["mamba_n_groups"] = mamba.groups;
  text["mamba_d_conv"] = mamba.conv_width;
  // transformers has an inner width that is a multiple of the hidden one.
  text["mamba_expand"] = static_cast<double>(mamba.Inner()) / config.hidden;
  text["mamba_chunk_size"] = 64;
  text["mamba_conv_bias"] = true;
  text["mamba_proj_bias"] = false;
  return text.dump(1) + "\n";
}

// One layer's mixer out of its attention.
class MixerOfAttention {
 public:
  MixerOfAttention(const GgufFile& base, const ModelConfig& config, int layer, uint64_t seed)
      : base_(base), config_(config), layer_(layer), draws_(seed * kMostLayers + layer) {}

  void AddTo(SafetensorsWriter* writer) {
    writer_ = writer;
    const MambaConfig& mamba = config_.mamba;
    const auto channels = static_cast<uint64_t>(mamba.ConvChannels());
    const auto heads = static_cast<uint64_t>(mamba.heads);
    const auto inner = static_cast<uint64_t>(mamba.Inner());
    const auto width = static_cast<uint64_t>(mamba.conv_width);
    const std::vector<float> in = InProjection();
    Add("in_proj.weight", {in.size() / config_.hidden, static_cast<uint64_t>(config_.hidden)}, in);
    Add("out_proj.weight", {static_cast<uint64_t>(config_.hidden), inner},
        Read("attn_output", config_.hidden, config_.heads * config_.head_dim));
    std::vector<float> convolution(channels * width, 0);
    for (uint64_t i = 0; i < channels; ++i) convolution[i * width + width - 1] = 1;  // now
    Add("conv1d.weight", {channels, 1, width}, convolution);
    Add("conv1d.bias", {channels}, std::vector<float>(channels, 0));
    Add("dt_bias", {heads}, Drawn(heads, [&] {
          const double step =
              std::exp(draws_.Within(std::log(kSmallestStep), std::log(kLargestStep)));
          return step + std::log(-std::expm1(-step));  // softplus gives the step back
        }));
    Add("A_log", {heads},
        Drawn(heads, [&] { return std::log(draws_.Within(kSmallestDecay, kLargestDecay)); }));
    Add("D", {heads}, std::vector<float>(heads, 1));
    Add("norm.weight", {inner}, std::vector<float>(inner, 1));
  }

 private:
  template <typename Draw>
  std::vector<float> Drawn(uint64_t count, const Draw& draw) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(draw());
    return values;
  }

  void Add(const std::string& name, const std::vector<uint64_t>& shape,
           const std::vector<float>& values) {
    writer_->Add("model.layers." + std::to_string(layer_) + ".mamba." + name, "F32", shape,
                 values.data());
  }

  std::vector<float> Read(const std::string& name, int rows, int columns) const {
    const GgufTensor& tensor =
        base_.Tensor("blk." + std::to_string(layer_) + "." + name + ".weight",
                     {static_cast<uint64_t>(rows), static_cast<uint64_t>(columns)});
    std::vector<float> values(tensor.Values());
    base_.ReadTensor(tensor, values.data());
    return values;
  }

  // Rows [gate; x; B; C; dt] of the hidden state. Rotary rows are interleaved in q and in k alike,
  // so C . B is q . k whatever their order.
  std::vector<float> InProjection() {
    const int hidden = config_.hidden, d = config_.head_dim;
    const std::vector<float> query = Read("attn_q", config_.heads * d, hidden);
    double squares = 0;
    for (const float value : query) squares += static_cast<double>(value) * value;
    const double deviation = std::sqrt(squares / static_cast<double>(query.size()));
    const auto drawn = [&] { return deviation * draws_.Normal(); };
    std::vector<float> rows = Drawn(query.size(), drawn);
    const auto append = [&](const std::vector<float>& more) {
      rows.insert(rows.end(), more.begin(), more.end());
    };
    append(ForQueryHeads(Read("attn_v", config_.kv_heads * d, hidden)));
    append(ForQueryHeads(Read("attn_k", config_.kv_heads * d, hidden)));
    append(query);
    append(Drawn(static_cast<uint64_t>(config_.heads) * hidden, drawn));
    return rows;
  }

  // Rows by key head, once for each query head that reads it.
  std::vector<float> ForQueryHeads(const std::vector<float>& rows) const {
    const size_t head = rows.size() / config_.kv_heads;
    const int group = config_.heads / config_.kv_heads;
    std::vector<float> repeated;
    for (int query_head = 0; query_head < config_.heads; ++query_head) {
      const auto first = rows.begin() + static_cast<ptrdiff_t>(head) * (query_head / group);
      repeated.insert(repeated.end(), first, first + static_cast<ptrdiff_t>(head));
    }
    return repeated;
  }

  const GgufFile& base_;
  const ModelConfig& config_;
  const int layer_;
  Draws draws_;
  SafetensorsWriter* writer_ = nullptr;
};

void MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw Error(ErrorCode::kIo, path + ": the folder cannot be made: " + error.message(),
                "name a folder that can be written to");
  }
}

}  // namespace

void Hybridize(const std::string& base_path, const HybridizeOptions& options,
               const std::string& patch_dir,
               const std::function<std::string(const std::string& path)>& sha256_of_file) {
  const auto base = GgufFile::Open(base_path);
  const ModelConfig config = HybridConfig(*base, options);
  SafetensorsWriter writer;
  for (const int layer : config.MambaLayers()) {
    MixerOfAttention(*base, config, layer, options.seed).AddTo(&writer);
  }
  writer.AddMetadata("base", std::filesystem::path(base_path).filename().string() + " SHA-256 " +
                                 sha256_of_file(base_path));
  if (const GgufValue* license = base->Find("general.license")) {
    if (const auto* text = std::get_if<std::string>(license)) writer.AddMetadata("license", *text);
  }
  MakeFolder(patch_dir);
  const std::filesystem::path folder(patch_dir);
  writer.Write((folder / "mixers.safetensors").string());
  const std::string text = ConfigText(config);
  AtomicFile file((folder / "config.json").string());
  file.Write(text.data(), text.size());
  file.Commit();
}

}  // namespace eidetic::model
