#include "model/merge.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "model/config.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/gguf_output.h"
#include "model/gguf_rotary.h"
#include "model/gguf_writer.h"
#include "model/patch_config.h"
#include "model/safetensors.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

using Shape = std::vector<uint64_t>;
constexpr uint32_t kMergeVersion = 1;

// One layer's mixer in the patch, by the names and conventions of transformers.
class Mixer {
 public:
  Mixer(const SafetensorsFile& patch, const ModelConfig& config, int layer)
      : patch_(patch),
        config_(config),
        prefix_("model.layers." + std::to_string(layer) + ".mamba."),
        block_("blk." + std::to_string(layer) + ".") {}

  // The tensors of the output that stand for the mixer. Checks names, dtypes and shapes now; values
  // are read, and checked to be finite, later. `used` gets the patch's names.
  void AddTo(std::vector<GgufSource>* sources, std::set<std::string>* used) {
    const auto size = [](int value) { return static_cast<uint64_t>(value); };
    const MambaConfig& mamba = config_.mamba;
    const uint64_t heads = size(mamba.heads), inner = size(mamba.Inner());
    const uint64_t channels = size(mamba.ConvChannels()), hidden = size(config_.hidden);
    const uint64_t width = size(mamba.conv_width), groups = size(mamba.groups);
    used_ = used;
    Rows(sources, "in_proj.weight", "ssm_in.weight", {inner + channels + heads, hidden});
    Plain(sources, "conv1d.weight", {channels, 1, width}, "ssm_conv1d.weight", {channels, width});
    Plain(sources, "conv1d.bias", {channels}, "ssm_conv1d.bias", {channels});
    Plain(sources, "dt_bias", {heads}, "ssm_dt.bias", {heads});
    Plain(sources, "A_log", {heads}, "ssm_a", {heads, 1});
    // The output holds A itself. In double, so that the rounding does not depend on the C library.
    sources->back().values = [log = sources->back().values] {
      std::vector<float> values = log();
      for (float& value : values) value = static_cast<float>(-std::exp(static_cast<double>(value)));
      return values;
    };
    Plain(sources, "D", {heads}, "ssm_d", {heads, 1});
    Plain(sources, "norm.weight", {inner}, "ssm_norm.weight", {groups, inner / groups});
    Rows(sources, "out_proj.weight", "ssm_out.weight", {hidden, inner});
  }

 private:
  const SafeTensor& Find(const std::string& name, const std::string& dtype, const Shape& shape) {
    used_->insert(name);
    return patch_.Tensor(name, dtype, shape);
  }

  static std::vector<float> Floats(const SafeTensor& tensor, const std::string& where) {
    std::vector<float> values(tensor.bytes / sizeof(float));
    std::memcpy(values.data(), tensor.data, tensor.bytes);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) {
        throw Error(ErrorCode::kCorruption,
                    where + " is not a finite number at index " + std::to_string(i),
                    "download the patch again");
      }
    }
    return values;
  }

  std::string Where(const std::string& name) const {
    return patch_.path() + ": tensor " + Quoted(name);
  }

  void Plain(std::vector<GgufSource>* sources, const std::string& name, const Shape& shape,
             const std::string& output, const Shape& output_shape) {
    const SafeTensor& tensor = Find(prefix_ + name, "F32", shape);
    sources->push_back(
        {block_ + output, output_shape, GgmlType::kF32, nullptr,
         [&tensor, where = Where(prefix_ + name)] { return Floats(tensor, where); }});
  }

  // fp32, or int8 rows with one scale each, which become fp32: an fp16 scale or fp16 values would
  // change the logits by more than the parity bar of 1e-3 (docs/decisions/031).
  void Rows(std::vector<GgufSource>* sources, const std::string& name, const std::string& output,
            const Shape& shape) {
    const auto stored = patch_.tensors().find(prefix_ + name);
    if (stored != patch_.tensors().end() && stored->second.dtype == "F32") {
      return Plain(sources, name, shape, output, shape);
    }
    const SafeTensor& rows = Find(prefix_ + name, "I8", shape);
    const std::string scale_name = prefix_ + name + ".scale";
    const SafeTensor& scale = Find(scale_name, "F32", {shape[0]});
    sources->push_back({block_ + output, shape, GgmlType::kF32, nullptr,
                        [&rows, &scale, where = Where(scale_name)] {
                          const std::vector<float> scales = Floats(scale, where);
                          std::vector<float> values(rows.bytes);
                          const size_t width = values.size() / scales.size();
                          for (size_t i = 0; i < values.size(); ++i) {
                            values[i] = static_cast<float>(static_cast<int8_t>(rows.data[i])) *
                                        scales[i / width];
                          }
                          return values;
                        }});
  }

  const SafetensorsFile& patch_;
  const ModelConfig& config_;
  const std::string prefix_, block_;
  std::set<std::string>* used_ = nullptr;
};

