#include "model/train/adapter.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "model/error.h"

namespace eidetic::model {
namespace {

[[noreturn]] void Refuse(const std::string& what, const std::string& remedy = {}) {
  throw Error(ErrorCode::kInvalidArgument, "adapter: " + what, remedy);
}

bool TrainedAsAWhole(AdapterKind kind, const std::string& name) {
  if (kind == AdapterKind::kLora) return false;
  if (kind == AdapterKind::kMixers) return name.find(".mamba.") != std::string::npos;
  if (name == "model.embed_tokens.weight" || name.ends_with("norm.weight")) return true;
  return kind == AdapterKind::kHylora && name.find(".mamba.conv1d.") != std::string::npos;
}

std::set<std::string> NamesOf(const Parameters& parameters) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : parameters) names.insert(name);
  return names;
}

// Uniform within +- bound; of the engine's bits alone, as a library's distributions differ.
at::Tensor Uniform(std::vector<int64_t> sizes, double bound, std::mt19937_64* random) {
  at::Tensor tensor = at::empty(sizes, at::kFloat);
  float* values = tensor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const double share = static_cast<double>((*random)() >> 11) * 0x1p-53;
    values[i] = static_cast<float>((2 * share - 1) * bound);
  }
  return tensor;
}

}  // namespace

Adapter::Adapter(const AdapterOptions& config, DifferentiableModel* model)
    : config_(config), model_(model) {
  CheckAdapterOptions(config_);
  if (config_.kind == AdapterKind::kMixers) {
    config_.targets.clear();
  } else {
    const std::vector<std::string> modules = model_->LinearModules();
    AddMatrices(TargetsOf(config_, modules));
    target_names_ = TargetNames(config_, modules, NamesOf(model_->parameters()));
  }
  AddWholeParameters();
  if (!trained_.empty()) return;
  if (config_.kind == AdapterKind::kMixers) {
    Refuse("the model has no mixers to train", "eidetic model hybridize makes some.");
  }
  Refuse("there are no targets, so nothing is trained", "Name a linear map.");
}

Adapter::~Adapter() {
  for (const auto& [module, low_rank] : low_ranks_) model_->RemoveLowRank(module);
  for (const auto& [name, tensor] : trained_) tensor.set_requires_grad(false);
}

void Adapter::AddMatrices(const std::vector<AdapterTarget>& targets) {
  std::mt19937_64 random(config_.seed);
  for (const auto& [module, rank, scale, dropout] : targets) {
    const at::Tensor& weight = model_->parameters().at(module + ".weight");
    const int64_t inputs = weight.size(1), outputs = weight.size(0);
    // What is trained is never bf16: small steps would be rounded away.
    const at::TensorOptions options = weight.options().dtype(
        weight.scalar_type() == at::kBFloat16 ? at::kFloat : weight.scalar_type());
    LowRankTerm low_rank;
    low_rank.a =
        Uniform({rank, inputs}, 1 / std::sqrt(static_cast<double>(inputs)), &random).to(options);
    low_rank.b = at::zeros({outputs, rank}, options);
    low_rank.scale = scale;
    low_rank.dropout = dropout;
    for (const auto& [suffix, tensor] :
         {std::pair(".lora_A.weight", low_rank.a), std::pair(".lora_B.weight", low_rank.b)}) {
      tensor.set_requires_grad(true);
      trained_.emplace_back(module + suffix, tensor);
    }
    model_->AddLowRank(module, low_rank);
    low_ranks_[module] = low_rank;
  }
}

void Adapter::AddWholeParameters() {
  for (const auto& [name, parameter] : model_->parameters()) {
    if (!TrainedAsAWhole(config_.kind, name)) continue;
    if (parameter.scalar_type() == at::kBFloat16) {
      Refuse("'" + name + "' is held in bf16, where small steps would be rounded away",
             "Load the model with what is trained whole in fp32.");
    }
    parameter.set_requires_grad(true);
    trained_.emplace_back(name, parameter);
  }
}

int64_t Adapter::TrainedNumbers() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : trained_) count += tensor.numel();
  return count;
}

void Adapter::Merge() {
  if (merged_) return;
  const at::NoGradGuard no_gradient;
  for (const auto& [module, low_rank] : low_ranks_) {
    const at::Tensor& weight = model_->parameters().at(module + ".weight");
    kept_[module] = weight.clone();
    weight.add_(at::mm(low_rank.b, low_rank.a), low_rank.scale);
    model_->RemoveLowRank(module);
  }
  for (const auto& [name, tensor] : trained_) tensor.set_requires_grad(false);
  merged_ = true;
}

void Adapter::Unmerge() {
  if (!merged_) return;
  const at::NoGradGuard no_gradient;
  for (const auto& [module, low_rank] : low_ranks_) {
    model_->parameters().at(module + ".weight").copy_(kept_.at(module));
    model_->AddLowRank(module, low_rank);
  }
  kept_.clear();
  for (const auto& [name, tensor] : trained_) tensor.set_requires_grad(true);
  merged_ = false;
}

HostTensors Adapter::Export() const {
  HostTensors tensors;
  for (const auto& [name, tensor] : trained_) tensors[name] = ToHost(tensor);
  return tensors;
}

void Adapter::Import(const HostTensors& tensors) {
  if (merged_)
    Refuse("it is merged into the model, so nothing can be imported", "Unmerge it first.");
  std::vector<at::Tensor> read;
  for (const auto& [name, tensor] : trained_) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) Refuse("there is no tensor '" + name + "'");
    read.push_back(at::empty_like(tensor).detach());
    FromHost(found->second, found->first, read.back());
  }
  for (const auto& [name, tensor] : tensors) {
    const auto same = [&](const auto& own) { return own.first == name; };
    if (std::none_of(trained_.begin(), trained_.end(), same)) {
      Refuse(
          "the tensor '" + name + "' has no place in it",
          "Make the adapter with the rank, kind and targets that the tensors were trained with.");
    }
  }
  const at::NoGradGuard no_gradient;
  for (size_t i = 0; i < trained_.size(); ++i) trained_[i].second.copy_(read[i]);
}

}  // namespace eidetic::model
