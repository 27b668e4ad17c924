// What every layer is made of: the linear map, the root-mean-square norm and the gated feed-forward
// block. fp32; rows are tokens.
#ifndef EIDETIC_MODEL_FEED_FORWARD_H_
#define EIDETIC_MODEL_FEED_FORWARD_H_

#include <ATen/core/Tensor.h>

#include "model/weights.h"

namespace eidetic::model {

// x [L, inputs], weight [outputs, inputs] -> [L, outputs]
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight);

// residual += scale * x weight^T; x [L, inputs], residual [L, outputs]
void AddLinear(const at::Tensor& x, const at::Tensor& weight, double scale,
               const at::Tensor& residual);

// weight * x / sqrt(mean(x^2) + epsilon) over the last dimension; no weight: not scaled.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

// residual += scale * down(silu(gate(n)) * up(n)), n = norm(residual); residual [L, D]
void FeedForward(const FeedForwardWeights& weights, double epsilon, double scale,
                 const at::Tensor& residual);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_FEED_FORWARD_H_
