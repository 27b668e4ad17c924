// Adapters as PEFT saves them: a folder with adapter_config.json and adapter_model.safetensors
// (docs/formats/adapter.md). Needs no base and no LibTorch.
#ifndef EIDETIC_MODEL_ADAPTER_FILE_H_
#define EIDETIC_MODEL_ADAPTER_FILE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/adapter_config.h"
#include "model/safetensors.h"

namespace eidetic::model {

// What LoRA adds to a matrix W [out, in]: scale * B A.
struct LowRank {
  const SafeTensor* a = nullptr;  // [rank, in]; of an embedding [rank, vocabulary]
  const SafeTensor* b = nullptr;  // [out, rank]; of an embedding [hidden, rank]
  bool embedding = false;         // W is [vocabulary, hidden] and gets scale * (B A)^T
  uint64_t rank = 0;
  double scale = 0;
};

// Immutable and thread-safe; keeps the file mapped. Nothing in the files is trusted (rule 6): what
// JSON and safetensors are checked for, and beyond it names, dtypes (F32, F16, BF16), that A and B
// belong together and have the rank that the configuration says, and that every value is finite.
class AdapterFile {
 public:
  // Throws Error: kNotFound, kIo, kCorruption, kUnsupported. Names of tensors may also be those of
  // a state dict, with `.default.` and `modules_to_save.`.
  static std::shared_ptr<const AdapterFile> Open(const std::string& folder);
  // The files that Open reads: paths, ascending.
  static std::vector<std::string> FilesOf(const std::string& folder);

  const std::string& path() const { return path_; }  // of the folder
  const std::string& weights_path() const { return file_->path(); }
  const AdapterConfig& config() const { return config_; }
  const AdapterModules& modules() const { return modules_; }
  // By the module's path in `transformers`, such as "model.layers.0.self_attn.q_proj".
  const std::map<std::string, LowRank>& low_rank() const { return low_rank_; }
  // What was trained whole, by the tensor's name there, such as "model.norm.weight".
  const std::map<std::string, const SafeTensor*>& whole() const { return whole_; }

  // "LoRA"; "LoRA+", with whole embeddings or norms (LongLoRA); "HyLoRA", with whole convolutions
  // of mixers too; without LoRA "mixers", of which all is whole, or else "modules".
  std::string Kind() const;
  uint64_t Parameters() const;
  uint64_t bytes() const { return file_->size(); }

 private:
  AdapterFile(const std::string& folder, AdapterConfig config,
              std::shared_ptr<const SafetensorsFile> file);
  void Sort();
  void AddLowRank(const std::string& module, LowRank low_rank);

  const std::string path_;
  const AdapterConfig config_;
  const AdapterModules modules_;
  const std::shared_ptr<const SafetensorsFile> file_;
  std::map<std::string, LowRank> low_rank_;
  std::map<std::string, const SafeTensor*> whole_;
};

// `count` values from number `first` on, in fp32. The dtype is one that AdapterFile lets through.
void ReadValues(const SafeTensor& tensor, uint64_t first, uint64_t count, float* values);

// A tensor to be written: `name` as in AdapterFile's maps, with ".lora_A.weight" or
// ".lora_B.weight" behind a module's path ("model.layers.0.self_attn.q_proj.lora_A.weight").
struct AdapterTensor {
  std::string name;
  std::vector<uint64_t> shape;
  const float* values = nullptr;
  std::string dtype = "F32";  // in the file: "F32", "F16", "BF16"
};

// Makes the folder where there is none, and puts both files in place, the weights first; each of
// them is there whole or not at all. What is written is what PEFT loads. Throws Error as
// SafetensorsWriter does; on any error the file at hand is the old one.
void WriteAdapter(const std::string& folder, const AdapterConfig& config,
                  const std::vector<AdapterTensor>& tensors);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ADAPTER_FILE_H_
