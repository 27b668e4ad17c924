// Makes a patch that turns a Llama-family model into a hybrid: named attention layers become
// Mamba-2 mixers that begin from the layer's own q, k, v and o. merge.h makes one GGUF of base and
// patch; training by distillation (model/train/distill.h) teaches the mixers.
#ifndef EIDETIC_MODEL_HYBRIDIZE_H_
#define EIDETIC_MODEL_HYBRIDIZE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace eidetic::model {

struct HybridizeOptions {
  std::vector<int> attention_layers;  // those that stay, in any order; all others become mixers
  int conv_width = 4;                 // taps of the mixers' convolutions; 2 .. 16
  uint64_t seed = 0;                  // of what no projection of the base stands for
};

// Writes config.json (granitemoehybrid) and mixers.safetensors (fp32) into `patch_dir`, which is
// made where there is none. Equal inputs give equal bytes.
//
// A mixer has a head and a group for each query head, and a state as wide as a head. The recurrence
// without decay, gate and convolution is linear attention (Wang et al., "The Mamba in the Llama",
// arXiv 2408.15237), so of in_proj C begins as q, B as k and x as v (those of a key head for all
// of its query heads), and out_proj as o. The convolution begins as the identity, D at 1, the norm
// at 1; steps dt between .001 and .1 and decays between 1 and 16 as Mamba-2 draws them; the rows
// of gate and dt are normal with the deviation of q's rows.
//
// `sha256_of_file` hashes the base (hex), which the patch names. Throws Error: kNotFound, kIo,
// kCorruption, kNoSpace; kUnsupported for a base that is not of architecture `llama` or has a
// rotary base that rotates a part of a head; kInvalidArgument for a layer that the base does not
// have, for none or all of them, and for options out of range.
void Hybridize(const std::string& base_path, const HybridizeOptions& options,
               const std::string& patch_dir,
               const std::function<std::string(const std::string& path)>& sha256_of_file);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_HYBRIDIZE_H_
