#include "model/model_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <utility>

#include "model/dequantize.h"
#include "model/error.h"
#include "model/folder_tensors.h"
#include "model/json_file.h"
#include "model/safetensors.h"
#include "model/text.h"
#include "model/tokenizer_json.h"
#include "model/transformers_config.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;

constexpr char kOneFile[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

std::string InFolder(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

bool Exists(const std::string& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

std::string IfThere(const std::string& path) {
  return Exists(path) ? path : std::string();
}

[[noreturn]] void FailNotFound(const std::string& folder, const std::string& what) {
  const char* form =
      "give a GGUF file, or a folder with config.json, tokenizer.json and "
      "model.safetensors or model.safetensors.index.json (docs/models.md)";
  const bool patch = Exists(InFolder(folder, "mixers.safetensors"));
  throw Error(ErrorCode::kNotFound, folder + what,
              patch ? "this is a patch: make a model of it with 'eidetic model merge'" : form);
}

std::string Required(const std::string& folder, const char* name) {
  std::string path = InFolder(folder, name);
  if (!Exists(path)) FailNotFound(folder, ": there is no " + std::string(name) + " in this folder");
  return path;
}

// A file of the folder itself. It may be a link: caches of downloads are made of them.
bool IsPlainName(const std::string& name) {
  constexpr std::string_view kEnding = ".safetensors";
  return name.size() > kEnding.size() && name.ends_with(kEnding) &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos && name[0] != '.';
}

void ReadIndex(const std::string& folder, ModelFolderFiles* files) {
  const JsonFile index(files->index, kDownload);
  const nlohmann::json* map = index.Find("weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    index.Fail(ErrorCode::kCorruption, "weight_map", "is missing or names no tensor");
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsPlainName(file.get_ref<const std::string&>())) {
      index.Fail(ErrorCode::kCorruption, "weight_map",
                 "places tensor " + Quoted(tensor) + " in " + Quoted(file.dump()) +
                     ", which is no safetensors file of this folder");
    }
    names.insert(file.get<std::string>());
  }
  const std::vector<std::string> ordered(names.begin(), names.end());
  for (const std::string& name : ordered) {
    const std::string path = InFolder(folder, name);
    if (!Exists(path)) {
      throw Error(ErrorCode::kNotFound,
                  path + ": there is no such file, but " + files->index + " names it",
                  "download the missing file");
    }
    files->weights.push_back(path);
  }
  for (const auto& [tensor, file] : map->items()) {
    const auto found = std::lower_bound(ordered.begin(), ordered.end(), file.get<std::string>());
    files->map[tensor] = static_cast<size_t>(found - ordered.begin());
  }
}

// Every tensor of the folder by its name, with the file it is in.
class Tensors {
 public:
  struct Found {
    const SafetensorsFile* file;
    const SafeTensor* tensor;
  };

  explicit Tensors(const ModelFolderFiles& listed) : index_(listed.index) {
    for (const std::string& path : listed.weights) files_.push_back(SafetensorsFile::Open(path));
    if (index_.empty()) {
      for (const auto& [name, tensor] : files_[0]->tensors()) {
        tensors_[name] = {files_[0].get(), &tensor};
      }
    }
    for (const auto& [name, at] : listed.map) {
      const SafetensorsFile& file = *files_[at];
      const auto found = file.tensors().find(name);
      if (found == file.tensors().end()) {
        throw Error(
            ErrorCode::kCorruption,
            file.path() + " lacks tensor " + Quoted(name) + ", which " + index_ + " places there",
            kDownload);
      }
      tensors_[name] = {&file, &found->second};
    }
  }

  const std::map<std::string, Found>& all() const { return tensors_; }
  const Found* Find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  // Where a tensor that is not there was looked for.
  const std::string& Place() const { return index_.empty() ? files_[0]->path() : index_; }
  uint64_t bytes() const {
    uint64_t bytes = 0;
    for (const auto& file : files_) bytes += file->size();
    return bytes;
  }

 private:
  std::string index_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::map<std::string, Found> tensors_;
};

GgmlType TypeOf(const std::string& dtype, const std::string& where) {
  if (dtype == "F32") return GgmlType::kF32;
  if (dtype == "F16") return GgmlType::kF16;
  if (dtype == "BF16") return GgmlType::kBF16;
  throw Error(ErrorCode::kUnsupported, where + " is of dtype " + dtype + ", none of F32, F16, BF16",
              "use the model in one of these types, or as a GGUF file");
}

class FolderCheckpoint final : public Checkpoint {
 public:
  explicit FolderCheckpoint(const std::string& path)
      : path_(path), files_(ListModelFolder(path)), config_(ReadConfig()), tensors_(files_) {
    for (FolderTensor& part : FolderTensorsOf(config_)) {
      CheckTensor(part);
      std::string name = part.name;
      parts_.emplace(std::move(name), std::move(part));
    }
    RefuseOthers();
  }

  const std::string& path() const override { return path_; }
  std::vector<std::string> files() const override { return files_.All(); }
  ModelConfig Config() const override { return config_; }
  std::shared_ptr<const Tokenizer> ReadTokenizer() const override {
    return TokenizerFromFolder(files_, config_.vocabulary);
  }

  CheckpointSummary Summary() const override {
    CheckpointSummary summary;
    summary.format = "safetensors";
    summary.bytes = tensors_.bytes();
    summary.tensors = tensors_.all().size();
    for (const auto& [name, found] : tensors_.all()) {
      uint64_t values = 1;
      for (const uint64_t size : found.tensor->shape) values *= size;
      summary.values_by_type[found.tensor->dtype] += values;
    }
    return summary;
  }

  bool Has(const std::string& tensor) const override { return parts_.contains(tensor); }

  void Read(const std::string& tensor, const std::vector<uint64_t>& shape,
            float* values) const override {
    const FolderTensor& part = Part(tensor);
    if (part.shape != shape) {
      throw Error(ErrorCode::kCorruption,
                  Where(tensor) + " gives the shape " + ShapeText(part.shape) + ", expected " +
                      ShapeText(shape),
                  kDownload);
    }
    const Tensors::Found& found = *tensors_.Find(part.source);
    const GgmlType type = TypeOf(found.tensor->dtype, Where(tensor));
    const uint64_t first = part.first_value * static_cast<uint64_t>(SizeOf(type).bytes);
    part.Convert(
        [&](float* out) { Dequantize(type, found.tensor->data + first, part.Values(), out); },
        values);
  }

  std::string Where(const std::string& tensor) const override {
    const std::string& source = Part(tensor).source;
    return tensors_.Find(source)->file->path() + ": tensor " + Quoted(source);
  }

 private:
  ModelConfig ReadConfig() const {
    ModelConfig config = ReadTransformersConfig(JsonFile(files_.config, kDownload));
    if (config.name.empty()) {
      std::error_code failed;
      config.name = fs::weakly_canonical(path_, failed).filename().string();
    }
    return config;
  }

  const FolderTensor& Part(const std::string& tensor) const {
    const auto found = parts_.find(tensor);
    if (found != parts_.end()) return found->second;
    throw Error(ErrorCode::kCorruption,
                tensors_.Place() + " has nothing that stands for tensor " + Quoted(tensor),
                kDownload);
  }

  void CheckTensor(const FolderTensor& part) const {
    const Tensors::Found* found = tensors_.Find(part.source);
    if (found == nullptr) {
      const bool output = part.name == "output.weight";
      throw Error(ErrorCode::kCorruption,
                  tensors_.Place() + (files_.index.empty() ? " lacks" : " does not name") +
                      " tensor " + Quoted(part.source) + ", which " + files_.config + " calls for",
                  output ? "download the folder's files again, or set 'tie_word_embeddings' in "
                           "config.json if the model has no output matrix of its own"
                         : kDownload);
    }
    const std::string where = found->file->path() + ": tensor " + Quoted(part.source);
    if (found->tensor->shape != part.source_shape) {
      throw Error(ErrorCode::kCorruption,
                  where + " has shape " + ShapeText(found->tensor->shape) + ", but " +
                      files_.config + " calls for " + ShapeText(part.source_shape),
                  "use the weights and the config.json of one model");
    }
    TypeOf(found->tensor->dtype, where);
  }

  // A tensor that nothing reads would have changed what the model computes: a bias, a norm of
  // queries, an adapter.
  void RefuseOthers() const {
    std::set<std::string> read;
    for (const auto& [name, part] : parts_) read.insert(part.source);
    for (const auto& [name, found] : tensors_.all()) {
      if (read.contains(name) || name.ends_with(".rotary_emb.inv_freq")) continue;
      if (name == kOutputMatrix && config_.tied_embeddings) {
        RequireTied(found);
        continue;
      }
      throw Error(ErrorCode::kUnsupported,
                  found.file->path() + " has tensor " + Quoted(name) + ", which the model of " +
                      files_.config + " has no place for here",
                  "use a model without it: docs/models.md lists what can be run");
    }
  }

  // Some writers store the output matrix although it is the embedding.
  void RequireTied(const Tensors::Found& output) const {
    const SafeTensor& embedding = *tensors_.Find(kEmbedding)->tensor;
    const SafeTensor& own = *output.tensor;
    if (own.dtype == embedding.dtype && own.bytes == embedding.bytes &&
        std::equal(own.data, own.data + own.bytes, embedding.data)) {
      return;
    }
    throw Error(ErrorCode::kCorruption,
                output.file->path() + ": tensor " + Quoted(kOutputMatrix) + " is not " +
                    Quoted(kEmbedding) + ", but " + files_.config + " says that they are tied",
                "set 'tie_word_embeddings' in config.json to false, or use another copy");
  }

  const std::string path_;
  const ModelFolderFiles files_;
  const ModelConfig config_;
  const Tensors tensors_;
  std::map<std::string, FolderTensor> parts_;
};

}  // namespace

std::vector<std::string> ModelFolderFiles::All() const {
  std::vector<std::string> all = weights;
  for (const std::string* file :
       {&config, &tokenizer, &index, &tokenizer_config, &generation_config, &chat_template}) {
    if (!file->empty()) all.push_back(*file);
  }
  std::sort(all.begin(), all.end());
  return all;
}

ModelFolderFiles ListModelFolder(const std::string& path) {
  ModelFolderFiles files;
  files.config = Required(path, "config.json");
  files.tokenizer = Required(path, "tokenizer.json");
  files.tokenizer_config = IfThere(InFolder(path, "tokenizer_config.json"));
  files.generation_config = IfThere(InFolder(path, "generation_config.json"));
  files.chat_template = IfThere(InFolder(path, "chat_template.jinja"));
  const std::string one = InFolder(path, kOneFile);
  if (Exists(one)) {
    files.weights = {one};
    return files;
  }
  files.index = InFolder(path, kIndex);
  if (!Exists(files.index)) {
    FailNotFound(
        path, ": there is neither " + std::string(kOneFile) + " nor " + kIndex + " in this folder");
  }
  ReadIndex(path, &files);
  return files;
}

std::shared_ptr<const Checkpoint> OpenModelFolder(const std::string& path) {
  return std::make_shared<FolderCheckpoint>(path);
}

}  // namespace eidetic::model