// The last 64 hexadecimal digits in the patch's metadata `base`.
std::string BaseHash(const SafetensorsFile& patch) {
  constexpr size_t kDigits = 64;
  const auto found = patch.metadata().find("base");
  if (found != patch.metadata().end() && found->second.size() >= kDigits) {
    std::string hash = found->second.substr(found->second.size() - kDigits);
    for (char& digit : hash) digit = static_cast<char>(std::tolower(static_cast<uint8_t>(digit)));
    if (hash.find_first_not_of("0123456789abcdef") == std::string::npos) return hash;
  }
  throw Error(ErrorCode::kCorruption,
              patch.path() + ": metadata 'base' does not end with the base's SHA-256",
              "use a patch in the form docs/models.md describes");
}

std::vector<GgufSource> Plan(const GgufFile& base, const SafetensorsFile& patch,
                             const ModelConfig& config) {
  std::vector<GgufSource> sources;
  std::set<std::string> replaced, used;
  for (const int layer : config.MambaLayers()) {
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      replaced.insert("blk." + std::to_string(layer) + "." + name + ".weight");
    }
  }
  for (const GgufTensor& tensor : base.tensors()) {
    if (replaced.erase(tensor.name) != 0) continue;
    sources.push_back({tensor.name, tensor.shape, tensor.type, &tensor, {}});
  }
  if (!replaced.empty()) {
    throw Error(ErrorCode::kCorruption,
                base.path() + ": tensor " + Quoted(*replaced.begin()) + " is missing",
                "use a base that a converter for this architecture made");
  }
  for (const int layer : config.MambaLayers()) Mixer(patch, config, layer).AddTo(&sources, &used);
  for (const auto& [name, tensor] : patch.tensors()) {
    if (!used.contains(name)) {
      throw Error(ErrorCode::kCorruption,
                  patch.path() + ": tensor " + Quoted(name) + " belongs to no mixer of config.json",
                  "use the mixers and the config.json of one patch");
    }
  }
  return sources;
}

void AddGeneral(const GgufFile& base, const SafetensorsFile& patch, const ModelConfig& config,
                GgufWriter* writer) {
  writer->AddString("general.architecture", config.architecture);
  writer->AddString("general.type", "model");
  writer->AddString("general.name", config.name);
  for (const char* key : {"general.license", "general.languages", "general.file_type",
                          "general.quantization_version"}) {
    if (base.Find(key) != nullptr) writer->AddRaw(key, base.RawValue(key));
  }
  writer->AddUint32("general.base_model.count", 1);
  for (const char* name : {"name", "organization"}) {
    const std::string_view value = base.RawValue(std::string("general.") + name);
    if (!value.empty()) writer->AddRaw(std::string("general.base_model.0.") + name, value);
  }
  const auto license = patch.metadata().find("license");
  if (license != patch.metadata().end()) {
    writer->AddString("eidetic.patch.license", license->second);
  }
}

