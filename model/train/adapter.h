// What is trained of a model, and by how few numbers: LoRA, LoRA+ and HyLoRA
// (model/train/adapter_options.h).
#ifndef EIDETIC_MODEL_TRAIN_ADAPTER_H_
#define EIDETIC_MODEL_TRAIN_ADAPTER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/adapter_config.h"
#include "model/train/adapter_options.h"
#include "model/train/adapter_targets.h"
#include "model/train/differentiable_model.h"
#include "model/train/parameters.h"

namespace eidetic::model {

// Name and tensor; the name is that of AdapterTensor (model/adapter_file.h): in a file PEFT's
// "base_model.model." stands before it.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// One adapter on a model, which must outlive it and have no other. One thread at a time.
//
// The parameters that are trained as a whole are the model's own: training changes them in place.
// Everything else of the model stays as it is, bit for bit.
class Adapter {
 public:
  // A uniform within 1 / sqrt(inputs) of 0 (Kaiming with a = sqrt(5), as PEFT has it), drawn the
  // same on every machine; B zero: at first the model computes what it did. Throws
  // kInvalidArgument for options that CheckAdapterOptions or TargetsOf refuse.
  Adapter(const AdapterOptions& config, DifferentiableModel* model);
  // Takes A and B off the model, merged or not, which then trains nothing. What was trained as a
  // whole stays as trained.
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  const AdapterOptions& config() const { return config_; }
  // Which maps have matrices, as PEFT is to be told. None of mixers.
  const ModuleNames& target_names() const { return target_names_; }
  // Everything that is trained, in a fixed order: A and B of each map in the model's order, then
  // whole parameters by name. All require their gradient.
  const NamedTensors& trained() const { return trained_; }
  int64_t TrainedNumbers() const;

  // Adds (alpha / rank) B A to the weights, which then need no A and B. Nothing requires a gradient
  // until Unmerge, which brings the old weights back bit for bit: they are kept on the model's
  // device meanwhile. Both do nothing when there is nothing to do.
  void Merge();
  void Unmerge();
  bool merged() const { return merged_; }

  // By the names of trained(): "model.layers.3.self_attn.q_proj.lora_A.weight" [r, inputs], and
  // whole parameters under their own path. A tied model's embedding is its head too: a file must
  // say so (AdapterConfig::tied).
  HostTensors Export() const;
  // Overwrites all that is trained. Throws kInvalidArgument, and changes nothing, when a name is
  // missing or unknown or a shape is another. Not while merged.
  void Import(const HostTensors& tensors);

 private:
  void AddMatrices(const std::vector<AdapterTarget>& targets);
  void AddWholeParameters();

  AdapterOptions config_;
  ModuleNames target_names_;
  DifferentiableModel* model_;
  std::map<std::string, LowRankTerm> low_ranks_;  // by module
  std::map<std::string, at::Tensor> kept_;        // while merged: weights before, by module
  NamedTensors trained_;
  bool merged_ = false;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_ADAPTER_H_
