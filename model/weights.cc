#include "model/weights.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "model/error.h"

namespace eidetic::model {
namespace {

using Shape = std::vector<uint64_t>;

// Products with 2,313 outputs (smol-hybrid's in_proj) take half as long again as with 2,320.
constexpr uint64_t kRowMultiple = 16;

// Reads tensors of one checkpoint and counts what they take. What the base has already is the
// base's.
class Reader {
 public:
  Reader(const Checkpoint& checkpoint, c10::Device device, const ModelWeights* base)
      : checkpoint_(checkpoint), device_(device), base_(base) {}

  at::Tensor Read(const std::string& name, const Shape& shape) {
    return SharedOr({name}, [&] { return ReadOnHost(name, shape); });
  }

  // Several matrices with the same number of inputs, one under the other, then rows of zeros up to
  // a multiple of `multiple`.
  at::Tensor ReadRows(const std::vector<std::pair<std::string, uint64_t>>& names_and_rows,
                      uint64_t inputs, uint64_t multiple = 1) {
    std::vector<std::string> names;
    uint64_t rows = 0;
    for (const auto& [name, count] : names_and_rows) {
      names.push_back(name);
      rows += count;
    }
    return SharedOr(names, [&] {
      const uint64_t padded = (rows + multiple - 1) / multiple * multiple;
      at::Tensor host = at::zeros(Sizes({padded, inputs}), at::kFloat);
      int64_t row = 0;
      for (const auto& [name, count] : names_and_rows) {
        ReadInto(name, {count, inputs}, host.narrow(0, row, static_cast<int64_t>(count)));
        row += static_cast<int64_t>(count);
      }
      return host;
    });
  }

  // [columns, rows] out of a matrix [rows, columns].
  at::Tensor ReadTurned(const std::string& name, uint64_t rows, uint64_t columns) {
    return SharedOr({name}, [&] { return ReadOnHost(name, {rows, columns}).t().contiguous(); });
  }

  // The tensor, or zeros when there is none.
  at::Tensor ReadOrZeros(const std::string& name, uint64_t size) {
    if (checkpoint_.Has(name)) return Read(name, {size});
    return Place(name, at::zeros({static_cast<int64_t>(size)}, at::kFloat));
  }

  // What was read, for ModelWeights.
  void Tell(ModelWeights* weights) {
    weights->placed = std::move(placed_);
    weights->bytes = bytes_;
    weights->shared_bytes = shared_bytes_;
  }

 private:
  static std::vector<int64_t> Sizes(const Shape& shape) {
    return std::vector<int64_t>(shape.begin(), shape.end());
  }

  // The base's tensor when it is made of the same values, else what `read` gives, placed.
  template <typename ReadFunction>
  at::Tensor SharedOr(const std::vector<std::string>& names, ReadFunction&& read) {
    const at::Tensor* shared = InBase(names);
    if (shared == nullptr) return Place(names.front(), read());
    shared_bytes_ += static_cast<uint64_t>(shared->numel()) * sizeof(float);
    return placed_[names.front()] = *shared;
  }

  const at::Tensor* InBase(const std::vector<std::string>& names) const {
    if (base_ == nullptr) return nullptr;
    std::optional<std::string> first;
    for (const std::string& name : names) {
      // One that is missing is read, which says so.
      const auto same =
          checkpoint_.Has(name) ? checkpoint_.SameAsInBase(name) : std::optional<std::string>();
      if (!same) return nullptr;
      if (!first) first = same;
    }
    const auto found = base_->placed.find(*first);
    return found == base_->placed.end() ? nullptr : &found->second;
  }

  at::Tensor Place(const std::string& name, const at::Tensor& host) {
    bytes_ += static_cast<uint64_t>(host.numel()) * sizeof(float);
    return placed_[name] = host.to(device_);
  }

  at::Tensor ReadOnHost(const std::string& name, const Shape& shape) const {
    at::Tensor host = at::empty(Sizes(shape), at::kFloat);
    ReadInto(name, shape, host);
    return host;
  }

  void ReadInto(const std::string& name, const Shape& shape, const at::Tensor& host) const {
    float* values = host.mutable_data_ptr<float>();
    checkpoint_.Read(name, shape, values);
    const int64_t count = host.numel();
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i])) {
        throw Error(
            ErrorCode::kCorruption,
            checkpoint_.Where(name) + " holds a number that is not finite at " + std::to_string(i),
            "The file is damaged or was made wrongly: fetch it again.");
      }
    }
  }

  const Checkpoint& checkpoint_;
  c10::Device device_;
  const ModelWeights* base_;
  std::map<std::string, at::Tensor> placed_;
  uint64_t bytes_ = 0, shared_bytes_ = 0;
};

