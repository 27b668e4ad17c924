#include "model/feed_forward.h"

#include <ATen/ops/_fused_rms_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/silu.h>

#include <optional>

namespace eidetic::model {

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  // One row is a matrix-vector product: bound by reading the weights, and faster as such.
  if (x.size(0) == 1) return at::mv(weight, x[0]).unsqueeze(0);
  return at::mm(x, weight.t());
}

void AddLinear(const at::Tensor& x, const at::Tensor& weight, double scale,
               const at::Tensor& residual) {
  if (x.size(0) == 1) {
    residual[0].addmv_(weight, x[0], 1, scale);
    return;
  }
  residual.addmm_(x, weight.t(), 1, scale);
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const std::optional<at::Tensor> scale =
      weight.defined() ? std::optional<at::Tensor>(weight) : std::nullopt;
  return std::get<0>(at::_fused_rms_norm(x, {x.size(-1)}, scale, epsilon));
}

void FeedForward(const FeedForwardWeights& weights, double epsilon, double scale,
                 const at::Tensor& residual) {
  const int64_t inner = weights.down.size(1);
  const at::Tensor both = Linear(RmsNorm(residual, weights.norm, epsilon), weights.gate_up);
  at::Tensor gate = both.narrow(1, 0, inner);  // [L, F]
  at::silu_(gate).mul_(both.narrow(1, inner, inner));
  AddLinear(gate, weights.down, scale, residual);
}

}  // namespace eidetic::model
