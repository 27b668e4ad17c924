#include "model/feed_forward.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_rms_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>

#include "model/few_rows.h"
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

// Whether y = x weight^T is LinearOfFewRows: of 2 .. kMostFewRows rows, without a gradient.
bool IsOfFewRows(const at::Tensor& x, const at::Tensor& weight) {
  static const bool has_product = HasFewRowsProduct();
  return has_product && c10::InferenceMode::is_enabled() && x.is_cpu() &&
         x.size(0) <= kMostFewRows && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kFloat && weight.is_contiguous();
}

// y = beta y + alpha weight x, for each row of x and y; y is contiguous.
void LinearOfFewRows(const at::Tensor& x, const at::Tensor& weight, float alpha, float beta,
                     const at::Tensor& y) {
  const int64_t rows = weight.size(0), columns = weight.size(1), count = x.size(0);
  const at::Tensor all = x.contiguous();
  const float* input = all.const_data_ptr<float>();
  const float* matrix = weight.const_data_ptr<float>();
  float* output = y.mutable_data_ptr<float>();
  constexpr int64_t kTogether = 4;  // rows of the matrix, so that only the last are odd
  const int64_t grain = std::max(kWeightsPerThread / columns / kTogether, int64_t{1});
  at::parallel_for(0, (rows + kTogether - 1) / kTogether, grain, [&](int64_t first, int64_t last) {
    FewRowsProduct(matrix, rows, columns, input, count, first * kTogether,
                   std::min(last * kTogether, rows), alpha, beta, output);
  });
}

}  // namespace

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  if (x.size(0) > 1) {
    if (!IsOfFewRows(x, weight)) return at::mm(x, weight.t());
    at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
    LinearOfFewRows(x, weight, 1, 0, y);
    return y;
  }
  if (!x.is_cpu()) return at::mv(weight, x[0]).unsqueeze(0);
  at::Tensor y = at::empty({1, weight.size(0)}, x.options());
  LinearOfOneRow(x, weight, 1, 0, y);
  return y;
}

void AddLinear(const at::Tensor& x, const at::Tensor& weight, double scale,
               const at::Tensor& residual) {
  if (x.size(0) > 1 && residual.is_contiguous() && IsOfFewRows(x, weight)) {
    LinearOfFewRows(x, weight, static_cast<float>(scale), 1, residual);
  } else if (x.size(0) > 1) {
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
