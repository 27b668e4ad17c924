// The scan of Mamba-2 over a sequence, and its gradient.
#ifndef EIDETIC_MODEL_MAMBA2_SCAN_H_
#define EIDETIC_MODEL_MAMBA2_SCAN_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace eidetic::model {

// x [L, H, P], dt [L, H] (after softplus), decay [H] (A, negative), b and c [L, G, N]; state
// [H, P, N], read and replaced. Returns S_t C_t for each token: [L, H, P].
//
// Chunked: within `chunk` tokens as masked matrix products, between chunks through their states,
// all chunks of the sequence in the same few products. Memory grows with L: about (2 chunk + 8 P) H
// numbers a token. The chunk's length changes rounding only.
//
// Differentiable by x, dt, decay, b and c, once; no gradient enters or leaves the state. The
// gradient is written out: autograd's own takes twice as many operations, and on a GPU they are too
// short to hide that.
at::Tensor Mamba2Scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                      const at::Tensor& b, const at::Tensor& c, const at::Tensor& state,
                      int64_t chunk);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MAMBA2_SCAN_H_