AttentionWeights LoadAttention(Reader& reader, const std::string& block, const ModelConfig& c) {
  const uint64_t hidden = c.hidden;
  const uint64_t query = static_cast<uint64_t>(c.heads) * c.head_dim;
  const uint64_t key = static_cast<uint64_t>(c.kv_heads) * c.head_dim;
  AttentionWeights weights;
  weights.norm = reader.Read(block + "attn_norm.weight", {hidden});
  weights.qkv = reader.ReadRows({{block + "attn_q.weight", query},
                                 {block + "attn_k.weight", key},
                                 {block + "attn_v.weight", key}},
                                hidden);
  weights.output = reader.Read(block + "attn_output.weight", {hidden, query});
  return weights;
}

Mamba2Weights LoadMamba(Reader& reader, const std::string& block, const ModelConfig& c) {
  const uint64_t hidden = c.hidden;
  const uint64_t inner = c.mamba.Inner();
  const uint64_t channels = c.mamba.ConvChannels();
  const uint64_t heads = c.mamba.heads;
  const uint64_t groups = c.mamba.groups;
  const uint64_t width = c.mamba.conv_width;
  Mamba2Weights weights;
  weights.norm = reader.Read(block + "attn_norm.weight", {hidden});
  weights.in_proj =
      reader.ReadRows({{block + "ssm_in.weight", inner + channels + heads}}, hidden, kRowMultiple);
  weights.conv = reader.ReadTurned(block + "ssm_conv1d.weight", channels, width);
  weights.conv_bias = reader.ReadOrZeros(block + "ssm_conv1d.bias", channels);
  weights.dt_bias = reader.Read(block + "ssm_dt.bias", {heads});
  weights.decay = reader.Read(block + "ssm_a", {heads, 1}).flatten();
  weights.skip = reader.Read(block + "ssm_d", {heads, 1});
  weights.gated_norm = reader.Read(block + "ssm_norm.weight", {groups, inner / groups});
  weights.output = reader.Read(block + "ssm_out.weight", {hidden, inner});
  return weights;
}

FeedForwardWeights LoadFeedForward(Reader& reader, const std::string& block, const ModelConfig& c) {
  const uint64_t hidden = c.hidden, inner = c.feed_forward;
  FeedForwardWeights weights;
  weights.norm = reader.Read(block + "ffn_norm.weight", {hidden});
  weights.gate_up = reader.ReadRows(
      {{block + "ffn_gate.weight", inner}, {block + "ffn_up.weight", inner}}, hidden);
  weights.down = reader.Read(block + "ffn_down.weight", {hidden, inner});
  return weights;
}

}  // namespace

void RefuseUnknownTensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  const auto refuse = [&](const std::string& name, const char* what) {
    if (!checkpoint.Has(name)) return;
    throw Error(ErrorCode::kUnsupported,
                checkpoint.path() + " has the tensor '" + name + "': " + what + " is not supported",
                "Use a model without it.");
  };
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    if (config.layers[i] == LayerKind::kAttention) {
      for (const char* name : {"attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"}) {
        refuse(block + name, "a bias of attention");
      }
    } else {
      refuse(block + "ssm_in.bias", "a bias of the Mamba projections");
      refuse(block + "ssm_out.bias", "a bias of the Mamba projections");
    }
    for (const char* name : {"ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"}) {
      refuse(block + name, "a bias of the feed-forward layer");
    }
    refuse(block + "ffn_gate_inp.weight", "a mixture of experts");
  }
}

ModelWeights LoadWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                         c10::Device device, const ModelWeights* base) {
  RefuseUnknownTensors(checkpoint, config);
  Reader reader(checkpoint, device, base);
  const uint64_t hidden = config.hidden, vocabulary = config.vocabulary;
  ModelWeights weights;
  weights.embedding = reader.Read("token_embd.weight", {vocabulary, hidden});
  int attention_layers = 0, mamba_layers = 0;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    LayerWeights layer;
    layer.kind = config.layers[i];
    if (layer.kind == LayerKind::kAttention) {
      layer.index = attention_layers++;
      layer.attention = LoadAttention(reader, block, config);
    } else {
      layer.index = mamba_layers++;
      layer.mamba = LoadMamba(reader, block, config);
    }
    layer.feed_forward = LoadFeedForward(reader, block, config);
    weights.layers.push_back(std::move(layer));
  }
  weights.norm = reader.Read("output_norm.weight", {hidden});
  weights.output = config.tied_embeddings ? weights.embedding
                                          : reader.Read("output.weight", {vocabulary, hidden});
  reader.Tell(&weights);
  return weights;
}

}  // namespace eidetic::model
