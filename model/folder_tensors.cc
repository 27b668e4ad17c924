#include "model/folder_tensors.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace eidetic::model {
namespace {

using Form = FolderTensor::Form;
using Shape = std::vector<uint64_t>;

uint64_t Count(const Shape& shape) {
  uint64_t values = 1;
  for (const uint64_t size : shape) values *= size;
  return values;
}

class List {
 public:
  explicit List(const ModelConfig& config) : config_(config) {}

  std::vector<FolderTensor> Make() {
    const auto size = [](int value) { return static_cast<uint64_t>(value); };
    hidden_ = size(config_.hidden);
    const uint64_t vocabulary = size(config_.vocabulary);
    Add("token_embd.weight", kEmbedding, {vocabulary, hidden_});
    Add("output_norm.weight", "model.norm.weight", {hidden_});
    if (!config_.tied_embeddings) Add("output.weight", kOutputMatrix, {vocabulary, hidden_});
    for (size_t i = 0; i < config_.layers.size(); ++i) {
      block_ = "blk." + std::to_string(i) + ".";
      layer_ = "model.layers." + std::to_string(i) + ".";
      Add(block_ + "attn_norm.weight", layer_ + "input_layernorm.weight", {hidden_});
      if (config_.layers[i] == LayerKind::kAttention) {
        AddAttention(size(config_.heads), size(config_.kv_heads), size(config_.head_dim));
      } else {
        AddMixer(config_.mamba);
      }
      Add(block_ + "ffn_norm.weight", layer_ + "post_attention_layernorm.weight", {hidden_});
      AddFeedForward(size(config_.feed_forward));
    }
    return std::move(list_);
  }

 private:
  FolderTensor& Add(const std::string& name, const std::string& source, const Shape& shape) {
    FolderTensor tensor;
    tensor.name = name;
    tensor.shape = tensor.source_shape = shape;
    tensor.source = source;
    list_.push_back(std::move(tensor));
    return list_.back();
  }

  void AddAttention(uint64_t heads, uint64_t kv_heads, uint64_t head_dim) {
    const std::string source = layer_ + "self_attn.";
    for (const auto& [letter, rows] : {std::pair("q", heads), std::pair("k", kv_heads)}) {
      FolderTensor& tensor = Add(block_ + "attn_" + letter + ".weight",
                                 source + letter + "_proj.weight", {rows * head_dim, hidden_});
      // Without rotation the order of rows within a head is of no consequence.
      if (config_.rotary_dims == 0) continue;
      tensor.form = Form::kHalfSplitRows;
      tensor.head_dim = head_dim;
    }
    Add(block_ + "attn_v.weight", source + "v_proj.weight", {kv_heads * head_dim, hidden_});
    Add(block_ + "attn_output.weight", source + "o_proj.weight", {hidden_, heads * head_dim});
  }

  void AddMixer(const MambaConfig& mamba) {
    const auto size = [](int value) { return static_cast<uint64_t>(value); };
    const uint64_t heads = size(mamba.heads), inner = size(mamba.Inner());
    const uint64_t channels = size(mamba.ConvChannels()), groups = size(mamba.groups);
    const uint64_t width = size(mamba.conv_width);
    const std::string source = layer_ + "mamba.";
    Add(block_ + "ssm_in.weight", source + "in_proj.weight", {inner + channels + heads, hidden_});
    Add(block_ + "ssm_conv1d.weight", source + "conv1d.weight", {channels, width}).source_shape = {
        channels, 1, width};
    Add(block_ + "ssm_conv1d.bias", source + "conv1d.bias", {channels});
    Add(block_ + "ssm_dt.bias", source + "dt_bias", {heads});
    FolderTensor& decay = Add(block_ + "ssm_a", source + "A_log", {heads, 1});
    decay.source_shape = {heads};
    decay.form = Form::kLogOfDecay;
    Add(block_ + "ssm_d", source + "D", {heads, 1}).source_shape = {heads};
    Add(block_ + "ssm_norm.weight", source + "norm.weight", {groups, inner / groups})
        .source_shape = {inner};
    Add(block_ + "ssm_out.weight", source + "out_proj.weight", {hidden_, inner});
  }

  // `llama` has a matrix each for gate and up, `granitehybrid` one with the gate's rows first.
  void AddFeedForward(uint64_t inner) {
    const bool llama = config_.architecture == "llama";
    const std::string source = layer_ + (llama ? "mlp." : "shared_mlp.");
    const Shape shape = {inner, hidden_};
    if (llama) {
      Add(block_ + "ffn_gate.weight", source + "gate_proj.weight", shape);
      Add(block_ + "ffn_up.weight", source + "up_proj.weight", shape);
    } else {
      const Shape both = {2 * inner, hidden_};
      Add(block_ + "ffn_gate.weight", source + "input_linear.weight", shape).source_shape = both;
      FolderTensor& up = Add(block_ + "ffn_up.weight", source + "input_linear.weight", shape);
      up.source_shape = both;
      up.first_value = Count(shape);
    }
    Add(block_ + "ffn_down.weight", source + (llama ? "down_proj.weight" : "output_linear.weight"),
        {hidden_, inner});
  }

  const ModelConfig& config_;
  uint64_t hidden_ = 0;
  std::string block_, layer_;
  std::vector<FolderTensor> list_;
};

}  // namespace

uint64_t FolderTensor::Values() const {
  return Count(shape);
}

void FolderTensor::Convert(const std::function<void(float*)>& read, float* values) const {
  if (form != Form::kHalfSplitRows) {
    read(values);
    if (form != Form::kLogOfDecay) return;
    // In double, so that the rounding does not depend on the C library.
    for (uint64_t i = 0; i < Values(); ++i) {
      values[i] = static_cast<float>(-std::exp(static_cast<double>(values[i])));
    }
    return;
  }
  std::vector<float> halves(Values());
  read(halves.data());
  const uint64_t width = shape[1];
  for (uint64_t row = 0; row < shape[0]; ++row) {
    std::copy_n(halves.data() + HalfSplitRow(row) * width, width, values + row * width);
  }
}

void FolderTensor::Revert(const float* values, float* source) const {
  switch (form) {
    case Form::kAsIs:
      std::copy_n(values, Values(), source);
      return;
    case Form::kLogOfDecay:
      for (uint64_t i = 0; i < Values(); ++i) {
        source[i] = static_cast<float>(std::log(-static_cast<double>(values[i])));
      }
      return;
    case Form::kHalfSplitRows:
      for (uint64_t row = 0; row < shape[0]; ++row) {
        std::copy_n(values + row * shape[1], shape[1], source + HalfSplitRow(row) * shape[1]);
      }
  }
}

uint64_t FolderTensor::HalfSplitRow(uint64_t row) const {
  const uint64_t head = row / head_dim, at = row % head_dim;
  return head * head_dim + at % 2 * (head_dim / 2) + at / 2;
}

std::vector<FolderTensor> FolderTensorsOf(const ModelConfig& config) {
  return List(config).Make();
}

}  // namespace eidetic::model
