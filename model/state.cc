#include "model/state.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "model/error.h"
#include "model/host_copy.h"
#include "model/session_format.h"

namespace eidetic::model {
namespace {

static_assert(std::endian::native == std::endian::little,
              "saved states are little-endian, as docs/formats/session.md says");

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

class Writer {
 public:
  explicit Writer(size_t expected_bytes) { bytes_.reserve(expected_bytes); }
  template <typename T>
  void Number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Raw(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  void Ids(const std::vector<int32_t>& ids) { Raw(ids.data(), ids.size() * sizeof(int32_t)); }
  void Rows(const at::Tensor& tensor) {
    const at::Tensor host = tensor.is_cpu() ? tensor.contiguous() : CopyToHost(tensor);
    Raw(host.const_data_ptr(), static_cast<size_t>(host.nbytes()));
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Nothing is read without a check of what is left (rule 6).
class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}

  template <typename T>
  T Number(const char* what) {
    T value;
    Raw(&value, sizeof(value), what);
    return value;
  }
  std::string Text(size_t size, const char* what) {
    Need(size, what);
    std::string text = bytes_.substr(at_, size);
    at_ += size;
    return text;
  }
  std::vector<int32_t> Ids(uint32_t count, const char* what) {
    Need(uint64_t{count} * sizeof(int32_t), what);
    std::vector<int32_t> ids(count);
    Raw(ids.data(), ids.size() * sizeof(int32_t), what);
    return ids;
  }
  at::Tensor Rows(const std::vector<int64_t>& sizes, const char* what) {
    uint64_t size = sizeof(float);
    for (int64_t extent : sizes) size *= static_cast<uint64_t>(extent);
    Need(size, what);
    at::Tensor tensor = at::empty(sizes, at::kFloat);
    Raw(tensor.mutable_data_ptr(), size, what);
    return tensor;
  }
  void End() const {
    if (at_ != bytes_.size()) {
      Fail(std::to_string(bytes_.size() - at_) + " bytes follow its end");
    }
  }
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kCorruption,
                "saved state is damaged: at byte " + std::to_string(at_) + " " + what,
                "Go back to an earlier turn, or begin the session anew.");
  }

 private:
  void Need(uint64_t size, const char* what) const {
    if (size > bytes_.size() - at_) {
      Fail(std::string(what) + " needs " + std::to_string(size) + " bytes and " +
           std::to_string(bytes_.size() - at_) + " are left");
    }
  }
  void Raw(void* data, size_t size, const char* what) {
    Need(size, what);
    if (size > 0) std::memcpy(data, bytes_.data() + at_, size);
    at_ += size;
  }

