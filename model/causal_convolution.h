// The depthwise convolution over tokens at the head of a Mamba-2 mixer.
#ifndef EIDETIC_MODEL_CAUSAL_CONVOLUTION_H_
#define EIDETIC_MODEL_CAUSAL_CONVOLUTION_H_

#include <ATen/core/Tensor.h>

namespace eidetic::model {

// silu(bias + sum over taps w of weight[w] * inputs[:, w + t]) for t = 0 .. L - 1.
//
// inputs [S, W - 1 + L, C]: S sequences, each behind its last W - 1 inputs; weight [W, C], bias
// [C]. Returns [S, L, C]. Differentiable by all three, once. The gradient is written out: made of
// those of the parts it would fill a tensor of the inputs' size anew for each tap.
at::Tensor SiluOfCausalConvolution(const at::Tensor& inputs, const at::Tensor& weight,
                                   const at::Tensor& bias);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_CAUSAL_CONVOLUTION_H_
