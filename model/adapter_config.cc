#include "model/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "model/config.h"
#include "model/json_file.h"
#include "model/module_patterns.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

constexpr char kOutputModule[] = "lm_head";
constexpr char kRewrite[] = "fetch the adapter again, or have PEFT save it again";

// Keys of PEFT that make an adapter another computation, unless they are null, false or empty.
constexpr const char* kUnknownComputation[] = {"use_dora",
                                               "lora_bias",
                                               "layer_replication",
                                               "target_parameters",
                                               "use_qalora",
                                               "use_bdlora",
                                               "trainable_token_indices",
                                               "alora_invocation_tokens",
                                               "velora_config",
                                               "monteclora_config",
                                               "arrow_config",
                                               "kasa_config",
                                               "megatron_config"};

std::vector<std::string> Texts(const JsonFile& file, const char* key) {
  std::vector<std::string> texts;
  const json* value = file.Find(key);
  if (value == nullptr) return texts;
  if (!value->is_array()) file.Fail(ErrorCode::kCorruption, key, "is no list of names");
  for (const json& text : *value) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty()) {
      file.Fail(ErrorCode::kCorruption, key, "is no list of names");
    }
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

ModuleNames Names(const JsonFile& file, const char* key) {
  ModuleNames names;
  const json* value = file.Find(key);
  if (value != nullptr && value->is_string()) {
    names.pattern = value->get<std::string>();
  } else {
    names.names = Texts(file, key);
  }
  return names;
}

void ReadLayers(const JsonFile& file, std::vector<int>* layers) {
  const char* key = "layers_to_transform";
  const json* value = file.Find(key);
  if (value == nullptr) return;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& layer : list) {
    if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= kMostLayers) {
      file.Fail(ErrorCode::kCorruption, key, "is no list of layers");
    }
    layers->push_back(layer.get<int>());
  }
  // Where a path has its layer's number; here all have it in one place.
  const ModuleNames patterns = Names(file, "layers_pattern");
  if (patterns.pattern.empty() && patterns.names.empty()) return;
  if (patterns.pattern == "layers" || patterns.names == std::vector<std::string>{"layers"}) return;
  file.Fail(ErrorCode::kUnsupported, "layers_pattern", "is not \"layers\"");
}

double Finite(const JsonFile& file, const char* key, const json& value) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    file.Fail(ErrorCode::kCorruption, key, "holds what is no finite number");
  }
  return value.get<double>();
}

std::map<std::string, double> Numbers(const JsonFile& file, const char* key) {
  std::map<std::string, double> numbers;
  const json* value = file.Find(key);
  if (value == nullptr) return numbers;
  if (!value->is_object()) file.Fail(ErrorCode::kCorruption, key, "is no object");
  for (const auto& [pattern, number] : value->items()) {
    numbers[pattern] = Finite(file, key, number);
  }
  return numbers;
}

void RefuseOtherComputations(const JsonFile& file) {
  const std::string type = file.TextOr("peft_type", "");
  if (type != "LORA") {
    file.Fail(ErrorCode::kUnsupported, "peft_type", "is " + Quoted(type) + ", not 'LORA'");
  }
  for (const char* key : kUnknownComputation) {
    const json* value = file.Find(key);
    if (value == nullptr || *value == false) continue;
    if ((value->is_array() || value->is_object()) && value->empty()) continue;
    file.Fail(ErrorCode::kUnsupported, key, "is set, which cannot be applied");
  }
}

template <typename Value>
json OrNull(const std::vector<Value>& list) {
  json array;
  for (const Value& value : list) array.push_back(value);
  return array;  // null when there was none
}

json ToJson(const ModuleNames& names) {
  if (!names.pattern.empty()) return names.pattern;
  return OrNull(names.names);
}

}  // namespace

AdapterConfig ReadAdapterConfig(const std::string& path) {
  const JsonFile file(path, kRewrite);
  RefuseOtherComputations(file);
  AdapterConfig config;
  config.base_model = file.TextOr("base_model_name_or_path", "");
  config.task = file.TextOr("task_type", "");
  config.rank = file.SizeOr("r", config.rank);
  config.alpha = file.NumberOr("lora_alpha", config.alpha);
  config.dropout = file.NumberOr("lora_dropout", 0);
  if (!std::isfinite(config.alpha)) {
    file.Fail(ErrorCode::kCorruption, "lora_alpha", "is no finite number");
  }
  if (!(config.dropout >= 0 && config.dropout <= 1)) {
    file.Fail(ErrorCode::kCorruption, "lora_dropout", "is not within 0 to 1");
  }
  config.rslora = file.FlagOr("use_rslora", false);
  config.fan_in_fan_out = file.FlagOr("fan_in_fan_out", false);
  config.bias = file.TextOr("bias", "none");
  if (config.bias != "none" && config.bias != "all" && config.bias != "lora_only") {
    file.Fail(ErrorCode::kUnsupported, "bias", "is " + Quoted(config.bias));
  }
  config.targets = Names(file, "target_modules");
  config.excluded = Names(file, "exclude_modules");
  config.modules_to_save = Texts(file, "modules_to_save");
  if (config.targets.pattern.empty() && config.targets.names.empty() &&
      config.modules_to_save.empty()) {
    file.Fail(ErrorCode::kCorruption, "target_modules", "names no module");
  }
  ReadLayers(file, &config.layers);
  for (const auto& [pattern, rank] : Numbers(file, "rank_pattern")) {
    if (!(rank >= 1 && rank <= kLargestSize) || rank != std::floor(rank)) {
      file.Fail(ErrorCode::kCorruption, "rank_pattern", "holds what is no rank");
    }
    config.ranks[pattern] = static_cast<int>(rank);
  }
  config.alphas = Numbers(file, "alpha_pattern");
  config.tied = file.FlagOr("ensure_weight_tying", false);
  return config;
}

