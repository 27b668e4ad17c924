#include "model/train/differentiable_model.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "model/error.h"
#include "model/feed_forward.h"
#include "model/mamba2.h"
#include "model/rotary.h"
#include "model/sequence_attention.h"
#include "model/stream_attention.h"
#include "model/train/cross_entropy.h"
#include "model/train/recompute.h"

namespace eidetic::model {
namespace {

std::string PathOfLayer(size_t layer) {
  return "model.layers." + std::to_string(layer) + ".";
}

// Modules by their names in the two families, apart from the mixers.
struct FeedForwardNames {
  std::vector<std::string> in;  // one for gate and up each, or one for both
  std::string out;
};

FeedForwardNames FeedForwardOf(const ModelConfig& config, size_t layer) {
  const std::string path = PathOfLayer(layer);
  if (config.architecture == "llama") {
    return {{path + "mlp.gate_proj", path + "mlp.up_proj"}, path + "mlp.down_proj"};
  }
  return {{path + "shared_mlp.input_linear"}, path + "shared_mlp.output_linear"};
}

// Rows of half-split heads [L, H d] -> interleaved [L, H, d]. Heads that are not rotated are in no
// such order.
at::Tensor ByHead(const at::Tensor& rows, int64_t heads, bool rotated) {
  const int64_t tokens = rows.size(0), d = rows.size(1) / heads;
  if (!rotated) return rows.view({tokens, heads, d});
  return rows.view({tokens, heads, 2, d / 2}).transpose(2, 3).reshape({tokens, heads, d});
}

// A number for a name: where a module stands among others must not change its draws.
uint64_t HashOf(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char letter : text) hash = (hash ^ static_cast<uint8_t>(letter)) * 0x100000001b3;
  return hash;
}

// What a sequence draws with where all would draw with `seed`.
uint64_t SeedOfSequence(const TrainForwardOptions& options, uint64_t seed, int64_t sequence) {
  if (options.numbers.empty()) return seed;
  return SeedOfLayer(seed, options.numbers[static_cast<size_t>(sequence)]);
}

// x without a share of its numbers, the others larger to make up for it; x is as many sequences as
// there are seeds. Drawn by hashing seed and place in the sequence with whole numbers: the same on
// every device, and in a second forward pass.
at::Tensor ThinnedOut(const at::Tensor& x, double share, const std::vector<uint64_t>& seeds) {
  const auto constant = [](uint64_t bits) { return static_cast<int64_t>(bits); };
  const auto sequences = static_cast<int64_t>(seeds.size());
  const at::Tensor places =
      at::arange(x.numel() / sequences, x.options().dtype(at::kLong).requires_grad(false));
  // Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
  const at::Tensor steps = places.mul(constant(0x9e3779b97f4a7c15));
  // Each seed goes along as a number: a tensor of them would be waited for on its way to a device.
  std::vector<at::Tensor> begun;
  for (const uint64_t seed : seeds) begun.push_back(steps.add(constant(seed)));
  at::Tensor bits = sequences == 1 ? begun[0] : at::stack(begun);
  const auto mix = [&](int64_t shift, uint64_t factor) {   // z = (z ^ (z >> shift)) * factor
    const int64_t low = (int64_t{1} << (64 - shift)) - 1;  // >> copies the sign
    bits =
        bits.bitwise_xor(bits.bitwise_right_shift(shift).bitwise_and_(low)).mul_(constant(factor));
  };
  mix(30, 0xbf58476d1ce4e5b9);
  mix(27, 0x94d049bb133111eb);
  mix(31, 1);
  const auto bound = static_cast<int64_t>(share * 0x1p31);
  const at::Tensor kept = bits.bitwise_and_((int64_t{1} << 31) - 1).ge(bound).view(x.sizes());
  return x.mul(kept.to(x.scalar_type()).mul_(1 / (1 - share)));
}

void CheckTokens(const std::vector<int32_t>& tokens, int vocabulary) {
  if (tokens.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "a sequence of 0 tokens cannot be read",
                "Pass one token or more.");
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocabulary) continue;
    throw Error(ErrorCode::kInvalidArgument,
                "token " + std::to_string(i) + " of the sequence is " + std::to_string(tokens[i]) +
                    ", outside the vocabulary of " + std::to_string(vocabulary),
                "Encode the text with this model's tokenizer.");
  }
}

}  // namespace

