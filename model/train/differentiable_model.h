// A hybrid model over one sequence from a fresh state, differentiable by its parameters: what
// HybridModel::ForwardSequence computes, without its pieces and changes in place.
//
// Attention is model/sequence_attention.h and model/stream_attention.h, the scan is model/mamba2.h.
// Rows of q and k are half-split here, as `transformers` has them; they are interleaved behind the
// projection, because the paper's scores are products of queries and values, and so depend on the
// order of a head's numbers.
#ifndef EIDETIC_MODEL_TRAIN_DIFFERENTIABLE_MODEL_H_
#define EIDETIC_MODEL_TRAIN_DIFFERENTIABLE_MODEL_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/config.h"
#include "model/sequence_options.h"
#include "model/train/cross_entropy.h"
#include "model/train/parameters.h"

namespace eidetic::model {

// What is added to a linear map: scale * b a x, with x perhaps thinned out.
struct LowRankTerm {
  at::Tensor a, b;  // [r, inputs], [outputs, r]
  double scale = 1;
  double dropout = 0;  // share of x's numbers that a does not see in training; 0 .. 1
};

struct TrainForwardOptions {
  SequenceAttentionOptions attention;  // scale 0: what the model's file says
  // The tokens are so many sequences of one length, one behind another, that know nothing of each
  // other: on a GPU faster than one at a time, for as much more memory.
  int64_t sequences = 1;
  // Of each sequence, by which it draws apart from others, alike in whatever company it is read:
  // SeedOfLayer(seed, number) takes the place of attention.seed and dropout_seed. Empty: all draw
  // with these.
  std::vector<int> numbers;
  // Keep what enters each layer alone, and compute the layer again in backward; of Mixed too.
  bool recompute = false;
  // Told of each layer what enters it and what its attention or mixer makes of that, both [L, D].
  std::function<void(size_t layer, const at::Tensor& hidden, const at::Tensor& mixed)> observe;
  // Whether dropout is on, and its draws: the same seed, the same draws on every device.
  std::optional<uint64_t> dropout_seed;
};

// Not copyable; one thread at a time.
class DifferentiableModel {
 public:
  // type: float, double or bfloat16. In bfloat16 the linear maps are held in it, once, and computed
  // in it, attention too; everything else that LoadParameters names, the sums of layers, norms, the
  // scan and its states, softmax and loss are fp32, and so are gradients of what an adapter trains
  // (docs/decisions/088-training-in-bf16.md). `scaling`, if given, is taken in place of the file's.
  // `whole_mixers`: the mixers' maps are held in fp32, to be trained as a whole, and rounded when
  // they compute. Throws Error as LoadParameters does.
  DifferentiableModel(const Checkpoint& checkpoint, c10::Device device, at::ScalarType type,
                      const std::optional<RotaryScaling>& scaling = std::nullopt,
                      bool whole_mixers = false);
  DifferentiableModel(const DifferentiableModel&) = delete;
  DifferentiableModel& operator=(const DifferentiableModel&) = delete;

  const ModelConfig& config() const { return config_; }
  // Where it is not what the checkpoint says.
  const std::optional<RotaryScaling>& other_scaling() const { return other_scaling_; }
  // Those of the checkpoint. Whoever trains one makes it require its gradient, and changes it in
  // place.
  const Parameters& parameters() const { return parameters_; }

  // Paths of the layers' linear maps, "model.layers.3.self_attn.q_proj", in the model's order.
  std::vector<std::string> LinearModules() const;
  // Throws kInvalidArgument for a path that LinearModules does not name, or matrices that do not
  // fit its map.
  void AddLowRank(const std::string& module, LowRankTerm low_rank);
  void RemoveLowRank(const std::string& module);
  const std::map<std::string, LowRankTerm>& low_ranks() const { return low_ranks_; }  // by module

  // What the last norm leaves of tokens 0 .. L - 1: [L, D]. Throws kInvalidArgument for zero
  // tokens, an unknown id, options out of range, or tokens that are no so many sequences, or have
  // as many numbers.
  at::Tensor Hidden(const std::vector<int32_t>& tokens, const TrainForwardOptions& options) const;
  // hidden [n, D] -> [n, vocabulary]
  at::Tensor Logits(const at::Tensor& hidden) const;
  // The sum of the losses of `hidden`'s rows on their targets (model/train/cross_entropy.h).
  at::Tensor SumLoss(const at::Tensor& hidden, const std::vector<int32_t>& targets) const;
  // The same against distributions: SumDivergence there.
  at::Tensor SumDivergenceFrom(const WantedLogits& wanted, const at::Tensor& hidden,
                               const std::vector<int32_t>& targets, double text_share) const;
  // What a layer's attention or mixer makes of what enters the layer: [L, D] -> [L, D].
  at::Tensor Mixed(size_t layer, const at::Tensor& hidden,
                   const TrainForwardOptions& options) const;

 private:
  // What linear maps and attention compute in.
  at::ScalarType ComputeType() const { return type_; }
  const at::Tensor& Parameter(const std::string& name) const;
  const at::Tensor& Head() const;
  at::Tensor Linear(const std::string& module, const at::Tensor& x,
                    const TrainForwardOptions& options) const;
  at::Tensor Norm(const std::string& module, const at::Tensor& x) const;
  at::Tensor AnglesOf(int64_t tokens, const TrainForwardOptions& options) const;
  // Of kStream, see StreamAttention: one for each sequence, or null.
  using Spans = std::vector<at::Tensor>;
  // part(input), which needs nothing trained but the layer's; with options.recompute its input
  // alone is kept.
  using Part = std::function<at::Tensor(const at::Tensor& input, Spans* spans)>;
  at::Tensor PartOfLayer(size_t layer, const at::Tensor& input, const TrainForwardOptions& options,
                         const Part& part) const;
  at::Tensor Layer(size_t layer, const at::Tensor& hidden, const at::Tensor& angles,
                   const TrainForwardOptions& options, Spans* spans) const;
  at::Tensor Attend(size_t layer, const at::Tensor& x, const at::Tensor& angles,
                    const TrainForwardOptions& options, Spans* spans) const;
  at::Tensor Mix(size_t layer, const at::Tensor& x, const TrainForwardOptions& options) const;
  at::Tensor FeedForward(size_t layer, const at::Tensor& x,
                         const TrainForwardOptions& options) const;
  std::vector<at::Tensor> TrainedTensorsOf(size_t layer) const;

  ModelConfig config_;
  std::optional<RotaryScaling> other_scaling_;
  at::ScalarType type_;
  Parameters parameters_;
  mutable at::Tensor angles_;                     // as many as were ever needed
  std::map<std::string, LowRankTerm> low_ranks_;  // by module
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_DIFFERENTIABLE_MODEL_H_
