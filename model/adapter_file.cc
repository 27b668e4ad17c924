#include "model/adapter_file.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "model/atomic_file.h"
#include "model/config.h"
#include "model/dequantize.h"
#include "model/error.h"
#include "model/safetensors_writer.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[] = "adapter_config.json";
constexpr char kWeightsFile[] = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
// In the metadata of the weights (docs/decisions/091).
constexpr char kScalingKey[] = "eidetic.rope_scaling";
constexpr char kFetch[] = "fetch the adapter again, or have PEFT save it again";

std::string InFolder(const std::string& folder, const char* name) {
  return (fs::path(folder) / name).string();
}

std::string RequiredFile(const std::string& folder, const char* name) {
  std::string path = InFolder(folder, name);
  std::error_code failed;
  if (fs::exists(path, failed)) return path;
  throw Error(ErrorCode::kNotFound, folder + ": there is no " + name + " in this folder",
              "give a folder with adapter_config.json and adapter_model.safetensors, as PEFT saves "
              "adapters");
}

void Remove(std::string* name, std::string_view part, std::string_view in_its_place) {
  const size_t at = name->find(part);
  if (at != std::string::npos) name->replace(at, part.size(), in_its_place);
}

// A tensor's name without what a wrapper of PEFT put in it.
std::string Plain(std::string name) {
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  Remove(&name, ".modules_to_save.", ".");
  Remove(&name, ".base_layer.", ".");
  for (const char* part : {".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B"}) {
    Remove(&name, std::string(part) + ".default", part);
  }
  Remove(&name, ".default.", ".");
  return name;
}

GgmlType TypeOf(const SafeTensor& tensor) {
  if (tensor.dtype == "F16") return GgmlType::kF16;
  return tensor.dtype == "BF16" ? GgmlType::kBF16 : GgmlType::kF32;
}

uint64_t Count(const SafeTensor& tensor) {
  uint64_t count = 1;
  for (const uint64_t size : tensor.shape) count *= size;
  return count;
}

// A scaling that is not known is an error: without it the model would be another.
std::optional<RotaryScaling> ScalingIn(const SafetensorsFile& file) {
  const auto found = file.metadata().find(kScalingKey);
  if (found == file.metadata().end()) return std::nullopt;
  try {
    return ParseRotaryScaling(found->second);
  } catch (const Error&) {
    throw Error(ErrorCode::kUnsupported,
                file.path() + ": metadata '" + kScalingKey + "' is " + Quoted(found->second) +
                    ", a scaling of rotary positions that is not known",
                "use the version of this program that trained the adapter, or a newer one");
  }
}

void CheckValues(const SafeTensor& tensor, const std::string& where) {
  if (tensor.dtype != "F32" && tensor.dtype != "F16" && tensor.dtype != "BF16") {
    throw Error(ErrorCode::kUnsupported,
                where + " is of dtype " + tensor.dtype + ", none of F32, F16, BF16",
                "save the adapter in one of these types");
  }
  constexpr uint64_t kAtOnce = uint64_t{1} << 20;
  const uint64_t count = Count(tensor);
  std::vector<float> values(std::min(count, kAtOnce));
  for (uint64_t first = 0; first < count; first += kAtOnce) {
    const uint64_t part = std::min(kAtOnce, count - first);
    ReadValues(tensor, first, part, values.data());
    for (uint64_t i = 0; i < part; ++i) {
      if (std::isfinite(values[i])) continue;
      throw Error(ErrorCode::kCorruption,
                  where + " holds a number that is not finite at " + std::to_string(first + i),
                  "the adapter is damaged or its training diverged: use another one");
    }
  }
}

}  // namespace

std::shared_ptr<const AdapterFile> AdapterFile::Open(const std::string& folder) {
  AdapterConfig config = ReadAdapterConfig(RequiredFile(folder, kConfigFile));
  auto file = SafetensorsFile::Open(RequiredFile(folder, kWeightsFile));
  config.rotary_scaling = ScalingIn(*file);
  return std::shared_ptr<const AdapterFile>(
      new AdapterFile(folder, std::move(config), std::move(file)));
}

std::vector<std::string> AdapterFile::FilesOf(const std::string& folder) {
  return {RequiredFile(folder, kConfigFile), RequiredFile(folder, kWeightsFile)};
}

AdapterFile::AdapterFile(const std::string& folder, AdapterConfig config,
                         std::shared_ptr<const SafetensorsFile> file)
    : path_(folder),
      config_(std::move(config)),
      modules_(config_, InFolder(folder, kConfigFile)),
      file_(std::move(file)) {
  Sort();
}