void AddArchitecture(const ModelConfig& config, GgufWriter* writer) {
  const auto number = [&](const char* key, int value) {
    writer->AddUint32(config.architecture + "." + key, static_cast<uint32_t>(value));
  };
  const auto real = [&](const char* key, double value) {
    writer->AddFloat32(config.architecture + "." + key, static_cast<float>(value));
  };
  number("block_count", static_cast<int>(config.layers.size()));
  number("context_length", config.trained_context);
  number("embedding_length", config.hidden);
  number("feed_forward_length", config.feed_forward);
  number("vocab_size", config.vocabulary);
  number("attention.head_count", config.heads);
  std::vector<int32_t> kv_heads;
  for (const LayerKind kind : config.layers) {
    kv_heads.push_back(kind == LayerKind::kAttention ? config.kv_heads : 0);
  }
  writer->AddInt32Array(config.architecture + ".attention.head_count_kv", kv_heads);
  number("attention.key_length", config.head_dim);
  number("attention.value_length", config.head_dim);
  real("attention.layer_norm_rms_epsilon", config.norm_epsilon);
  real("attention.scale", config.attention_scale);
  real("embedding_scale", config.embedding_scale);
  real("residual_scale", config.residual_scale);
  real("logit_scale", config.logit_scale);
  number("rope.dimension_count", config.rotary_dims);
  AddRotary(config, writer);
  writer->AddBool(config.architecture + ".rope.scaling.finetuned", true);  // rotary is on
  number("ssm.conv_kernel", config.mamba.conv_width);
  number("ssm.inner_size", config.mamba.Inner());
  number("ssm.state_size", config.mamba.state);
  number("ssm.time_step_rank", config.mamba.heads);
  number("ssm.group_count", config.mamba.groups);
}

}  // namespace

void MergeModel(const std::string& base_path, const std::string& patch_dir,
                const std::string& output_path,
                const std::function<std::string(const std::string& path)>& sha256_of_file,
                const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  const std::string mixers_path =
      (std::filesystem::path(patch_dir) / "mixers.safetensors").string();
  const std::string config_path = (std::filesystem::path(patch_dir) / "config.json").string();
  const auto patch = SafetensorsFile::Open(mixers_path);
  const std::string expected = BaseHash(*patch);
  const auto base = GgufFile::Open(base_path);
  RefuseOverwriting(base_path, output_path);
  RefuseOverwriting(mixers_path, output_path);
  RefuseReplacingOthers(output_path);
  const std::string hash = sha256_of_file(base_path);
  if (hash != expected) {
    throw Error(ErrorCode::kMismatch,
                base_path + " has SHA-256 " + hash + ", but " + mixers_path +
                    " was made for the base with " + expected,
                "use the base that the patch names");
  }
  const ModelConfig base_config = ReadModelConfig(*base);
  if (base_config.architecture != "llama") {
    throw Error(ErrorCode::kUnsupported,
                base_path + ": a base of architecture " + Quoted(base_config.architecture) +
                    " cannot be merged, only 'llama'",
                "use the base that the patch names");
  }
  const ModelConfig config = ReadPatchConfig(config_path, base_config);

  const std::vector<GgufSource> sources = Plan(*base, *patch, config);
  GgufWriter writer;
  AddGeneral(*base, *patch, config, &writer);
  writer.AddString("eidetic.base.sha256", hash);
  writer.AddString("eidetic.patch.sha256", sha256_of_file(mixers_path));
  writer.AddUint32("eidetic.merge.version", kMergeVersion);
  AddArchitecture(config, &writer);
  for (const auto& [key, value] : base->metadata()) {
    if (key.starts_with("tokenizer.")) writer.AddRaw(key, base->RawValue(key));
  }
  WriteGguf(*base, sources, &writer, output_path, progress);
}

}  // namespace eidetic::model
