#include "model/causal_convolution.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>

namespace eidetic::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor Convolution(const at::Tensor& inputs, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t width = weight.size(0), length = inputs.size(1) - width + 1;
  at::Tensor sum = at::addcmul(bias, inputs.narrow(1, 0, length), weight[0]);
  for (int64_t tap = 1; tap < width; ++tap) {
    sum.addcmul_(inputs.narrow(1, tap, length), weight[tap]);
  }
  return sum;
}

struct SiluOfConvolution : torch::autograd::Function<SiluOfConvolution> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& inputs,
                            const at::Tensor& weight, const at::Tensor& bias) {
    const at::Tensor sum = Convolution(inputs, weight, bias);
    context->save_for_backward({inputs, weight, sum});
    return at::silu(sum);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &inputs = saved[0], &weight = saved[1];
    const int64_t width = weight.size(0), length = inputs.size(1) - width + 1;
    const at::Tensor of_sum = at::silu_backward(gradients[0], saved[2]);
    variable_list result(3);
    if (context->needs_input_grad(0)) {
      result[0] = at::zeros_like(inputs);
      for (int64_t tap = 0; tap < width; ++tap) {
        result[0].narrow(1, tap, length).addcmul_(of_sum, weight[tap]);
      }
    }
    if (context->needs_input_grad(1)) {
      result[1] = at::empty_like(weight);
      for (int64_t tap = 0; tap < width; ++tap) {
        result[1][tap].copy_(of_sum.mul(inputs.narrow(1, tap, length)).flatten(0, 1).sum(0));
      }
    }
    if (context->needs_input_grad(2)) result[2] = of_sum.flatten(0, 1).sum(0);
    return result;
  }
};

}  // namespace

at::Tensor SiluOfCausalConvolution(const at::Tensor& inputs, const at::Tensor& weight,
                                   const at::Tensor& bias) {
  const bool differentiated =
      at::GradMode::is_enabled() &&
      (inputs.requires_grad() || weight.requires_grad() || bias.requires_grad());
  if (differentiated) return SiluOfConvolution::apply(inputs, weight, bias);
  at::Tensor sum = Convolution(inputs, weight, bias);
  return at::silu_(sum);
}

}  // namespace eidetic::model
