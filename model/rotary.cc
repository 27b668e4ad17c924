#include "model/rotary.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>

#include <cmath>
#include <cstring>

namespace eidetic::model {
namespace {

// Positions computed beyond those asked for, so that the table is rebuilt rarely.
constexpr int64_t kMargin = 2048;

void RotateOnCpu(const at::Tensor& input, const at::Tensor& table, const at::Tensor& output) {
  const int64_t heads = input.size(0), tokens = input.size(1), head_dim = input.size(2);
  const int64_t pairs = table.size(1);
  const int64_t table_stride = table.size(0) == 1 ? 0 : table.stride(0);
  const float* table_data = table.const_data_ptr<float>();
  const float* input_data = input.const_data_ptr<float>();
  float* output_data = output.mutable_data_ptr<float>();
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t token = 0; token < tokens; ++token) {
      RotateRow(input_data + head * input.stride(0) + token * input.stride(1),
                table_data + token * table_stride, pairs, head_dim,
                output_data + head * output.stride(0) + token * output.stride(1));
    }
  }
}

at::Tensor AsComplex(const at::Tensor& x, int64_t pairs) {
  return at::view_as_complex(x.narrow(-1, 0, 2 * pairs).unflatten(-1, {pairs, 2}));
}

}  // namespace

RotaryTable::RotaryTable(int dims, double base, c10::Device device, const RotaryScaling& scaling)
    : dims_(dims),
      frequencies_(RotaryFrequencies(dims, base, scaling)),
      length_(RotaryLength(scaling)),
      device_(device) {}

at::Tensor RotaryTable::Compute(int64_t first, int64_t count) const {
  const int64_t pairs = dims_ / 2;
  at::Tensor table = at::empty({count, pairs, 2}, at::kFloat);
  float* values = table.mutable_data_ptr<float>();
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const double frequency = frequencies_[static_cast<size_t>(pair)];
    for (int64_t i = 0; i < count; ++i) {
      const double angle = static_cast<double>(first + i) * frequency;
      values[(i * pairs + pair) * 2] = static_cast<float>(length_ * std::cos(angle));
      values[(i * pairs + pair) * 2 + 1] = static_cast<float>(length_ * std::sin(angle));
    }
  }
  return table.to(device_);
}

at::Tensor RotaryTable::Slice(int64_t first, int64_t count) {
  if (first < first_ || first + count > first_ + count_) {
    first_ = first - kMargin;
    count_ = count + 2 * kMargin;
    table_ = Compute(first_, count_);
  }
  return table_.narrow(0, first - first_, count);
}

void RotateRow(const float* x, const float* angles, int64_t pairs, int64_t head_dim,
               float* __restrict y) {
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const float a = x[2 * pair], b = x[2 * pair + 1];
    const float cosine = angles[2 * pair], sine = angles[2 * pair + 1];
    y[2 * pair] = a * cosine - b * sine;
    y[2 * pair + 1] = a * sine + b * cosine;
  }
  std::memcpy(y + 2 * pairs, x + 2 * pairs, (head_dim - 2 * pairs) * sizeof(float));
}

at::Tensor RotatedRows(const at::Tensor& rows, const at::Tensor& table) {
  const int64_t pairs = table.size(1), rest = rows.size(-1) - 2 * pairs;
  const at::Tensor turning = rest == 0 ? rows : rows.narrow(-1, 0, 2 * pairs);
  const at::Tensor complex =
      at::view_as_complex(turning.to(table.scalar_type()).contiguous().unflatten(-1, {pairs, 2}));
  const at::Tensor turned = at::view_as_real(complex.mul(at::view_as_complex(table).unsqueeze(1)))
                                .flatten(-2)
                                .to(rows.scalar_type());
  return rest == 0 ? turned : at::cat({turned, rows.narrow(-1, 2 * pairs, rest)}, -1);
}

void Rotate(const at::Tensor& input, const at::Tensor& table, const at::Tensor& output) {
  if (input.device().is_cpu()) {
    RotateOnCpu(input, table, output);
    return;
  }
  const int64_t pairs = table.size(1);
  if (2 * pairs < input.size(2)) output.copy_(input);
  if (pairs == 0) return;
  at::Tensor rotated = AsComplex(output, pairs);
  at::mul_out(rotated, AsComplex(input, pairs), at::view_as_complex(table));
}

}  // namespace eidetic::model
