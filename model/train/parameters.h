// A model's parameters one by one, by the names, shapes and conventions of `transformers`:
// "model.layers.3.self_attn.q_proj.weight" [H d, D], "model.layers.0.mamba.conv1d.weight"
// [C, 1, W]. So an adapter's files need no translation (docs/decisions/078 has the table).
#ifndef EIDETIC_MODEL_TRAIN_PARAMETERS_H_
#define EIDETIC_MODEL_TRAIN_PARAMETERS_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/config.h"

namespace eidetic::model {

using Parameters = std::map<std::string, at::Tensor>;

// Values on the host, fp32, row by row: what goes into files and comes out of them.
struct HostTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using HostTensors = std::map<std::string, HostTensor>;

HostTensor ToHost(const at::Tensor& tensor);
// Overwrites `tensor`, which keeps its type, device and place in memory. Throws kInvalidArgument
// when the shape differs or a number is not finite; `name` is for the message.
void FromHost(const HostTensor& host, const std::string& name, const at::Tensor& tensor);

// `type` is float, double or bfloat16; none of them requires a gradient. bfloat16 is the type of
// the linear maps alone (a head of its own among them); embedding, norms and what the mixers have
// beside their maps are few numbers that may be trained as a whole, and stay fp32; so do the
// mixers' maps with `whole_mixers`, to be trained themselves. A convolution without a bias has no
// parameter for one. Throws Error as LoadWeights does.
Parameters LoadParameters(const Checkpoint& checkpoint, const ModelConfig& config,
                          c10::Device device, at::ScalarType type, bool whole_mixers = false);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_PARAMETERS_H_
