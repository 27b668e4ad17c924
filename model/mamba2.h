// The Mamba-2 mixer: a selective state space model with one decay per head.
//
// Per token t and head h, with group g = h / (H / G):
//   z, xBC, dt = in_proj(u);  xBC = silu(causal depthwise convolution(xBC))
//   dt = softplus(dt + bias);  S_t = exp(dt A_h) S_{t-1} + dt x_t B_t^T;  y_t = S_t C_t + D_h x_t
//   out = out_proj(weight * rms_per_group(y * silu(z)))
// Dao and Gu, "Transformers are SSMs", 2024. State and scan are fp32 throughout.
#ifndef EIDETIC_MODEL_MAMBA2_H_
#define EIDETIC_MODEL_MAMBA2_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/config.h"
#include "model/weights.h"

namespace eidetic::model {

// One layer's state; views that the functions below write to in place.
struct Mamba2State {
  at::Tensor ssm;   // [H, P, N]
  at::Tensor conv;  // [W - 1, C]: the last inputs of the convolution, zero before the stream began
};
// The same of S sequences that are read at once: ssm [S H, P, N], conv [S, W - 1, C].

// Reads the segment's tokens; returns what out_proj takes: [L, I]. `u` [L, D], already normed.
at::Tensor Mamba2Mix(const Mamba2Weights& weights, const MambaConfig& config, double epsilon,
                     const at::Tensor& u, const Mamba2State& state);

// The same behind in_proj: `projected` [L, I + C + H or more]; in_proj and output are not read.
// Differentiable by `projected` and the other weights, in any floating type. With the state of S
// sequences, `projected` [S L, ...] are these one behind another.
at::Tensor Mamba2MixProjected(const Mamba2Weights& weights, const MambaConfig& config,
                              double epsilon, const at::Tensor& projected,
                              const Mamba2State& state);

// One token of the scan (mamba2_scan.h), without matrices of a chunk's size. Not differentiable.
at::Tensor Mamba2Step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                      const at::Tensor& b, const at::Tensor& c, const at::Tensor& state);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MAMBA2_H_