std::string AdapterConfigText(const AdapterConfig& config) {
  nlohmann::ordered_json text;
  text["peft_type"] = "LORA";
  text["task_type"] = config.task.empty() ? json() : json(config.task);
  text["base_model_name_or_path"] = config.base_model;
  text["inference_mode"] = true;
  text["r"] = config.rank;
  // PEFT takes whole numbers for what they are.
  const bool whole = config.alpha == std::floor(config.alpha) && std::fabs(config.alpha) < 1e15;
  text["lora_alpha"] = whole ? json(static_cast<int64_t>(config.alpha)) : json(config.alpha);
  text["lora_dropout"] = config.dropout;
  text["use_rslora"] = config.rslora;
  text["fan_in_fan_out"] = config.fan_in_fan_out;
  text["bias"] = config.bias;
  text["target_modules"] = ToJson(config.targets);
  text["exclude_modules"] = ToJson(config.excluded);
  text["modules_to_save"] = OrNull(config.modules_to_save);
  text["layers_to_transform"] = OrNull(config.layers);
  text["rank_pattern"] = json(config.ranks);
  text["alpha_pattern"] = json(config.alphas);
  text["ensure_weight_tying"] = config.tied;
  return text.dump(2) + "\n";
}

namespace {

bool IsNamed(const std::vector<std::string>& names, const std::string& module) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return module == name || module.ends_with("." + name);
  });
}

// The number in "model.layers.12.mlp"; none elsewhere.
std::optional<int> LayerOf(const std::string& module) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!module.starts_with(kLayers)) return std::nullopt;
  const size_t end = module.find('.', kLayers.size());
  const std::string number = module.substr(kLayers.size(), end - kLayers.size());
  if (end == std::string::npos || number.empty() || number.size() > 6) return std::nullopt;
  if (number.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return std::stoi(number);
}

}  // namespace

AdapterModules::AdapterModules(const AdapterConfig& config, std::string where)
    : config_(config), where_(std::move(where)) {
  auto patterns = std::make_unique<ModulePatterns>(ErrorCode::kCorruption, where_, kRewrite);
  for (const ModuleNames* names : {&config_.targets, &config_.excluded}) {
    const bool is_target = names == &config_.targets;
    if (!names->pattern.empty() && !(is_target && names->pattern == kAllLinear)) {
      patterns->Add(names->pattern, PatternExtent::kWholePath);
    }
  }
  for (const auto& [pattern, rank] : config_.ranks)
    patterns->Add(pattern, PatternExtent::kEndOfPath);
  for (const auto& [pattern, alpha] : config_.alphas)
    patterns->Add(pattern, PatternExtent::kEndOfPath);
  patterns_ = std::move(patterns);
}

AdapterModules::~AdapterModules() = default;

bool AdapterModules::IsTarget(const std::string& module, bool linear) const {
  const ModuleNames& targets = config_.targets;
  if (targets.pattern == kAllLinear) return linear && module != kOutputModule;
  if (!targets.pattern.empty())
    return patterns_->Fits(targets.pattern, PatternExtent::kWholePath, module);
  const auto is_whole = std::find(targets.names.begin(), targets.names.end(), module);
  if (is_whole != targets.names.end()) return true;
  if (!IsNamed(targets.names, module)) return false;
  if (config_.layers.empty()) return true;
  const std::optional<int> layer = LayerOf(module);
  return layer.has_value() &&
         std::find(config_.layers.begin(), config_.layers.end(), *layer) != config_.layers.end();
}

bool AdapterModules::HasLora(const std::string& module, bool linear) const {
  if (IsNamed(config_.excluded.names, module)) return false;
  if (!config_.excluded.pattern.empty() &&
      patterns_->Fits(config_.excluded.pattern, PatternExtent::kWholePath, module)) {
    return false;
  }
  // What is trained whole has no LoRA, nor has what is in it.
  for (const std::string& saved : config_.modules_to_save) {
    if (IsNamed({saved}, module)) return false;
    if (module.starts_with(saved + ".")) return false;
    if (module.find("." + saved + ".") != std::string::npos) return false;
  }
  return IsTarget(module, linear);
}

bool AdapterModules::IsSaved(const std::string& module) const {
  return std::any_of(config_.modules_to_save.begin(), config_.modules_to_save.end(),
                     [&](const std::string& saved) { return module.ends_with(saved); });
}

template <typename Value>
Value AdapterModules::ValueFor(const std::map<std::string, Value>& values, Value otherwise,
                               const char* key, const std::string& module) const {
  std::optional<Value> found;
  for (const auto& [pattern, value] : values) {
    if (!patterns_->Fits(pattern, PatternExtent::kEndOfPath, module)) continue;
    // PEFT takes the first, and its files have them in another order than whoever trained had.
    if (found.value_or(value) != value) {
      throw Error(ErrorCode::kUnsupported,
                  where_ + ": two entries of '" + key + "' fit " + Quoted(module), kRewrite);
    }
    found = value;
  }
  return found.value_or(otherwise);
}

int AdapterModules::Rank(const std::string& module) const {
  return ValueFor(config_.ranks, config_.rank, "rank_pattern", module);
}

double AdapterModules::Alpha(const std::string& module) const {
  return ValueFor(config_.alphas, config_.alpha, "alpha_pattern", module);
}

}  // namespace eidetic::model