// Says of every tensor of the file what it is.
void AdapterFile::Sort() {
  struct Ending {
    const char* text;
    bool is_a, embedding;
  };
  constexpr Ending kEndings[] = {{".lora_A.weight", true, false},
                                 {".lora_B.weight", false, false},
                                 {".lora_embedding_A", true, true},
                                 {".lora_embedding_B", false, true}};
  std::map<std::string, LowRank> pairs;
  for (const auto& [name, tensor] : file_->tensors()) {
    const std::string plain = Plain(name), where = file_->path() + ": tensor " + Quoted(name);
    CheckValues(tensor, where);
    const SafeTensor** place = nullptr;
    for (const Ending& ending : kEndings) {
      if (!plain.ends_with(ending.text)) continue;
      LowRank& pair = pairs[plain.substr(0, plain.size() - std::string_view(ending.text).size())];
      pair.embedding |= ending.embedding;
      place = ending.is_a ? &pair.a : &pair.b;
    }
    if (place == nullptr) {
      if (plain.find(".lora_") != std::string::npos) {
        throw Error(ErrorCode::kUnsupported, where + " belongs to a kind of LoRA that is not known",
                    "docs/models.md lists what can be applied");
      }
      place = &whole_[plain];
    }
    if (*place != nullptr) {
      throw Error(ErrorCode::kCorruption, where + " is there twice, under two names", kFetch);
    }
    *place = &tensor;
  }
  if (pairs.empty() && whole_.empty()) {
    throw Error(ErrorCode::kCorruption, file_->path() + " holds no tensor", kFetch);
  }
  for (const auto& [module, pair] : pairs) AddLowRank(module, pair);
}

void AdapterFile::AddLowRank(const std::string& module, LowRank low_rank) {
  const std::string where = file_->path() + ": the LoRA of " + Quoted(module);
  if (low_rank.a == nullptr || low_rank.b == nullptr) {
    throw Error(ErrorCode::kCorruption,
                where + " has " + (low_rank.a == nullptr ? "B and no A" : "A and no B"), kFetch);
  }
  const std::vector<uint64_t>&a = low_rank.a->shape, &b = low_rank.b->shape;
  if (a.size() > 2 || b.size() > 2) {
    throw Error(ErrorCode::kUnsupported,
                where + " is one of a convolution: A is " + ShapeText(a) + ", B is " + ShapeText(b),
                "train convolutions whole: name them in 'modules_to_save'");
  }
  const int rank = modules_.Rank(module);
  low_rank.rank = static_cast<uint64_t>(rank);
  if (a.size() != 2 || b.size() != 2 || a[0] != low_rank.rank || b[1] != low_rank.rank) {
    throw Error(ErrorCode::kCorruption,
                where + " has A of shape " + ShapeText(a) + " and B of " + ShapeText(b) + ", but " +
                    kConfigFile + " gives it rank " + std::to_string(rank),
                "use the configuration and the weights of one adapter");
  }
  low_rank.scale = modules_.Alpha(module) / (config_.rslora ? std::sqrt(rank) : rank);
  low_rank_.emplace(module, low_rank);
}

std::string AdapterFile::Kind() const {
  const auto has = [&](std::string_view part) {
    return std::any_of(whole_.begin(), whole_.end(), [&](const auto& entry) {
      return entry.first.find(part) != std::string::npos;
    });
  };
  if (low_rank_.empty()) {
    const bool mixers = std::all_of(whole_.begin(), whole_.end(), [](const auto& entry) {
      return entry.first.find(".mamba.") != std::string::npos;
    });
    return mixers && has(".mamba.in_proj.") ? "mixers" : "modules";
  }
  if (has(".conv1d.")) return "HyLoRA";
  return has("embed_tokens.") || has("norm.weight") ? "LoRA+" : "LoRA";
}

uint64_t AdapterFile::Parameters() const {
  uint64_t count = 0;
  for (const auto& [name, tensor] : file_->tensors()) count += Count(tensor);
  return count;
}

void ReadValues(const SafeTensor& tensor, uint64_t first, uint64_t count, float* values) {
  const GgmlType type = TypeOf(tensor);
  Dequantize(type, tensor.data + first * static_cast<uint64_t>(SizeOf(type).bytes), count, values);
}

void WriteAdapter(const std::string& folder, const AdapterConfig& config,
                  const std::vector<AdapterTensor>& tensors) {
  SafetensorsWriter writer;
  writer.AddMetadata("format", "pt");  // which loaders of Python insist on
  if (config.rotary_scaling) {
    writer.AddMetadata(kScalingKey, RotaryScalingText(*config.rotary_scaling));
  }
  for (const AdapterTensor& tensor : tensors) {
    writer.Add(std::string(kPrefix) + tensor.name, tensor.dtype, tensor.shape, tensor.values);
  }
  std::error_code failed;
  fs::create_directory(folder, failed);  // what is wrong is told when a file is made in it
  writer.Write(InFolder(folder, kWeightsFile));
  const std::string text = AdapterConfigText(config);
  AtomicFile file(InFolder(folder, kConfigFile));
  file.Write(text.data(), text.size());
  file.Commit();
}

}  // namespace eidetic::model