  const std::string& bytes_;
  size_t at_ = 0;
};

AttentionOptions ReadOptions(Reader& reader, const ModelConfig& config) {
  AttentionOptions options;
  options.mode = static_cast<AttentionMode>(reader.Number<uint8_t>("the attention mode"));
  options.window = reader.Number<int32_t>("the window");
  options.sinks = reader.Number<int32_t>("the number of sinks");
  options.block_tokens = reader.Number<int32_t>("the block size");
  options.query_offset = reader.Number<int32_t>("the query offset");
  const auto layers = reader.Number<uint32_t>("the number of span layers");
  options.span_layers = reader.Ids(layers, "the span layers");
  try {
    CheckAttentionOptions(options, config);
  } catch (const Error& error) {
    reader.Fail(error.what());
  }
  return options;
}

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
      rotary_(config.rotary_dims, config.rotary_base, device) {
  const MambaConfig& mamba = config.mamba;
  const int64_t layers = static_cast<int64_t>(config.MambaLayers().size());
  ssm_ = Zeros({layers, mamba.heads, mamba.head_dim, mamba.state}, device);
  conv_ = Zeros({layers, layers > 0 ? mamba.conv_width - 1 : 0, mamba.ConvChannels()}, device);
}

uint64_t StreamState::bytes() const {
  return window_.bytes() + static_cast<uint64_t>(ssm_.nbytes() + conv_.nbytes());
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

std::string StreamState::Serialize() const {
  if (broken_) {
    throw Error(ErrorCode::kInvalidArgument,
                "the state cannot be saved: a forward pass on it failed at position " +
                    std::to_string(position_),
                "Restore the state saved before.");
  }
  const c10::InferenceMode inference;
  const size_t held = sink_ids_.size() + window_ids_.size();
  const size_t rows = held * attention_layers_.size() * 2 * config_.kv_heads * config_.head_dim;
  Writer writer((rows + held + options_.span_layers.size()) * sizeof(float) + ssm_.nbytes() +
                conv_.nbytes() + graph_.size() + 256);  // 256: the numbers between them
  writer.Raw(kSessionMagic, sizeof(kSessionMagic));
  writer.Number(kSessionVersion);
  writer.Number(static_cast<uint32_t>(graph_.size()));
  writer.Raw(graph_.data(), graph_.size());
  writer.Number(static_cast<uint8_t>(options_.mode));
  writer.Number(static_cast<int32_t>(options_.window));
  writer.Number(static_cast<int32_t>(options_.sinks));
  writer.Number(static_cast<int32_t>(options_.block_tokens));
  writer.Number(static_cast<int32_t>(options_.query_offset));
  writer.Number(static_cast<uint32_t>(options_.span_layers.size()));
  writer.Ids(options_.span_layers);
  writer.Number(position_);
  writer.Number(handed_);
  writer.Number(static_cast<uint8_t>(flushed_));
  writer.Number(static_cast<uint32_t>(sink_ids_.size()));
  writer.Ids(sink_ids_);
  writer.Number(static_cast<uint32_t>(window_ids_.size()));
  writer.Ids(window_ids_);
  writer.Rows(window_.SinkRows());
  if (!window_ids_.empty()) writer.Rows(window_.WindowRows());
  writer.Rows(ssm_);
  writer.Rows(conv_);
  return writer.Take();
}

std::unique_ptr<StreamState> StreamState::Restore(const std::string& bytes,
                                                  const ModelConfig& config,
                                                  const std::string& graph, c10::Device device) {
  Reader reader(bytes);
  const std::string magic = reader.Text(sizeof(kSessionMagic), "the magic");
  if (std::memcmp(magic.data(), kSessionMagic, sizeof(kSessionMagic)) != 0) {
    reader.Fail("it does not begin with 'EIDSTATE'");
  }
  const auto version = reader.Number<uint32_t>("the version");
  if (version != kSessionVersion) {
    throw Error(ErrorCode::kUnsupported,
                "saved state has version " + std::to_string(version) + ", this build reads " +
                    std::to_string(kSessionVersion),
                "Use the version of eidetic that saved it.");
  }
  const auto graph_size = reader.Number<uint32_t>("the length of the model's description");
  const std::string saved_graph = reader.Text(graph_size, "the model's description");
  if (saved_graph != graph) {
    throw Error(
        ErrorCode::kMismatch,
        "saved state is of another model: '" + saved_graph + "', this one is '" + graph + "'",
        "Open the session with the model that it was saved with.");
  }
  const AttentionOptions options = ReadOptions(reader, config);
  auto state = std::make_unique<StreamState>(config, options, graph, device);
  state->position_ = reader.Number<uint64_t>("the position");
  state->handed_ = reader.Number<uint64_t>("the number of tokens handed over");
  const auto flushed = reader.Number<uint8_t>("the flush mark");
  if (flushed > 1) reader.Fail("the flush mark is " + std::to_string(flushed) + ", not 0 or 1");
  state->flushed_ = flushed == 1;
  const auto sinks = reader.Number<uint32_t>("the number of sinks held");
  state->sink_ids_ = reader.Ids(sinks, "the sinks' tokens");
  const auto held = reader.Number<uint32_t>("the number of window tokens");
  state->window_ids_ = reader.Ids(held, "the window's tokens");
  state->CheckCounts([&](const std::string& what) { reader.Fail(what); });

  const WindowShape shape = ShapeOf(config);
  const at::Tensor sink_rows =
      reader.Rows({shape.layers, 2, shape.kv_heads, sinks, shape.head_dim}, "the sinks");
  const at::Tensor window_rows =
      reader.Rows({shape.layers, 2, shape.kv_heads, held, shape.head_dim}, "the window");
  const at::Tensor ssm = reader.Rows(state->ssm_.sizes().vec(), "the SSM states");
  const at::Tensor conv = reader.Rows(state->conv_.sizes().vec(), "the convolution states");
  reader.End();
  state->ssm_.copy_(ssm);
  state->conv_.copy_(conv);
  state->FillWindow(sink_rows, window_rows);
  return state;
}

void StreamState::CheckCounts(const std::function<void(const std::string&)>& fail) const {
  const uint64_t sinks = sink_ids_.size(), held = window_ids_.size();
  const uint64_t wanted = options_.mode == AttentionMode::kFull ? 0 : options_.sinks;
  if (sinks != std::min(wanted, position_)) {
    fail(std::to_string(sinks) + " sinks stand for position " + std::to_string(position_));
  }
  if (held > position_ - sinks || (held < position_ - sinks && handed_ == 0)) {
    fail(std::to_string(held) + " window tokens stand for position " + std::to_string(position_));
  }
  if (options_.mode != AttentionMode::kFull &&
      held >= static_cast<uint64_t>(options_.window) + options_.block_tokens) {
    fail(std::to_string(held) + " tokens are more than the window holds");
  }
  if (handed_ > position_ || (!flushed_ && handed_ != 0 && handed_ < position_ - held)) {
    fail(std::to_string(handed_) + " tokens cannot have been handed over at position " +
         std::to_string(position_));
  }
  const auto known = [&](int32_t id) { return id >= 0 && id < config_.vocabulary; };
  if (!std::all_of(sink_ids_.begin(), sink_ids_.end(), known) ||
      !std::all_of(window_ids_.begin(), window_ids_.end(), known)) {
    fail("a token id is outside the vocabulary");
  }
}

void StreamState::FillWindow(const at::Tensor& sinks, const at::Tensor& window) {
  Reserve(window.size(3));
  window_.Fill(sinks, window);
  const int64_t held = window_.window_tokens();
  if (held == 0) return;
  const at::Tensor angles = rotary_.Slice(static_cast<int64_t>(window_begin()), held);
  for (int layer = 0; layer < window_.shape().layers; ++layer) {
    Rotate(window_.Slots(layer, Plane::kKey, 0, held), angles,
           window_.Slots(layer, Plane::kRotatedKey, 0, held));
  }
}

}  // namespace eidetic::model
