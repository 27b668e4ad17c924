#include "model/state.h"

#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "model/error.h"

namespace eidetic::model {
namespace {

// Tokens handed over at once: bounds the copy on the CPU.
constexpr int64_t kRunTokens = 1024;
constexpr int kMostSinks = 65536;

[[noreturn]] void RefuseOption(const char* name, int64_t value, const std::string& allowed) {
  throw Error(ErrorCode::kInvalidArgument,
              std::string("attention option '") + name + "' is " + std::to_string(value),
              "It must be " + allowed + ".");
}

WindowShape ShapeOf(const ModelConfig& config) {
  return {static_cast<int>(config.AttentionLayers().size()), config.kv_heads, config.head_dim};
}

at::Tensor Zeros(const std::vector<int64_t>& sizes, c10::Device device) {
  return at::zeros(sizes, at::TensorOptions(device).dtype(at::kFloat));
}

// What an EvictedRun points into.
struct RunStorage {
  at::Tensor rows;  // [attention layers, 2, tokens, kv_heads, d]
  std::vector<int32_t> ids;
  std::vector<int> layers;
  std::vector<const float*> keys, values;
};

}  // namespace

void CheckAttentionOptions(const AttentionOptions& options, const ModelConfig& config) {
  const int mode = static_cast<int>(options.mode);
  if (mode < 0 || mode > static_cast<int>(AttentionMode::kStream)) {
    RefuseOption("mode", mode, "full (0), window (1) or stream (2)");
  }
  if (options.block_tokens < 1 || options.block_tokens > 4096) {
    RefuseOption("block_tokens", options.block_tokens, "from 1 to 4096");
  }
  if (options.window < 1) RefuseOption("window", options.window, "1 or more");
  if (options.sinks < 0 || options.sinks > kMostSinks ||
      options.sinks % options.block_tokens != 0) {
    RefuseOption("sinks", options.sinks,
                 "a multiple of block_tokens (" + std::to_string(options.block_tokens) +
                     ") from 0 to " + std::to_string(kMostSinks));
  }
  if (options.query_offset < 0) RefuseOption("query_offset", options.query_offset, "0 or more");
  const std::vector<int> attention = config.AttentionLayers();
  for (size_t i = 0; i < options.span_layers.size(); ++i) {
    const int layer = options.span_layers[i];
    if (!std::binary_search(attention.begin(), attention.end(), layer)) {
      RefuseOption("span_layers", layer, "attention layers of the model only");
    }
    if (i > 0 && options.span_layers[i - 1] >= layer) {
      RefuseOption("span_layers", layer, "in ascending order, each layer once");
    }
  }
}

StreamState::StreamState(const ModelConfig& config, const AttentionOptions& options,
                         const std::string& graph, c10::Device device)
    : config_(config),
      options_(options),
      graph_(graph),
      device_(device),
      attention_layers_(config.AttentionLayers()),
      // Full attention keeps everything: the first tokens need no place of their own.
      window_(ShapeOf(config), options.mode == AttentionMode::kFull ? 0 : options.sinks, device),
      rotary_(config, device) {
  const MambaConfig& mamba = config.mamba;
  const int64_t layers = static_cast<int64_t>(config.MambaLayers().size());
  ssm_ = Zeros({layers, mamba.heads, mamba.head_dim, mamba.state}, device);
  conv_ = Zeros({layers, layers > 0 ? mamba.conv_width - 1 : 0, mamba.ConvChannels()}, device);
}

std::unique_ptr<StreamState> StreamState::Copy() const {
  std::unique_ptr<StreamState> copy(new StreamState(*this));
  copy->window_ = window_.Copy();
  copy->ssm_ = ssm_.clone();
  copy->conv_ = conv_.clone();
  if (last_.defined()) copy->last_ = last_.clone();
  return copy;  // a rotary table is never written to: the two share it until one needs another
}

uint64_t StreamState::bytes() const {
  return window_.bytes() + static_cast<uint64_t>(ssm_.nbytes() + conv_.nbytes());
}

void StreamState::KeepLast(const at::Tensor& row) {
  if (!last_.defined()) last_ = Zeros({1, config_.hidden}, device_);
  last_.copy_(row);
}

void StreamState::Reserve(int64_t tokens) {
  const bool full = options_.mode == AttentionMode::kFull;
  const bool spans = options_.mode == AttentionMode::kStream && !options_.span_layers.empty();
  // A usual span; a larger one makes the window grow when it comes.
  const int64_t span = spans ? int64_t{16} * options_.block_tokens : 0;
  window_.Reserve(full ? 0 : options_.sinks + span, tokens);
}

void StreamState::Advance(const std::vector<int32_t>& tokens, BlockSink* sink, bool at_once) {
  position_ += tokens.size();
  const int64_t sinks_before = window_.sink_count();
  window_.Advance(static_cast<int64_t>(tokens.size()));
  window_ids_.insert(window_ids_.end(), tokens.begin(), tokens.end());
  const int64_t new_sinks = window_.sink_count() - sinks_before;
  sink_ids_.insert(sink_ids_.end(), window_ids_.begin(), window_ids_.begin() + new_sinks);
  window_ids_.erase(window_ids_.begin(), window_ids_.begin() + new_sinks);
  if (options_.mode == AttentionMode::kFull) return;

  const int64_t block = options_.block_tokens;
  const int64_t excess = std::max(window_.window_tokens() - options_.window, int64_t{0});
  const int64_t leaving = excess / block * block;
  // Sinks that are not all there yet would be handed over in parts.
  const bool ahead = at_once && window_.sink_count() == options_.sinks;
  HandOverUpTo(ahead ? window_.window_tokens() / block * block : leaving, sink);
  window_.Drop(leaving);
  window_ids_.erase(window_ids_.begin(), window_ids_.begin() + leaving);
}

void StreamState::Flush(BlockSink* sink) {
  HandOverUpTo(window_.window_tokens(), sink);
  if (handed_ < position_) HandOver(0, 0, sink);  // the stream is no longer than its sinks
  flushed_ = true;
}

void StreamState::HandOverUpTo(int64_t end, BlockSink* sink) {
  const int64_t block = options_.block_tokens;
  const int64_t most = std::max(kRunTokens / block, int64_t{1}) * block;
  const uint64_t begin = window_begin();
  for (;;) {
    const int64_t first = handed_ > begin ? static_cast<int64_t>(handed_ - begin) : 0;
    if (first >= end) return;
    HandOver(first, std::min(most, end - first), sink);
  }
}

void StreamState::HandOver(int64_t first, int64_t count, BlockSink* sink) {
  const int64_t from_sinks = handed_ == 0 ? window_.sink_count() : 0;
  const int64_t tokens = from_sinks + count;
  if (sink != nullptr) {
    auto storage = std::make_shared<RunStorage>();
    storage->rows = window_.CopyOut(from_sinks, first, count);
    storage->ids.assign(sink_ids_.begin(), sink_ids_.begin() + from_sinks);
    storage->ids.insert(storage->ids.end(), window_ids_.begin() + first,
                        window_ids_.begin() + first + count);
    storage->layers = attention_layers_;
    const int64_t plane = tokens * config_.kv_heads * config_.head_dim;
    const float* data = storage->rows.const_data_ptr<float>();
    for (size_t layer = 0; layer < attention_layers_.size(); ++layer) {
      storage->keys.push_back(data + (2 * layer) * plane);
      storage->values.push_back(data + (2 * layer + 1) * plane);
    }
    EvictedRun run;
    run.position = handed_ == 0 ? 0 : window_begin() + first;
    run.tokens = static_cast<int>(tokens);
    run.token_ids = storage->ids.data();
    run.layers = static_cast<int>(storage->layers.size());
    run.layer_ids = storage->layers.data();
    run.keys = storage->keys.data();
    run.values = storage->values.data();
    run.bytes = storage->rows.nbytes();
    run.storage = std::move(storage);
    sink->Accept(run);
  }
  handed_ = window_begin() + first + count;
}

}  // namespace eidetic::model
