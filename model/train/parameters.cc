#include "model/train/parameters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cmath>

#include "model/error.h"
#include "model/folder_tensors.h"
#include "model/weights.h"

namespace eidetic::model {
namespace {

std::string ShapeOf(at::IntArrayRef sizes) {
  std::string text = "[";
  for (const int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

bool IsFinite(float value) {
  return std::isfinite(value);
}

}  // namespace

HostTensor ToHost(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
  const float* begin = host.const_data_ptr<float>();
  return {host.sizes().vec(), {begin, begin + host.numel()}};
}

void FromHost(const HostTensor& host, const std::string& name, const at::Tensor& tensor) {
  if (tensor.sizes() != host.shape || tensor.numel() != static_cast<int64_t>(host.values.size())) {
    throw Error(ErrorCode::kInvalidArgument,
                "'" + name + "' has the shape " + ShapeOf(host.shape) + " and " +
                    std::to_string(host.values.size()) + " values; the model's is " +
                    ShapeOf(tensor.sizes()),
                "Use an adapter that was made for this model.");
  }
  if (!std::all_of(host.values.begin(), host.values.end(), IsFinite)) {
    throw Error(ErrorCode::kInvalidArgument, "'" + name + "' holds a number that is not finite",
                "The adapter is damaged, or its training diverged.");
  }
  const at::NoGradGuard no_gradient;
  // from_blob wants a pointer to what it may write; copy_ only reads.
  tensor.copy_(at::from_blob(const_cast<float*>(host.values.data()), host.shape, at::kFloat));
}

Parameters LoadParameters(const Checkpoint& checkpoint, const ModelConfig& config,
                          c10::Device device, at::ScalarType type, bool whole_mixers) {
  RefuseUnknownTensors(checkpoint, config);
  if (config.rotary_dims > 0 && config.head_dim % 2 != 0) {
    throw Error(ErrorCode::kUnsupported,
                checkpoint.path() + ": heads of " + std::to_string(config.head_dim) +
                    " numbers have no halves to rotate",
                "Use a model whose heads have an even size.");
  }
  Parameters host;  // fp32
  for (const FolderTensor& tensor : FolderTensorsOf(config)) {
    if (tensor.name.ends_with("ssm_conv1d.bias") && !checkpoint.Has(tensor.name)) continue;
    std::vector<float> values(tensor.Values());
    checkpoint.Read(tensor.name, tensor.shape, values.data());
    at::Tensor& whole = host[tensor.source];
    if (!whole.defined()) {
      const std::vector<int64_t> sizes(tensor.source_shape.begin(), tensor.source_shape.end());
      whole = at::empty(sizes, at::kFloat);
    }
    float* part = whole.mutable_data_ptr<float>() + tensor.first_value;
    tensor.Revert(values.data(), part);
    const bool finite = std::all_of(values.begin(), values.end(), IsFinite);
    // log(0) is the decay of a head that forgets nothing, and comes back as 0.
    const bool decays = tensor.form == FolderTensor::Form::kLogOfDecay;
    const bool positive =
        decays && std::any_of(values.begin(), values.end(), [](float value) { return value > 0; });
    if (!finite || positive) {
      throw Error(ErrorCode::kCorruption,
                  checkpoint.Where(tensor.name) + " holds a number that is " +
                      (finite ? "above 0: states would grow" : "not finite"),
                  "The file is damaged or was made wrongly: fetch it again.");
    }
  }
  Parameters parameters;
  for (auto& [name, tensor] : host) {
    const bool linear = tensor.dim() == 2 && name != "model.embed_tokens.weight";
    const bool trained = !linear || (whole_mixers && name.find(".mamba.") != std::string::npos);
    const at::ScalarType own = type == at::kBFloat16 && trained ? at::kFloat : type;
    parameters[name] = tensor.to(device, own);
    tensor.reset();  // so that the host never holds more than it must
  }
  return parameters;
}

}  // namespace eidetic::model
