// A model's parameters as tensors of one device, fp32, in the layout that the layers compute with.
#ifndef EIDETIC_MODEL_WEIGHTS_H_
#define EIDETIC_MODEL_WEIGHTS_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/config.h"

namespace eidetic::model {

// Matrices are [outputs, inputs]. D: hidden, H: heads, K: kv heads, d: head_dim, F: feed_forward.
struct AttentionWeights {
  at::Tensor norm;    // [D]
  at::Tensor qkv;     // [(H + 2 K) d, D]; rows of q and k in GGUF's order: interleaved rotary
  at::Tensor output;  // [D, H d]
};

// I: inner size, C: convolution channels, H: heads, G: groups, W: convolution width.
struct Mamba2Weights {
  at::Tensor norm;        // [D]
  at::Tensor in_proj;     // [I + C + H or more, D]: rows z, then x, B, C (convolved), dt, zeros
  at::Tensor conv;        // [W, C]: oldest input first
  at::Tensor conv_bias;   // [C]
  at::Tensor dt_bias;     // [H]
  at::Tensor decay;       // [H]: A = -exp(A_log)
  at::Tensor skip;        // [H, 1]: D
  at::Tensor gated_norm;  // [G, I / G]
  at::Tensor output;      // [D, I]
};

struct FeedForwardWeights {
  at::Tensor norm;     // [D]
  at::Tensor gate_up;  // [2 F, D]: gate rows first
  at::Tensor down;     // [D, F]
};

struct LayerWeights {
  LayerKind kind = LayerKind::kAttention;
  int index = 0;  // among the layers of its kind
  AttentionWeights attention;
  Mamba2Weights mamba;
  FeedForwardWeights feed_forward;
};

struct ModelWeights {
  at::Tensor embedding;  // [vocabulary, D]
  std::vector<LayerWeights> layers;
  at::Tensor norm;    // [D]
  at::Tensor output;  // [vocabulary, D]; the embedding itself when tied
  // All of these, by the name of the first tensor of the checkpoint that each is made of.
  std::map<std::string, at::Tensor> placed;
  uint64_t bytes = 0;         // that were taken for them
  uint64_t shared_bytes = 0;  // of tensors that are another model's too
};

// Dequantises every tensor the configuration calls for. Throws Error: kCorruption when one is
// missing, has another shape or holds a number that is not finite; kUnsupported for tensors that
// would change the computation in a way this build does not know (biases, experts). With `base`,
// which was loaded to the same device from the base of `checkpoint`, what no adapter changes is not
// loaded: it is the base's.
ModelWeights LoadWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                         c10::Device device, const ModelWeights* base = nullptr);

// Throws Error kUnsupported for the tensors that LoadWeights refuses.
void RefuseUnknownTensors(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_WEIGHTS_H_
