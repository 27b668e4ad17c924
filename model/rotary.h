// Rotary position embedding of interleaved pairs (2i, 2i+1), the order of a GGUF's q and k rows.
//
// Only differences of positions matter, so positions may be negative. Angles are computed in double
// on the CPU: a stream of millions of tokens stays as exact as its first ones.
#ifndef EIDETIC_MODEL_ROTARY_H_
#define EIDETIC_MODEL_ROTARY_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace eidetic::model {

// Cosines and sines of a range of positions that moves along with the stream. One per stream; not
// thread-safe.
class RotaryTable {
 public:
  // `dims`: rotated numbers per head, even; 0 rotates nothing.
  RotaryTable(int dims, double base, c10::Device device, const RotaryScaling& scaling = {});
  RotaryTable(const ModelConfig& config, c10::Device device)
      : RotaryTable(config.rotary_dims, config.rotary_base, device, config.rotary_scaling) {}
  int dims() const { return dims_; }
  // (cos, sin) of positions first .. first + count - 1: fp32 [count, dims / 2, 2], a view.
  at::Tensor Slice(int64_t first, int64_t count);
  // The same without touching the moving range: for positions far from the stream's.
  at::Tensor Compute(int64_t first, int64_t count) const;

 private:
  int dims_;
  std::vector<double> frequencies_;  // of each pair
  double length_;                    // cosines and sines are multiplied by it
  c10::Device device_;
  int64_t first_ = 0;
  int64_t count_ = 0;
  at::Tensor table_;  // [count_, dims / 2, 2]
};

// output = input rotated; both [heads, tokens, head_dim] with any strides but a last one of 1, not
// overlapping. `table` [tokens or 1, dims / 2, 2]; dimensions from dims on are copied. The result
// of a row depends on that row alone, bit for bit, so a window that is rotated again after a
// restore is the same window (rule 9).
void Rotate(const at::Tensor& input, const at::Tensor& table, const at::Tensor& output);

// The same as a tensor of its own, differentiable by `rows` [.., tokens, heads, head_dim], of any
// floating-point type; computed in fp32, or fp64 for fp64. `table` [tokens or 1, dims / 2, 2] is of
// that type.
at::Tensor RotatedRows(const at::Tensor& rows, const at::Tensor& table);

// One row on the CPU, as Rotate does it: plain products and sums in a fixed order, whatever its
// place in a vector register or the thread. x, y [head_dim], apart; angles [pairs, 2].
void RotateRow(const float* x, const float* angles, int64_t pairs, int64_t head_dim, float* y);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ROTARY_H_
