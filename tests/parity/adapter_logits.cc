// Logits of a base with an adapter, in both ways that there are: as it is served, merged into the
// weights, and as it is trained, with A and B beside them.
//
//   adapter_logits BASE ADAPTER OUTPUT ID...
//
// OUTPUT: safetensors with `served` and `trained` [n, vocabulary], fp32, after each of the n
// tokens.
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <exception>

#include "model/adapter_fit.h"
#include "model/hybrid_model.h"
#include "model/safetensors_writer.h"
#include "model/train/adapter_folder.h"

namespace eidetic::model {
namespace {

HostTensor Served(const std::shared_ptr<const Checkpoint>& base, const std::string& adapter,
                  const std::vector<int32_t>& ids) {
  const auto model = HybridModel::Load(*WithAdapter(base, AdapterFile::Open(adapter)),
                                       LoadOptions{"cpu", /*threads=*/1});
  SequenceForwardOptions options;
  options.attention.mode = SequenceMode::kFull;
  options.logit_rows = static_cast<int64_t>(ids.size());
  std::vector<float> logits = model->ForwardSequence(ids, options).logits;
  const auto rows = static_cast<int64_t>(ids.size());
  return {{rows, static_cast<int64_t>(logits.size()) / rows}, std::move(logits)};
}

HostTensor Trained(const Checkpoint& base, const std::string& adapter,
                   const std::vector<int32_t>& ids) {
  DifferentiableModel model(base, at::kCPU, at::kFloat);
  const auto loaded = LoadAdapter(*AdapterFile::Open(adapter), &model);
  const at::NoGradGuard no_gradient;
  TrainForwardOptions options;
  options.attention.mode = SequenceMode::kFull;
  return ToHost(model.Logits(model.Hidden(ids, options)));
}

void Write(const std::string& base_path, const std::string& adapter, const std::string& output,
           const std::vector<int32_t>& ids) {
  const auto base = Checkpoint::Open(base_path);
  const HostTensor served = Served(base, adapter, ids), trained = Trained(*base, adapter, ids);
  SafetensorsWriter writer;
  for (const auto& [name, tensor] :
       {std::pair("served", &served), std::pair("trained", &trained)}) {
    writer.Add(name, "F32", {tensor->shape.begin(), tensor->shape.end()}, tensor->values.data());
  }
  writer.Write(output);
}

}  // namespace
}  // namespace eidetic::model

int main(int count, char** arguments) {
  try {
    std::vector<int32_t> ids;
    for (int i = 4; i < count; ++i) ids.push_back(std::stoi(arguments[i]));
    if (ids.empty()) throw std::invalid_argument("adapter_logits BASE ADAPTER OUTPUT ID...");
    eidetic::model::Write(arguments[1], arguments[2], arguments[3], ids);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