DifferentiableModel::DifferentiableModel(const Checkpoint& checkpoint, c10::Device device,
                                         at::ScalarType type,
                                         const std::optional<RotaryScaling>& scaling,
                                         bool whole_mixers)
    : config_(checkpoint.Config()),
      type_(type),
      parameters_(LoadParameters(checkpoint, config_, device, type, whole_mixers)) {
  if (!scaling) return;
  const RotaryScaling own = config_.rotary_scaling;
  config_.SetRotaryScaling(*scaling);
  if (config_.rotary_scaling != own) other_scaling_ = config_.rotary_scaling;
}

std::vector<std::string> DifferentiableModel::LinearModules() const {
  std::vector<std::string> modules;
  for (size_t layer = 0; layer < config_.layers.size(); ++layer) {
    const std::string path = PathOfLayer(layer);
    if (config_.layers[layer] == LayerKind::kAttention) {
      for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
        modules.push_back(path + "self_attn." + name);
      }
    } else {
      modules.push_back(path + "mamba.in_proj");
      modules.push_back(path + "mamba.out_proj");
    }
    const FeedForwardNames names = FeedForwardOf(config_, layer);
    modules.insert(modules.end(), names.in.begin(), names.in.end());
    modules.push_back(names.out);
  }
  return modules;
}

void DifferentiableModel::AddLowRank(const std::string& module, LowRankTerm low_rank) {
  const std::vector<std::string> modules = LinearModules();
  if (std::find(modules.begin(), modules.end(), module) == modules.end()) {
    throw Error(ErrorCode::kInvalidArgument, "the model has no linear map '" + module + "'",
                "LinearModules names those there are.");
  }
  const at::Tensor& weight = Parameter(module + ".weight");
  if (low_rank.a.dim() != 2 || low_rank.b.dim() != 2 || low_rank.a.size(1) != weight.size(1) ||
      low_rank.b.size(0) != weight.size(0) || low_rank.a.size(0) != low_rank.b.size(1)) {
    throw Error(ErrorCode::kInvalidArgument,
                "'" + module + "' maps " + std::to_string(weight.size(1)) + " numbers to " +
                    std::to_string(weight.size(0)) + ", which the two matrices do not",
                "Pass a [r, inputs] and b [outputs, r].");
  }
  low_ranks_.insert_or_assign(module, std::move(low_rank));
}

void DifferentiableModel::RemoveLowRank(const std::string& module) {
  low_ranks_.erase(module);
}

const at::Tensor& DifferentiableModel::Parameter(const std::string& name) const {
  return parameters_.at(name);
}

