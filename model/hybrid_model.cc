#include "model/hybrid_model.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/logsumexp.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstdio>

#include "model/attention.h"
#include "model/checkpoint.h"
#include "model/device.h"
#include "model/error.h"
#include "model/feed_forward.h"
#include "model/mamba2.h"
#include "model/sequence_forward.h"
#include "model/state.h"
#include "model/weights.h"

namespace eidetic::model {
namespace {

// Changes whenever the same weights and tokens would give other keys or logits.
constexpr int kGraphVersion = 1;

// The shortest text that reads back as the same double.
std::string Exact(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.17g", value);
  return text;
}

class TorchHybridModel final : public HybridModel {
 public:
  // `is_scaled`: in place of what the checkpoint says.
  TorchHybridModel(ModelConfig config, bool is_scaled, ModelWeights weights, c10::Device device,
                   std::string name)
      : config_(std::move(config)),
        is_scaled_(is_scaled),
        weights_(std::move(weights)),
        device_(device),
        device_name_(std::move(name)),
        graph_(GraphFingerprint(config_)) {}

  std::shared_ptr<const HybridModel> LoadAdapted(const Checkpoint& checkpoint) const override {
    const c10::InferenceMode inference;
    // All else is the base's, also a scaling that was asked for in place of the file's.
    const ModelConfig adapted = checkpoint.Config();
    ModelConfig config = config_;
    config.tied_embeddings = adapted.tied_embeddings;
    if (!is_scaled_) config.rotary_scaling = adapted.rotary_scaling;
    ModelWeights weights = LoadWeights(checkpoint, config, device_, &weights_);
    return std::make_shared<TorchHybridModel>(std::move(config), is_scaled_, std::move(weights),
                                              device_, device_name_);
  }

  const ModelConfig& config() const override { return config_; }
  const std::string& device() const override { return device_name_; }
  uint64_t weight_bytes() const override { return weights_.bytes; }
  uint64_t shared_weight_bytes() const override { return weights_.shared_bytes; }
  std::string FingerprintBytes() const override { return graph_; }

  std::unique_ptr<ModelState> NewState(const AttentionOptions& options) const override {
    CheckAttentionOptions(options, config_);
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    return std::make_unique<StreamState>(config_, options, graph_, device_);
  }

  std::unique_ptr<ModelState> RestoreState(const std::string& bytes) const override {
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    return StreamState::Restore(bytes, config_, graph_, device_);
  }

  std::unique_ptr<ModelState> RestoreState(const std::string& recurrent,
                                           const std::vector<StateRows>& rows) const override {
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    return StreamState::Restore(recurrent, rows, config_, graph_, device_);
  }

  std::unique_ptr<ModelState> CopyState(const ModelState& state) const override {
    const StreamState& stream = Own(&state);
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    return stream.Copy();
  }

  bool Logits(const ModelState& state, std::vector<float>* logits) const override {
    const auto* stream = dynamic_cast<const StreamState*>(&state);
    if (stream == nullptr || !stream->last().defined()) return false;
    if (logits == nullptr) return true;
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    WriteOutput(stream->last(), {}, 1, logits, nullptr);
    return true;
  }

  void Forward(const std::vector<int32_t>& tokens, ModelState* state, const ForwardOptions& options,
               std::vector<float>* logits) const override {
    StreamState& stream = Own(state);
    CheckTokens(tokens);
    CheckLogitRows(options.logit_rows, tokens.size());
    if (options.logit_rows > 0 && logits == nullptr) {
      throw Error(ErrorCode::kInvalidArgument,
                  "logits were asked for and there is no place for them");
    }
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    stream.SetBroken(true);
    at::Tensor hidden = Embed(tokens);  // [L, D]
    RunLayers(stream, options, hidden);
    WriteOutput(hidden, tokens, options.logit_rows, logits, options.losses);
    stream.KeepLast(hidden.narrow(0, hidden.size(0) - 1, 1));
    stream.Advance(tokens, options.sink, options.hand_over_at_once);
    stream.SetBroken(false);
  }

  SequenceOutput ForwardSequence(const std::vector<int32_t>& tokens,
                                 const SequenceForwardOptions& options) const override {
    CheckTokens(tokens);
    CheckLogitRows(options.logit_rows, tokens.size());
    CheckSequenceOptions(options.attention);
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    at::Tensor hidden = Embed(tokens);  // [L, D]
    RunSequenceLayers(weights_, config_, options.attention, hidden);
    SequenceOutput output;
    WriteOutput(hidden, tokens, options.logit_rows, &output.logits,
                options.losses ? &output.losses : nullptr);
    return output;
  }

