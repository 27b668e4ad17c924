// StreamState as bytes, and back: docs/formats/session.md.
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "model/error.h"
#include "model/host_copy.h"
#include "model/session_format.h"
#include "model/state.h"

namespace eidetic::model {

static_assert(std::endian::native == std::endian::little,
              "saved states are little-endian, as docs/formats/session.md says");

// Appends to bytes of its own.
class StateWriter {
 public:
  explicit StateWriter(size_t expected_bytes) { bytes_.reserve(expected_bytes); }
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
class StateReader {
 public:
  explicit StateReader(const std::string& bytes) : bytes_(bytes) {}

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

namespace {

AttentionOptions ReadOptions(StateReader& reader, const ModelConfig& config) {
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

void StreamState::CheckWhole() const {
  if (!broken_) return;
  throw Error(ErrorCode::kInvalidArgument,
              "the state cannot be saved: a forward pass on it failed at position " +
                  std::to_string(position_),
              "Restore the state saved before.");
}

void StreamState::WriteHead(const char* magic, uint32_t version, StateWriter* writer) const {
  writer->Raw(magic, sizeof(kSessionMagic));
  writer->Number(version);
  writer->Number(static_cast<uint32_t>(graph_.size()));
  writer->Raw(graph_.data(), graph_.size());
  writer->Number(static_cast<uint8_t>(options_.mode));
  writer->Number(static_cast<int32_t>(options_.window));
  writer->Number(static_cast<int32_t>(options_.sinks));
  writer->Number(static_cast<int32_t>(options_.block_tokens));
  writer->Number(static_cast<int32_t>(options_.query_offset));
  writer->Number(static_cast<uint32_t>(options_.span_layers.size()));
  writer->Ids(options_.span_layers);
  writer->Number(position_);
  writer->Number(handed_);
  writer->Number(static_cast<uint8_t>(flushed_));
  writer->Number(static_cast<uint32_t>(sink_ids_.size()));
  writer->Ids(sink_ids_);
  writer->Number(static_cast<uint32_t>(window_ids_.size()));
  writer->Ids(window_ids_);
}

std::string StreamState::Serialize() const {
  CheckWhole();
  const c10::InferenceMode inference;
  const size_t held = sink_ids_.size() + window_ids_.size();
  const size_t rows = held * attention_layers_.size() * 2 * config_.kv_heads * config_.head_dim;
  StateWriter writer((rows + held + options_.span_layers.size()) * sizeof(float) + ssm_.nbytes() +
                     conv_.nbytes() + graph_.size() + 256);  // 256: the numbers between them
  WriteHead(kSessionMagic, kSessionVersion, &writer);
  writer.Rows(window_.SinkRows());
  if (!window_ids_.empty()) writer.Rows(window_.WindowRows());
  writer.Rows(ssm_);
  writer.Rows(conv_);
  return writer.Take();
}

std::string StreamState::SerializeRecurrent() const {
  CheckWhole();
  const c10::InferenceMode inference;
  const size_t held = sink_ids_.size() + window_ids_.size();
  StateWriter writer((held + options_.span_layers.size() + config_.hidden) * sizeof(float) +
                     ssm_.nbytes() + conv_.nbytes() + graph_.size() + 256);
  WriteHead(kRecurrentMagic, kRecurrentVersion, &writer);
  writer.Number(static_cast<uint8_t>(last_.defined()));
  if (last_.defined()) writer.Rows(last_);
  writer.Rows(ssm_);
  writer.Rows(conv_);
  return writer.Take();
}

std::string StreamState::SerializeRows(uint64_t begin, uint64_t end) const {
  CheckWhole();
  const c10::InferenceMode inference;
  const uint64_t sinks = sink_ids_.size(), window = window_begin();
  const bool in_sinks = end <= sinks, in_window = begin >= window && end <= position_;
  if (begin >= end || (!in_sinks && !in_window)) {
    throw Error(ErrorCode::kInvalidArgument,
                "tokens " + std::to_string(begin) + " to " + std::to_string(end) +
                    " are neither among the " + std::to_string(sinks) +
                    " sinks nor in the window from " + std::to_string(window) + " to " +
                    std::to_string(position_));
  }
  const auto count = static_cast<int64_t>(end - begin);
  const at::Tensor rows =
      in_sinks ? window_.SinkRows().narrow(3, static_cast<int64_t>(begin), count)
               : window_.WindowRows().narrow(3, static_cast<int64_t>(begin - window), count);
  StateWriter writer(static_cast<size_t>(rows.numel()) * sizeof(float));
  writer.Rows(rows);
  return writer.Take();
}

std::unique_ptr<StreamState> StreamState::ReadHead(const char* magic, uint32_t version,
                                                   const ModelConfig& config,
                                                   const std::string& graph, c10::Device device,
                                                   StateReader* reader) {
  const std::string found = reader->Text(sizeof(kSessionMagic), "the magic");
  if (std::memcmp(found.data(), magic, sizeof(kSessionMagic)) != 0) {
    reader->Fail("it does not begin with '" + std::string(magic, sizeof(kSessionMagic)) + "'");
  }
  const auto saved_version = reader->Number<uint32_t>("the version");
  if (saved_version != version) {
    throw Error(ErrorCode::kUnsupported,
                "saved state has version " + std::to_string(saved_version) + ", this build reads " +
                    std::to_string(version),
                "Use the version of eidetic that saved it.");
  }
  const auto graph_size = reader->Number<uint32_t>("the length of the model's description");
  const std::string saved_graph = reader->Text(graph_size, "the model's description");
  if (saved_graph != graph) {
    throw Error(
        ErrorCode::kMismatch,
        "saved state is of another model: '" + saved_graph + "', this one is '" + graph + "'",
        "Open the session with the model that it was saved with.");
  }
  const AttentionOptions options = ReadOptions(*reader, config);
  auto state = std::make_unique<StreamState>(config, options, graph, device);
  state->position_ = reader->Number<uint64_t>("the position");
  state->handed_ = reader->Number<uint64_t>("the number of tokens handed over");
  const auto flushed = reader->Number<uint8_t>("the flush mark");
  if (flushed > 1) reader->Fail("the flush mark is " + std::to_string(flushed) + ", not 0 or 1");
  state->flushed_ = flushed == 1;
  const auto sinks = reader->Number<uint32_t>("the number of sinks held");
  state->sink_ids_ = reader->Ids(sinks, "the sinks' tokens");
  const auto held = reader->Number<uint32_t>("the number of window tokens");
  state->window_ids_ = reader->Ids(held, "the window's tokens");
  state->CheckCounts([&](const std::string& what) { reader->Fail(what); });
  return state;
}

std::unique_ptr<StreamState> StreamState::Restore(const std::string& bytes,
                                                  const ModelConfig& config,
                                                  const std::string& graph, c10::Device device) {
  StateReader reader(bytes);
  auto state = ReadHead(kSessionMagic, kSessionVersion, config, graph, device, &reader);
  const at::Tensor sink_rows =
      reader.Rows(state->RowSizes(static_cast<int64_t>(state->sink_ids_.size())), "the sinks");
  const at::Tensor window_rows =
      reader.Rows(state->RowSizes(static_cast<int64_t>(state->window_ids_.size())), "the window");
  state->ReadRecurrent(&reader);
  state->FillWindow(sink_rows, window_rows);
  return state;
}

std::unique_ptr<StreamState> StreamState::Restore(const std::string& recurrent,
                                                  const std::vector<StateRows>& rows,
                                                  const ModelConfig& config,
                                                  const std::string& graph, c10::Device device) {
  StateReader reader(recurrent);
  auto state = ReadHead(kRecurrentMagic, kRecurrentVersion, config, graph, device, &reader);
  const auto has_last = reader.Number<uint8_t>("the mark of the last row");
  if (has_last > 1) reader.Fail("the mark of the last row is " + std::to_string(has_last));
  if (has_last == 1) state->KeepLast(reader.Rows({1, config.hidden}, "the last row"));
  state->ReadRecurrent(&reader);
  const auto gather = [&](uint64_t begin, uint64_t end) {
    return state->GatherRows(rows, begin, end);
  };
  const uint64_t sinks = state->sink_ids_.size();
  const at::Tensor sink_rows = gather(0, sinks);
  state->FillWindow(sink_rows,
                    gather(state->position_ - state->window_ids_.size(), state->position_));
  return state;
}

void StreamState::ReadRecurrent(StateReader* reader) {
  const at::Tensor ssm = reader->Rows(ssm_.sizes().vec(), "the SSM states");
  const at::Tensor conv = reader->Rows(conv_.sizes().vec(), "the convolution states");
  reader->End();
  ssm_.copy_(ssm);
  conv_.copy_(conv);
}

std::vector<int64_t> StreamState::RowSizes(int64_t tokens) const {
  const WindowShape& shape = window_.shape();
  return {shape.layers, 2, shape.kv_heads, tokens, shape.head_dim};
}

at::Tensor StreamState::GatherRows(const std::vector<StateRows>& rows, uint64_t begin,
                                   uint64_t end) const {
  at::Tensor gathered = at::empty(RowSizes(static_cast<int64_t>(end - begin)), at::kFloat);
  uint64_t at = begin;
  for (const StateRows& piece : rows) {
    if (piece.end <= at || piece.begin >= end) continue;
    const auto tokens = static_cast<int64_t>(piece.end - piece.begin);
    StateReader reader(piece.bytes);
    const at::Tensor values = reader.Rows(RowSizes(tokens), "the window's rows");
    reader.End();
    if (piece.begin > at) break;
    const uint64_t stop = std::min(end, piece.end);
    const auto count = static_cast<int64_t>(stop - at);
    gathered.narrow(3, static_cast<int64_t>(at - begin), count)
        .copy_(values.narrow(3, static_cast<int64_t>(at - piece.begin), count));
    at = stop;
  }
  if (at == end) return gathered;
  throw Error(ErrorCode::kCorruption,
              "saved state is damaged: keys and values of tokens " + std::to_string(at) + " to " +
                  std::to_string(end) + " are missing",
              "Go back to an earlier turn, or begin the session anew.");
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
