#include "model/train/adapter_folder.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "model/error.h"
#include "model/module_patterns.h"

namespace eidetic::model {
namespace {

constexpr std::string_view kMatrixEnd = ".lora_";
constexpr char kEmbeddingName[] = "model.embed_tokens.weight";
constexpr char kHeadName[] = "lm_head.weight";

bool IsWhole(const std::string& name) {
  return name.find(kMatrixEnd) == std::string::npos;
}

// "model.layers.0.mamba.conv1d.bias" -> "conv1d": PEFT's modules_to_save fit the ends of paths.
std::string ModuleNameOf(const std::string& parameter, AdapterKind kind) {
  if (kind == AdapterKind::kMixers) return "mamba";
  const std::string module = parameter.substr(0, parameter.rfind('.'));
  return module.substr(module.rfind('.') + 1);
}

AdapterKind KindOf(const AdapterFile& file) {
  const std::string kind = file.Kind();
  if (kind == "LoRA") return AdapterKind::kLora;
  if (kind == "LoRA+") return AdapterKind::kLoraPlus;
  if (kind == "HyLoRA") return AdapterKind::kHylora;
  if (kind == "mixers") return AdapterKind::kMixers;
  throw Error(ErrorCode::kUnsupported,
              file.path() + " has neither LoRA nor mixers to train further",
              "begin with a new adapter, or with one of LoRA, LoRA+, HyLoRA or mixers");
}

// Of those that fit a module: PEFT does not mind others.
template <typename Value>
std::map<std::string, Value> Fitting(const std::map<std::string, Value>& values,
                                     const std::vector<std::string>& modules) {
  ModulePatterns patterns(ErrorCode::kCorruption, "adapter", "");
  std::map<std::string, Value> fitting;
  for (const auto& [pattern, value] : values) {
    patterns.Add(pattern, PatternExtent::kEndOfPath);
    const auto fits = [&, &name = pattern](const std::string& module) {
      return patterns.Fits(name, PatternExtent::kEndOfPath, module);
    };
    if (std::any_of(modules.begin(), modules.end(), fits)) fitting.emplace(pattern, value);
  }
  return fitting;
}

// The maps by their paths, whatever the configuration says them by; ranks and alphas as it does.
void TakeMatrices(const AdapterFile& file, AdapterOptions* options) {
  const AdapterConfig& config = file.config();
  options->targets.clear();
  for (const auto& [module, low_rank] : file.low_rank()) options->targets.push_back(module);
  options->rank = config.rank;
  options->alpha = config.alpha;
  options->rslora = config.rslora;
  options->dropout = config.dropout;
  options->ranks = Fitting(config.ranks, options->targets);
  options->alphas = Fitting(config.alphas, options->targets);
}

// Where embedding and head were trained as one, PEFT saves it under both names, or under one of
// them; here it has the embedding's alone.
void JoinTiedHead(const AdapterFile& file, HostTensors* tensors) {
  const auto head = tensors->find(kHeadName), embedding = tensors->find(kEmbeddingName);
  if (head == tensors->end()) return;
  if (embedding == tensors->end()) {
    (*tensors)[kEmbeddingName] = head->second;
  } else if (embedding->second.values != head->second.values) {
    throw Error(ErrorCode::kUnsupported,
                file.path() + ": embedding and output matrix are tied, and differ",
                "train them as one, or without ensure_weight_tying");
  }
  tensors->erase(kHeadName);
}

// Embeddings are trained here as they are in the base: as the head too where these are tied.
void CheckHead(const AdapterFile& file, const DifferentiableModel& model) {
  const bool has_head = file.whole().contains(kHeadName);
  const bool has_either = has_head || file.whole().contains(kEmbeddingName);
  if (model.config().tied_embeddings && has_either && !file.config().tied) {
    throw Error(ErrorCode::kUnsupported,
                file.path() +
                    ": embedding and output matrix were trained apart, and are one in "
                    "the base",
                "train with ensure_weight_tying");
  }
  if (!model.config().tied_embeddings && has_head) {
    throw Error(ErrorCode::kUnsupported,
                file.path() + " has an output matrix that was trained whole",
                "begin with an adapter without lm_head");
  }
}

}  // namespace

HostTensor HostTensorOf(const SafeTensor& tensor) {
  HostTensor host;
  uint64_t count = 1;
  for (const uint64_t size : tensor.shape) {
    host.shape.push_back(static_cast<int64_t>(size));
    count *= size;
  }
  host.values.resize(count);
  ReadValues(tensor, 0, count, host.values.data());
  return host;
}

HostTensors TensorsOf(const AdapterFile& file) {
  HostTensors tensors;
  for (const auto& [module, low_rank] : file.low_rank()) {
    tensors[module + ".lora_A.weight"] = HostTensorOf(*low_rank.a);
    tensors[module + ".lora_B.weight"] = HostTensorOf(*low_rank.b);
  }
  for (const auto& [name, tensor] : file.whole()) tensors[name] = HostTensorOf(*tensor);
  if (file.config().tied) JoinTiedHead(file, &tensors);
  return tensors;
}

void SaveAdapter(const Adapter& adapter, const DifferentiableModel& model,
                 const std::string& base_model, const std::string& folder) {
  const AdapterOptions& options = adapter.config();
  const HostTensors trained = adapter.Export();
  AdapterConfig config;
  config.base_model = base_model;
  config.rank = options.rank;
  config.alpha = options.alpha;
  config.dropout = options.dropout;
  config.rslora = options.rslora;
  config.targets = adapter.target_names();
  config.ranks = options.ranks;
  config.alphas = options.alphas;
  config.rotary_scaling = model.other_scaling();
  std::set<std::string> whole;
  std::vector<AdapterTensor> tensors;
  for (const auto& [name, tensor] : trained) {
    AdapterTensor& written = tensors.emplace_back();
    written.name = name;
    written.shape.assign(tensor.shape.begin(), tensor.shape.end());
    written.values = tensor.values.data();
    if (IsWhole(name)) whole.insert(ModuleNameOf(name, options.kind));
  }
  config.tied = model.config().tied_embeddings && trained.contains(kEmbeddingName);
  if (config.tied) {  // PEFT asks for it by both names
    AdapterTensor head = *std::find_if(tensors.begin(), tensors.end(), [](const auto& tensor) {
      return tensor.name == kEmbeddingName;
    });
    head.name = kHeadName;
    tensors.push_back(std::move(head));
  }
  config.modules_to_save.assign(whole.begin(), whole.end());
  WriteAdapter(folder, config, tensors);
}

int64_t SavedNumbers(const Adapter& adapter, const DifferentiableModel& model) {
  int64_t count = adapter.TrainedNumbers();
  for (const auto& [name, tensor] : adapter.trained()) {
    if (name == kEmbeddingName && model.config().tied_embeddings) count += tensor.numel();
  }
  return count;
}

std::unique_ptr<Adapter> LoadAdapter(const AdapterFile& file, DifferentiableModel* model) {
  AdapterOptions options;
  options.kind = KindOf(file);
  if (options.kind != AdapterKind::kMixers) TakeMatrices(file, &options);
  CheckHead(file, *model);
  const HostTensors tensors = TensorsOf(file);
  auto adapter = std::make_unique<Adapter>(options, model);
  adapter->Import(tensors);
  return adapter;
}

}  // namespace eidetic::model