  void Flush(ModelState* state, BlockSink* sink) const override {
    StreamState& stream = Own(state);
    const c10::InferenceMode inference;
    const c10::OptionalDeviceGuard guard(device_);
    stream.Flush(sink);
  }

 private:
  StreamState& Own(ModelState* state) const {
    return const_cast<StreamState&>(Own(static_cast<const ModelState*>(state)));
  }

  const StreamState& Own(const ModelState* state) const {
    const auto* stream = dynamic_cast<const StreamState*>(state);
    if (stream == nullptr) throw Error(ErrorCode::kInvalidArgument, "there is no state");
    if (stream->graph() != graph_ || stream->device() != device_) {
      throw Error(ErrorCode::kMismatch, "the state is of another model or device",
                  "Use the model that made the state.");
    }
    if (stream->broken()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "the state cannot go on: a forward pass on it failed at position " +
                      std::to_string(stream->position()),
                  "Restore the state saved before.");
    }
    if (stream->flushed()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "the state cannot go on: it was flushed at position " +
                      std::to_string(stream->position()),
                  "Begin a new state.");
    }
    return *stream;
  }

  void CheckTokens(const std::vector<int32_t>& tokens) const {
    if (tokens.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "a segment of 0 tokens cannot be read",
                  "Pass one token or more.");
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || tokens[i] >= config_.vocabulary) {
        throw Error(ErrorCode::kInvalidArgument,
                    "token " + std::to_string(i) + " of the segment is " +
                        std::to_string(tokens[i]) + ", outside the vocabulary of " +
                        std::to_string(config_.vocabulary),
                    "Encode the text with this model's tokenizer.");
      }
    }
  }

  static void CheckLogitRows(int64_t logit_rows, size_t tokens) {
    if (logit_rows >= 0 && logit_rows <= static_cast<int64_t>(tokens)) return;
    throw Error(ErrorCode::kInvalidArgument,
                "logit_rows is " + std::to_string(logit_rows) + " for " + std::to_string(tokens) +
                    " tokens",
                "Ask for the logits of 0 to " + std::to_string(tokens) + " tokens.");
  }

  at::Tensor Embed(const std::vector<int32_t>& tokens) const {
    at::Tensor ids = at::empty({static_cast<int64_t>(tokens.size())}, at::kInt);
    std::copy(tokens.begin(), tokens.end(), ids.mutable_data_ptr<int32_t>());
    at::Tensor hidden = at::embedding(weights_.embedding, ids.to(device_));
    if (config_.embedding_scale != 1) hidden.mul_(config_.embedding_scale);
    return hidden;
  }

  // hidden [L, D], changed in place.
  void RunLayers(StreamState& stream, const ForwardOptions& options, at::Tensor& hidden) const {
    const int64_t tokens = hidden.size(0);
    stream.Reserve(tokens);
    AttentionPass pass(config_, stream.options(), &stream.window(), &stream.rotary(),
                       static_cast<int64_t>(stream.position()), tokens);
    pass.span = options.span;
    pass.report_attention = options.report_attention;
    const double epsilon = config_.norm_epsilon, scale = config_.residual_scale;
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      const LayerWeights& layer = weights_.layers[i];
      if (layer.kind == LayerKind::kAttention) {
        const at::Tensor qkv =
            Linear(RmsNorm(hidden, layer.attention.norm, epsilon), layer.attention.qkv);
        AddLinear(pass.Attend(qkv, static_cast<int>(i), layer.index), layer.attention.output, scale,
                  hidden);
      } else {
        const at::Tensor mixed =
            Mamba2Mix(layer.mamba, config_.mamba, epsilon,
                      RmsNorm(hidden, layer.mamba.norm, epsilon), stream.Mamba(layer.index));
        AddLinear(mixed, layer.mamba.output, scale, hidden);
      }
      FeedForward(layer.feed_forward, epsilon, scale, hidden);
    }
    pass.ReportAttention();
  }

  // hidden [n, D] -> [n, vocabulary]
  at::Tensor LogitsOf(const at::Tensor& hidden) const {
    at::Tensor values =
        Linear(RmsNorm(hidden, weights_.norm, config_.norm_epsilon), weights_.output);
    if (config_.logit_scale != 1) values.div_(config_.logit_scale);
    return values;
  }

  // The logits that are wanted or that losses need, a few rows at a time. hidden: [L, D] of
  // `tokens`, which losses alone look at; `losses` may be null, `logits` for 0 rows.
  void WriteOutput(const at::Tensor& hidden, const std::vector<int32_t>& tokens, int64_t logit_rows,
                   std::vector<float>* logits, std::vector<double>* losses) const {
    constexpr int64_t kRows = 256;
    const int64_t count = hidden.size(0), wanted_from = count - logit_rows;
    if (logit_rows > 0) logits->resize(static_cast<size_t>(logit_rows * config_.vocabulary));
    if (losses != nullptr) losses->clear();
    for (int64_t first = losses != nullptr ? 0 : wanted_from; first < count; first += kRows) {
      const int64_t rows = std::min(kRows, count - first);
      const at::Tensor values = LogitsOf(hidden.narrow(0, first, rows));
      const int64_t skipped = std::max(wanted_from - first, int64_t{0});
      if (skipped < rows) {
        float* place = logits->data() + (first + skipped - wanted_from) * config_.vocabulary;
        at::from_blob(place, {rows - skipped, config_.vocabulary}, at::kFloat)
            .copy_(values.narrow(0, skipped, rows - skipped));
      }
      if (losses != nullptr) AppendLosses(values, first, tokens, losses);
    }
  }

  // values: logits of tokens `first` and on; each row's loss on the token behind it, if there is
  // one.
  static void AppendLosses(const at::Tensor& values, int64_t first,
                           const std::vector<int32_t>& tokens, std::vector<double>* losses) {
    const auto count = static_cast<int64_t>(tokens.size());
    const int64_t rows = std::min(values.size(0), count - 1 - first);
    if (rows == 0) return;
    at::Tensor next = at::empty({rows, 1}, at::kLong);
    std::copy_n(tokens.begin() + first + 1, rows, next.mutable_data_ptr<int64_t>());
    const at::Tensor logits = values.narrow(0, 0, rows);
    const at::Tensor loss = at::logsumexp(logits, at::IntArrayRef{1})
                                .sub(logits.gather(1, next.to(values.device())).squeeze(1))
                                .cpu();
    const float* begin = loss.const_data_ptr<float>();
    losses->insert(losses->end(), begin, begin + rows);
  }

  ModelConfig config_;
  bool is_scaled_;
  ModelWeights weights_;
  c10::Device device_;
  std::string device_name_;
  std::string graph_;
};

}  // namespace

