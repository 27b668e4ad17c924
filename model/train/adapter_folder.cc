#include "model/train/adapter_folder.h"

#include <cmath>
#include <set>
#include <utility>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr std::string_view kMatrixEnd = ".lora_";

bool IsWhole(const std::string& name) {
  return name.find(kMatrixEnd) == std::string::npos;
}

// "model.layers.0.mamba.conv1d.bias" -> "conv1d": PEFT's modules_to_save fit the ends of paths.
std::string ModuleNameOf(const std::string& parameter) {
  const std::string module = parameter.substr(0, parameter.rfind('.'));
  return module.substr(module.rfind('.') + 1);
}

AdapterKind KindOf(const AdapterFile& file) {
  const std::string kind = file.Kind();
  if (kind == "LoRA") return AdapterKind::kLora;
  if (kind == "LoRA+") return AdapterKind::kLoraPlus;
  if (kind == "HyLoRA") return AdapterKind::kHylora;
  throw Error(ErrorCode::kUnsupported, file.path() + " has no LoRA to train further",
              "begin with a new adapter, or with one of LoRA, LoRA+ or HyLoRA");
}

// Where the base's head is its embedding, PEFT saves one tensor under both names (or under one of
// them); here it has the embedding's alone.
void JoinTiedHead(const AdapterFile& file, const DifferentiableModel& model, HostTensors* tensors) {
  if (!model.config().tied_embeddings) return;
  const std::string embedding_name = "model.embed_tokens.weight";
  const auto head = tensors->find("lm_head.weight"), embedding = tensors->find(embedding_name);
  const bool has_head = head != tensors->end(), has_embedding = embedding != tensors->end();
  if (!has_head && !has_embedding) return;
  const bool differ = has_head && has_embedding && head->second.values != embedding->second.values;
  if (!file.config().tied || differ) {
    throw Error(ErrorCode::kUnsupported,
                file.path() +
                    ": embedding and output matrix were trained apart, and the base has "
                    "them as one",
                "train with ensure_weight_tying");
  }
  if (!has_head) return;
  if (!has_embedding) (*tensors)[embedding_name] = head->second;
  tensors->erase("lm_head.weight");
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
  config.targets.names = options.targets;
  std::set<std::string> whole;
  std::vector<AdapterTensor> tensors;
  for (const auto& [name, tensor] : trained) {
    AdapterTensor& written = tensors.emplace_back();
    written.name = name;
    written.shape.assign(tensor.shape.begin(), tensor.shape.end());
    written.values = tensor.values.data();
    if (IsWhole(name)) whole.insert(ModuleNameOf(name));
  }
  config.modules_to_save.assign(whole.begin(), whole.end());
  config.tied = model.config().tied_embeddings && whole.contains("embed_tokens");
  WriteAdapter(folder, config, tensors);
}

std::unique_ptr<Adapter> LoadAdapter(const AdapterFile& file, DifferentiableModel* model) {
  AdapterOptions options;
  options.kind = KindOf(file);
  const LowRank& first = file.low_rank().begin()->second;
  options.targets.clear();
  for (const auto& [module, low_rank] : file.low_rank()) {
    if (low_rank.rank != first.rank || low_rank.scale != first.scale) {
      throw Error(ErrorCode::kUnsupported,
                  file.path() + ": '" + module + "' has another rank or scale than '" +
                      file.low_rank().begin()->first + "'",
                  "an adapter that is trained further has one of each");
    }
    options.targets.push_back(module);
  }
  HostTensors tensors = TensorsOf(file);
  JoinTiedHead(file, *model, &tensors);
  options.rank = static_cast<int>(first.rank);
  options.alpha = first.scale * static_cast<double>(first.rank);  // whatever PEFT's scale is
  options.dropout = file.config().dropout;
  auto adapter = std::make_unique<Adapter>(options, model);
  adapter->Import(tensors);
  return adapter;
}

}  // namespace eidetic::model
