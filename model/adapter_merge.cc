#include "model/adapter_merge.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "model/adapter_fit.h"
#include "model/error.h"
#include "model/gguf_output.h"
#include "model/gguf_rotary.h"

namespace eidetic::model {
namespace {

constexpr uint32_t kAdapterMergeVersion = 1;
constexpr char kAdapterHash[] = "eidetic.adapter.sha256",
               kBaseHash[] = "eidetic.adapter.base_sha256",
               kVersionKey[] = "eidetic.adapter.merge_version";

// What a changed tensor is stored as. Of a convolution or a norm llama.cpp, too, wants F32.
GgmlType TypeOf(const std::string& name, const std::vector<uint64_t>& shape, GgmlType type) {
  const bool matrix = shape.size() == 2 && name.ends_with(".weight") &&
                      name.find(".ssm_conv1d.") == std::string::npos &&
                      name.find("_norm.") == std::string::npos;
  return matrix ? type : GgmlType::kF32;
}

std::vector<GgufSource> Plan(const GgufFile& base, const AdapterFit& fit, GgmlType type) {
  std::vector<GgufSource> sources;
  const auto add_changed = [&](const std::string& name) {
    const std::vector<uint64_t>& shape = fit.Shape(name);
    if (!fit.ChangesValues(name)) {  // a copy under another name
      const GgufTensor& copied = base.Tensor(fit.BaseTensor(name), shape);
      sources.push_back({name, shape, copied.type, &copied, {}});
      return;
    }
    sources.push_back({name, shape, TypeOf(name, shape, type), nullptr, [&fit, name] {
                         uint64_t count = 1;
                         for (const uint64_t size : fit.Shape(name)) count *= size;
                         std::vector<float> values(count);
                         fit.Read(name, values.data());
                         return values;
                       }});
  };
  for (const GgufTensor& tensor : base.tensors()) {
    if (fit.Changes(tensor.name)) {
      add_changed(tensor.name);
    } else {
      sources.push_back({tensor.name, tensor.shape, tensor.type, &tensor, {}});
    }
  }
  for (const std::string& name : fit.Changed()) {
    if (base.FindTensor(name) == nullptr) add_changed(name);
  }
  return sources;
}

}  // namespace

void MergeAdapter(const std::string& base_path, const std::string& adapter_dir,
                  const std::string& output_path, GgmlType type,
                  const std::function<std::string(const std::string& path)>& sha256_of_file,
                  const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  if (type != GgmlType::kF32 && type != GgmlType::kF16) {
    throw Error(
        ErrorCode::kInvalidArgument,
        std::string("changed matrices are stored as F32 or F16, not as ") + GgmlTypeName(type));
  }
  std::error_code failed;
  if (std::filesystem::is_directory(base_path, failed)) {
    throw Error(ErrorCode::kUnsupported,
                base_path + " is a folder: an adapter is merged into a GGUF file",
                "use the folder with --adapter, which computes the same");
  }
  const auto base = GgufFile::Open(base_path);
  const auto adapter = AdapterFile::Open(adapter_dir);
  RefuseOverwriting(base_path, output_path);
  RefuseReplacingOthers(output_path);
  for (const std::string& path : AdapterFile::FilesOf(adapter_dir)) {
    RefuseOverwriting(path, output_path);
  }
  const AdapterFit fit(Checkpoint::Of(base), adapter);
  const auto& scaling = adapter->config().rotary_scaling;
  ModelConfig config = fit.base().Config();
  GgufWriter writer;
  for (const auto& [key, value] : base->metadata()) {
    // The output has an alignment and an origin of its own.
    if (key == "general.alignment" || key.starts_with("eidetic.adapter.")) continue;
    if (scaling && IsRotaryKey(key, config.architecture)) continue;
    writer.AddRaw(key, base->RawValue(key));
  }
  if (scaling) {
    config.SetRotaryScaling(*scaling);
    AddRotary(config, &writer);
  }
  writer.AddString(kBaseHash, sha256_of_file(base_path));
  writer.AddString(kAdapterHash, sha256_of_file(adapter->weights_path()));
  writer.AddUint32(kVersionKey, kAdapterMergeVersion);
  WriteGguf(*base, Plan(*base, fit, type), &writer, output_path, progress);
}

}  // namespace eidetic::model