const at::Tensor& DifferentiableModel::Head() const {
  return Parameter(config_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
}

// Cosines and sines of positions 0 .. tokens - 1, or of those that kStream needs: [n, d / 2, 2].
// Pairs that are not rotated turn by 0: they stand among the others when halves are interleaved.
at::Tensor DifferentiableModel::AnglesOf(int64_t tokens, const TrainForwardOptions& options) const {
  if (config_.rotary_dims == 0) return {};
  const bool stream = options.attention.mode == SequenceMode::kStream;
  const int64_t positions = stream ? StreamPositions(options.attention) : tokens;
  if (!angles_.defined() || angles_.size(0) < positions) {
    const at::Tensor& embedding = Parameter("model.embed_tokens.weight");
    const at::Tensor rotated = RotaryTable(config_, at::kCPU).Compute(0, positions);
    const int64_t rest = (config_.head_dim - config_.rotary_dims) / 2;
    at::Tensor still = at::zeros({positions, rest, 2}, rotated.options());
    still.select(2, 0).fill_(1);
    angles_ = at::cat({rotated, still}, 1).to(embedding.device(), embedding.scalar_type());
  }
  return angles_.narrow(0, 0, positions);
}

// x [L, inputs], weight [outputs, inputs] -> [L, outputs]. Rows of an odd number of numbers begin
// where a GPU cannot load several at once: of all products of smol-hybrid those of in_proj, with
// 2,313 outputs, were two fifths of the time on an H100 in bf16, by kernels that load one number at
// a time.
static at::Tensor InWholeRows(const at::Tensor& x, const at::Tensor& weight) {
  constexpr int64_t kMultiple = 16;
  const int64_t outputs = weight.size(0), rest = outputs % kMultiple;
  if (rest == 0 || !x.is_cuda()) return at::linear(x, weight);
  return at::linear(x, at::constant_pad_nd(weight, {0, 0, 0, kMultiple - rest}))
      .narrow(-1, 0, outputs);
}

// x [L, inputs] -> [L, outputs]
at::Tensor DifferentiableModel::Linear(const std::string& module, const at::Tensor& x,
                                       const TrainForwardOptions& options) const {
  const at::Tensor y = InWholeRows(x, Parameter(module + ".weight").to(x.scalar_type()));
  const auto found = low_ranks_.find(module);
  if (found == low_ranks_.end()) return y;
  const LowRankTerm& low_rank = found->second;
  at::Tensor seen = x;
  if (low_rank.dropout > 0 && options.dropout_seed) {
    std::vector<uint64_t> seeds;
    for (int64_t i = 0; i < options.sequences; ++i) {
      seeds.push_back(SeedOfSequence(options, *options.dropout_seed, i) ^ HashOf(module));
    }
    seen = ThinnedOut(x, low_rank.dropout, seeds);
  }
  const at::Tensor a = low_rank.a.to(x.scalar_type()), b = low_rank.b.to(x.scalar_type());
  return y.add(at::linear(at::linear(seen, a), b), low_rank.scale);
}

// x in fp32 where maps compute in bf16; the result is what they take.
at::Tensor DifferentiableModel::Norm(const std::string& module, const at::Tensor& x) const {
  return RmsNorm(x, Parameter(module + ".weight"), config_.norm_epsilon).to(type_);
}

at::Tensor DifferentiableModel::Attend(size_t layer, const at::Tensor& x, const at::Tensor& angles,
                                       const TrainForwardOptions& options, Spans* spans) const {
  const std::string path = PathOfLayer(layer) + "self_attn.";
  const bool rotated = angles.defined();
  const at::Tensor queries = ByHead(Linear(path + "q_proj", x, options), config_.heads, rotated);
  const at::Tensor keys = ByHead(Linear(path + "k_proj", x, options), config_.kv_heads, rotated);
  const at::Tensor values = Linear(path + "v_proj", x, options).view(keys.sizes());
  SequenceAttentionOptions of_layer =
      OptionsOfLayer(options.attention, config_.attention_scale, static_cast<int>(layer));
  const int64_t length = x.size(0) / options.sequences;
  std::vector<at::Tensor> attended;  // [L, H, d] each
  for (int64_t i = 0; i < options.sequences; ++i) {
    const auto own = [&](const at::Tensor& rows) {
      return options.sequences == 1 ? rows : rows.narrow(0, i * length, length);
    };
    at::Tensor query = own(queries), key = own(keys);
    const at::Tensor value = own(values);
    of_layer.seed =
        SeedOfLayer(SeedOfSequence(options, options.attention.seed, i), static_cast<int>(layer));
    if (of_layer.mode == SequenceMode::kStream) {
      at::Tensor* const span = spans == nullptr ? nullptr : &spans->at(static_cast<size_t>(i));
      attended.push_back(StreamAttention(query, key, value, angles, of_layer, span));
      continue;
    }
    if (rotated) {
      query = RotatedRows(query, angles);
      key = RotatedRows(key, angles);
    }
    attended.push_back(SequenceAttention(query, key, value, of_layer));
  }
  const at::Tensor all = attended.size() == 1 ? attended[0] : at::cat(attended);
  return Linear(path + "o_proj", all.flatten(1), options);
}

at::Tensor DifferentiableModel::Mix(size_t layer, const at::Tensor& x,
                                    const TrainForwardOptions& options) const {
  const std::string path = PathOfLayer(layer) + "mamba.";
  const MambaConfig& mamba = config_.mamba;
  const at::Tensor& convolution = Parameter(path + "conv1d.weight");  // [C, 1, W]
  const auto bias = parameters_.find(path + "conv1d.bias");
  Mamba2Weights weights;
  weights.conv = convolution.squeeze(1).t();
  weights.conv_bias =
      bias == parameters_.end()
          ? at::zeros({mamba.ConvChannels()}, convolution.options().requires_grad(false))
          : bias->second;
  weights.dt_bias = Parameter(path + "dt_bias");
  weights.decay = Parameter(path + "A_log").exp().neg();
  weights.skip = Parameter(path + "D").unsqueeze(1);
  weights.gated_norm =
      Parameter(path + "norm.weight").view({mamba.groups, mamba.Inner() / mamba.groups});
  const at::TensorOptions own = convolution.options().requires_grad(false);
  const int64_t sequences = options.sequences;
  const Mamba2State fresh = {
      at::zeros({sequences * mamba.heads, mamba.head_dim, mamba.state}, own),
      at::zeros({sequences, mamba.conv_width - 1, mamba.ConvChannels()}, own)};
  const at::Tensor projected = Linear(path + "in_proj", x, options).to(convolution.scalar_type());
  const at::Tensor mixed =
      Mamba2MixProjected(weights, mamba, config_.norm_epsilon, projected, fresh);
  return Linear(path + "out_proj", mixed.to(type_), options);
}

// out(silu(gate(x)) * up(x))
at::Tensor DifferentiableModel::FeedForward(size_t layer, const at::Tensor& x,
                                            const TrainForwardOptions& options) const {
  const FeedForwardNames names = FeedForwardOf(config_, layer);
  at::Tensor gate = Linear(names.in[0], x, options), up;
  if (names.in.size() == 2) {
    up = Linear(names.in[1], x, options);
  } else {
    up = gate.narrow(1, config_.feed_forward, config_.feed_forward);
    gate = gate.narrow(1, 0, config_.feed_forward);
  }
  return Linear(names.out, at::silu(gate).mul(up), options);
}

at::Tensor DifferentiableModel::Layer(size_t layer, const at::Tensor& hidden,
                                      const at::Tensor& angles, const TrainForwardOptions& options,
                                      Spans* spans) const {
  const std::string path = PathOfLayer(layer);
  const at::Tensor normed = Norm(path + "input_layernorm", hidden);
  const at::Tensor mixed = config_.layers[layer] == LayerKind::kAttention
                               ? Attend(layer, normed, angles, options, spans)
                               : Mix(layer, normed, options);
  if (options.observe) options.observe(layer, hidden, mixed);
  const at::Tensor between = hidden.add(mixed, config_.residual_scale);
  return between.add(FeedForward(layer, Norm(path + "post_attention_layernorm", between), options),
                     config_.residual_scale);
}

std::vector<at::Tensor> DifferentiableModel::TrainedTensorsOf(size_t layer) const {
  const std::string path = PathOfLayer(layer);
  std::vector<at::Tensor> trained;
  const auto add = [&](const at::Tensor& tensor) {
    if (tensor.requires_grad()) trained.push_back(tensor);
  };
  for (auto i = parameters_.lower_bound(path); i != parameters_.end() && i->first.starts_with(path);
       ++i) {
    add(i->second);
  }
  for (auto i = low_ranks_.lower_bound(path); i != low_ranks_.end() && i->first.starts_with(path);
       ++i) {
    add(i->second.a);
    add(i->second.b);
  }
  return trained;
}

at::Tensor DifferentiableModel::PartOfLayer(size_t layer, const at::Tensor& input,
                                            const TrainForwardOptions& options,
                                            const Part& part) const {
  if (!options.recompute) return part(input, nullptr);
  // The second pass takes the spans of the first.
  const auto spans = std::make_shared<Spans>(static_cast<size_t>(options.sequences));
  const auto again = [part, spans](const at::Tensor& of) { return part(of, spans.get()); };
  return Recomputed(again, input, TrainedTensorsOf(layer));
}

at::Tensor DifferentiableModel::Hidden(const std::vector<int32_t>& tokens,
                                       const TrainForwardOptions& options) const {
  CheckTokens(tokens, config_.vocabulary);
  CheckSequenceOptions(options.attention);
  const auto count = static_cast<int64_t>(tokens.size());
  if (options.sequences < 1 || count % options.sequences != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(count) + " tokens are no " + std::to_string(options.sequences) +
                    " sequences of one length",
                "Read sequences of other lengths one at a time.");
  }
  if (!options.numbers.empty() &&
      options.numbers.size() != static_cast<size_t>(options.sequences)) {
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(options.sequences) + " sequences have " +
                    std::to_string(options.numbers.size()) + " numbers to draw by",
                "Give each one, or none.");
  }
  const at::Tensor& embedding = Parameter("model.embed_tokens.weight");
  at::Tensor ids = at::empty({count}, at::kInt);
  std::copy(tokens.begin(), tokens.end(), ids.mutable_data_ptr<int32_t>());
  at::Tensor hidden =
      at::embedding(embedding, ids.to(embedding.device())).mul(config_.embedding_scale);
  const at::Tensor angles = AnglesOf(count / options.sequences, options);
  for (size_t layer = 0; layer < config_.layers.size(); ++layer) {
    const auto part = [this, layer, angles, options](const at::Tensor& input, Spans* spans) {
      return Layer(layer, input, angles, options, spans);
    };
    hidden = PartOfLayer(layer, hidden, options, part);
  }
  return Norm("model.norm", hidden);
}

