// Adapters for the models of tiny_folder.h, and what these are with one applied, computed by what
// PEFT documents and not by the reader's code.
#ifndef EIDETIC_TESTS_MODEL_TINY_ADAPTER_H_
#define EIDETIC_TESTS_MODEL_TINY_ADAPTER_H_

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/model/tiny_folder.h"

namespace eidetic::model {

struct TinyAdapter {
  using Tensor = TinyFolder::Tensor;
  static constexpr uint64_t kRank = 3;
  static constexpr double kAlpha = 7;

  nlohmann::json config = {{"peft_type", "LORA"},      {"r", kRank},
                           {"lora_alpha", kAlpha},     {"base_model_name_or_path", "tiny/base"},
                           {"task_type", "CAUSAL_LM"}, {"peft_version", "0.21.2"},
                           {"some_key_of_tomorrow", 1}};
  nlohmann::json metadata = {{"format", "pt"}};  // of the weights
  std::map<std::string, Tensor> tensors;         // by their names in the file

  // LoRA on every matrix of attention and feed-forward.
  static TinyAdapter Lora(const TinyFolder& base);
  // LoRA on attention and the mixer's input, whole convolutions, norms and embedding.
  static TinyAdapter HyLora(const TinyFolder& base);

  void AddLora(std::mt19937* random, const std::string& module, const TinyFolder& base);
  void AddWhole(std::mt19937* random, const std::string& name, const TinyFolder& base);
  void Write(const std::string& folder) const;
  // The base with the adapter in it. The embedding stays the output matrix where these were tied.
  TinyFolder AppliedTo(TinyFolder base, double scale = kAlpha / kRank) const;

 private:
  static Tensor Random(std::mt19937* random, std::vector<uint64_t> shape);
};

inline TinyAdapter::Tensor TinyAdapter::Random(std::mt19937* random, std::vector<uint64_t> shape) {
  Tensor tensor;
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  for (uint64_t i = 0; i < count; ++i) {
    tensor.values.push_back(0.2f * (static_cast<float>((*random)() >> 8) * 0x1p-23f - 1));
  }
  tensor.shape = std::move(shape);
  return tensor;
}

inline void TinyAdapter::AddLora(std::mt19937* random, const std::string& module,
                                 const TinyFolder& base) {
  const std::vector<uint64_t>& shape = base.tensors.at(module + ".weight").shape;
  const std::string name = "base_model.model." + module;
  tensors[name + ".lora_A.weight"] = Random(random, {kRank, shape[1]});
  tensors[name + ".lora_B.weight"] = Random(random, {shape[0], kRank});
}

inline void TinyAdapter::AddWhole(std::mt19937* random, const std::string& name,
                                  const TinyFolder& base) {
  tensors["base_model.model." + name] = Random(random, base.tensors.at(name).shape);
}

inline TinyAdapter TinyAdapter::Lora(const TinyFolder& base) {
  TinyAdapter adapter;
  std::mt19937 random(8);
  adapter.config["target_modules"] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
                                      "gate_proj", "up_proj", "down_proj", "input_linear"};
  for (const auto& [name, tensor] : base.tensors) {
    for (const auto& target : adapter.config["target_modules"]) {
      const std::string ending = "." + target.get<std::string>() + ".weight";
      if (!name.ends_with(ending)) continue;
      adapter.AddLora(&random, name.substr(0, name.size() - 7), base);
    }
  }
  return adapter;
}

inline TinyAdapter TinyAdapter::HyLora(const TinyFolder& base) {
  TinyAdapter adapter;
  std::mt19937 random(9);
  adapter.config["target_modules"] = R"(.*\.self_attn\.[qkvo]_proj|.*\.in_proj)";
  adapter.config["modules_to_save"] = {"embed_tokens", "conv1d", "layernorm", "model.norm"};
  for (const auto& [name, tensor] : base.tensors) {
    const bool lora =
        name.find("self_attn.") != std::string::npos || name.ends_with("in_proj.weight");
    if (lora) adapter.AddLora(&random, name.substr(0, name.size() - 7), base);
    for (const char* whole : {"embed_tokens.", "conv1d.", "layernorm.", "model.norm."}) {
      if (name.find(whole) != std::string::npos) adapter.AddWhole(&random, name, base);
    }
  }
  return adapter;
}

inline void TinyAdapter::Write(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  std::vector<std::pair<std::string, const Tensor*>> list;
  for (const auto& [name, tensor] : tensors) list.emplace_back(name, &tensor);
  WriteFile(folder + "/adapter_config.json", config.dump());
  WriteFile(folder + "/adapter_model.safetensors", TinyFolder::File(list, metadata));
}

inline TinyFolder TinyAdapter::AppliedTo(TinyFolder base, double scale) const {
  for (const auto& [name, tensor] : tensors) {
    const std::string module = name.substr(std::string("base_model.model.").size());
    const size_t lora = module.find(".lora_A.weight");
    if (module.find(".lora_") == std::string::npos) base.tensors.at(module) = tensor;
    if (lora == std::string::npos) continue;
    const Tensor& b = tensors.at(name.substr(0, name.size() - 8) + "B.weight");
    Tensor& matrix = base.tensors.at(module.substr(0, lora) + ".weight");
    const uint64_t rows = matrix.shape[0], columns = matrix.shape[1], rank = tensor.shape[0];
    for (uint64_t row = 0; row < rows; ++row) {
      for (uint64_t column = 0; column < columns; ++column) {
        double sum = 0;
        for (uint64_t k = 0; k < rank; ++k) {
          sum +=
              static_cast<double>(b.values[row * rank + k]) * tensor.values[k * columns + column];
        }
        float& value = matrix.values[row * columns + column];
        value = static_cast<float>(value + scale * sum);
      }
    }
  }
  return base;
}

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_TINY_ADAPTER_H_
