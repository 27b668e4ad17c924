// What is trained of a model, and by how few numbers: LoRA, LoRA+ and HyLoRA; or its mixers.
//
// kLora: W x becomes W x + (alpha / rank) B A x on the linear maps that are named; A and B are
//   trained. Hu et al., "LoRA", arXiv 2106.09685.
// kLoraPlus: embeddings and norms are trained as well, as a whole: the LoRA+ of LongLoRA, Chen et
//   al., arXiv 2309.12307. Not the paper of that name about learning rates.
// kHylora: the 1D convolutions of the Mamba layers too, weight and bias: Nunez et al., "Expansion
//   Span", arXiv 2412.13328.
// kMixers: no matrices, but all that the Mamba layers' mixers have, as a whole: those of a hybrid
//   that is being made of another model (model/hybridize.h). They have no rank, alpha,
//   dropout or targets: these are not looked at.
//
// Which maps, and with what rank, alpha and dropout, is said as PEFT's configuration says it. For
// dropout PEFT has one number: others are of a run's training alone, and stand in no adapter.
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_ADAPTER_OPTIONS_H_
#define EIDETIC_MODEL_TRAIN_ADAPTER_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace eidetic::model {

enum class AdapterKind : uint8_t { kLora, kLoraPlus, kHylora, kMixers };

struct AdapterOptions {
  AdapterKind kind = AdapterKind::kHylora;
  int rank = 32;
  double alpha = 64;
  double dropout = 0;   // 0 .. 1, without 1
  bool rslora = false;  // the scale is alpha / sqrt(rank), as an adapter of PEFT may say
  // Linear maps: a whole path, or its last names ("q_proj", "self_attn.q_proj"); "all-linear"
  // alone: all of them.
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj", "o_proj"};
  std::string target_pattern{};  // in their place: an expression that fits whole paths
  // Of targets whose path, from its beginning or a dot on, an expression fits. Two that fit one
  // target say the same of it.
  std::map<std::string, int> ranks{};
  std::map<std::string, double> alphas{}, dropouts{};
  uint64_t seed = 0;  // of A
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_ADAPTER_OPTIONS_H_