at::Tensor DifferentiableModel::Logits(const at::Tensor& hidden) const {
  const at::ScalarType type = Parameter("model.norm.weight").scalar_type();
  return at::linear(hidden, Head().to(type_)).to(type).div(config_.logit_scale);
}

at::Tensor DifferentiableModel::Mixed(size_t layer, const at::Tensor& hidden,
                                      const TrainForwardOptions& options) const {
  const bool attends = config_.layers.at(layer) == LayerKind::kAttention;
  const at::Tensor angles =
      attends ? AnglesOf(hidden.size(0) / options.sequences, options) : at::Tensor();
  const auto part = [this, layer, attends, angles, options](const at::Tensor& input, Spans* spans) {
    const at::Tensor normed = Norm(PathOfLayer(layer) + "input_layernorm", input);
    return attends ? Attend(layer, normed, angles, options, spans) : Mix(layer, normed, options);
  };
  return PartOfLayer(layer, hidden, options, part);
}

// A device wants large products; a few hundred megabytes of logits are nothing to it.
static int64_t LogitRowsOn(const at::Tensor& hidden) {
  return hidden.is_cpu() ? 256 : 2048;
}

at::Tensor DifferentiableModel::SumDivergenceFrom(const WantedLogits& wanted,
                                                  const at::Tensor& hidden,
                                                  const std::vector<int32_t>& targets,
                                                  double text_share) const {
  return SumDivergence(hidden, Head(), targets, wanted, text_share, config_.logit_scale,
                       LogitRowsOn(hidden));
}

at::Tensor DifferentiableModel::SumLoss(const at::Tensor& hidden,
                                        const std::vector<int32_t>& targets) const {
  return SumCrossEntropy(hidden, Head(), targets, config_.logit_scale, LogitRowsOn(hidden));
}

}  // namespace eidetic::model
