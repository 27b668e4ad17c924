#include "model/feed_forward.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_rms_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/silu.h>

#include <algorithm>
#include <optional>

#include "model/matrix_vector.h"

namespace eidetic::model {

namespace {

// Weights that are worth a thread of their own: half a megabyte.
constexpr int64_t kWeightsPerThread = 131072;

// y = beta y + alpha weight x, for one row of x on the CPU.
void LinearOfOneRow(const at::Tensor& x, const at::Tensor& weight, float alpha, float beta,
                    const at::Tensor& y) {
  const int64_t columns = weight.size(1);
  const at::Tensor row = x.contiguous();
  const float* input = row.const_data_ptr<float>();
  const float* matrix = weight.const_data_ptr<float>();
  float* output = y.mutable_data_ptr<float>();
  const int64_t grain = std::max(kWeightsPerThread / columns, int64_t{1});
  at::parallel_for(0, weight.size(0), grain, [&](int64_t first, int64_t last) {
    MatrixVectorRows(matrix, columns, input, first, last, alpha, beta, output);
  });
}

}  // namespace

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  if (x.size(0) > 1) return at::mm(x, weight.t());
  if (!x.is_cpu()) return at::mv(weight, x[0]).unsqueeze(0);
  at::Tensor y = at::empty({1, weight.size(0)}, x.options());
  LinearOfOneRow(x, weight, 1, 0, y);
  return y;
}

void AddLinear(const at::Tensor& x, const at::Tensor& weight, double scale,
               const at::Tensor& residual) {
  if (x.size(0) > 1) {
    residual.addmm_(x, weight.t(), 1, scale);
  } else if (x.is_cpu()) {
    LinearOfOneRow(x, weight, static_cast<float>(scale), 1, residual);
  } else {
    residual[0].addmv_(weight, x[0], 1, scale);
  }
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
