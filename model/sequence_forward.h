// All layers over a whole sequence from a fresh state, their attention being a pure function of the
// sequence. What HybridModel::ForwardSequence is made of.
#ifndef EIDETIC_MODEL_SEQUENCE_FORWARD_H_
#define EIDETIC_MODEL_SEQUENCE_FORWARD_H_

#include <ATen/core/Tensor.h>

#include "model/config.h"
#include "model/sequence_options.h"
#include "model/weights.h"

namespace eidetic::model {

// hidden [L, D]: embedded tokens of positions 0 .. L - 1; becomes what the last layer leaves.
// Beside the result of one attention layer's projections, [L, (2 H + 2 K) d], and its output, all
// memory is that of a piece of the sequence.
void RunSequenceLayers(const ModelWeights& weights, const ModelConfig& config,
                       const SequenceAttentionOptions& options, at::Tensor& hidden);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SEQUENCE_FORWARD_H_