std::string GraphFingerprint(const ModelConfig& config) {
  std::string text =
      "eidetic-graph " + std::to_string(kGraphVersion) + "; " + config.architecture + "; layers ";
  for (LayerKind kind : config.layers) text += kind == LayerKind::kAttention ? 'a' : 'm';
  const auto add = [&](const char* name, const std::string& value) {
    text += std::string("; ") + name + " " + value;
  };
  add("vocabulary", std::to_string(config.vocabulary));
  add("hidden", std::to_string(config.hidden));
  add("feed_forward", std::to_string(config.feed_forward));
  add("heads", std::to_string(config.heads) + "/" + std::to_string(config.kv_heads) + "x" +
                   std::to_string(config.head_dim));
  add("rotary",
      "interleaved " + std::to_string(config.rotary_dims) + " " + Exact(config.rotary_base));
  if (const std::string scaling = DescribeRotaryScaling(config.rotary_scaling); !scaling.empty()) {
    add("rotary_scaling", scaling);
  }
  add("epsilon", Exact(config.norm_epsilon));
  add("scales", Exact(config.attention_scale) + " " + Exact(config.embedding_scale) + " " +
                    Exact(config.residual_scale) + " " + Exact(config.logit_scale));
  const MambaConfig& mamba = config.mamba;
  if (mamba.heads > 0) {
    add("mamba2", std::to_string(mamba.heads) + "x" + std::to_string(mamba.head_dim) + " state " +
                      std::to_string(mamba.state) + " groups " + std::to_string(mamba.groups) +
                      " conv " + std::to_string(mamba.conv_width));
  }
  return text;
}

std::shared_ptr<const HybridModel> HybridModel::Load(std::shared_ptr<const GgufFile> file,
                                                     const LoadOptions& options) {
  return Load(*Checkpoint::Of(std::move(file)), options);
}

std::shared_ptr<const HybridModel> HybridModel::Load(const Checkpoint& checkpoint,
                                                     const LoadOptions& options) {
  const c10::Device device = OpenDevice(options.device);
  SetComputeThreads(options.threads);
  const c10::InferenceMode inference;
  ModelConfig config = checkpoint.Config();
  if (options.rotary_scaling) config.SetRotaryScaling(*options.rotary_scaling);
  ModelWeights weights = LoadWeights(checkpoint, config, device);
  return std::make_shared<TorchHybridModel>(std::move(config), options.rotary_scaling.has_value(),
                                            std::move(weights), device, options.device);
}

}  // namespace eidetic::model
