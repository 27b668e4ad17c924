// What a model file says about the model, whatever its format.
#ifndef EIDETIC_MODEL_CONFIG_H_
#define EIDETIC_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/rotary_scaling.h"

namespace eidetic::model {

// What a file may ask for: far above any model, and small enough that products of two sizes stay
// within 64 bits.
inline constexpr int kLargestSize = 1 << 24;
inline constexpr int kMostLayers = 4096;

enum class LayerKind { kAttention, kMamba2 };

struct MambaConfig {
  int heads = 0;
  int head_dim = 0;    // P
  int state = 0;       // N
  int groups = 0;      // G: B and C are shared by heads / groups heads
  int conv_width = 0;  // W
  int Inner() const { return heads * head_dim; }
  int ConvChannels() const { return Inner() + 2 * groups * state; }
};

struct ModelConfig {
  std::string architecture;  // "llama", "granitehybrid"
  std::string name;
  int vocabulary = 0;
  int hidden = 0;
  int feed_forward = 0;
  std::vector<LayerKind> layers;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float norm_epsilon = 0;
  double rotary_base = 0;
  int rotary_dims = 0;  // 0: keys and queries are not rotated
  RotaryScaling rotary_scaling;
  float attention_scale = 0;  // 1/sqrt(head_dim) unless the file says otherwise
  float embedding_scale = 1, residual_scale = 1, logit_scale = 1;  // logits are divided by the last
  int trained_context = 0;
  bool tied_embeddings = false;
  MambaConfig mamba;  // zeros when no layer is kMamba2

  // In place of what the file says; an original context that is not named is trained_context.
  void SetRotaryScaling(const RotaryScaling& scaling);

  std::vector<int> AttentionLayers() const;  // ascending
  std::vector<int> MambaLayers() const;
};

class GgufFile;

// Reads architectures `llama` and `granitehybrid` (docs/models.md). Throws Error: kUnsupported for
// what this build cannot compute (experts, some rotary scaling, another architecture), kCorruption
// for sizes that are missing, out of range or contradict each other.
ModelConfig ReadModelConfig(const GgufFile& file);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_CONFIG_H_
