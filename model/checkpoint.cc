#include "model/checkpoint.h"

#include <filesystem>
#include <utility>
#include <variant>

#include "model/model_folder.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {}

  const std::string& path() const override { return file_->path(); }
  std::vector<std::string> files() const override { return {file_->path()}; }
  ModelConfig Config() const override { return ReadModelConfig(*file_); }
  std::shared_ptr<const Tokenizer> ReadTokenizer() const override {
    return Tokenizer::FromGguf(*file_);
  }

  CheckpointSummary Summary() const override {
    CheckpointSummary summary;
    summary.format = "gguf";
    summary.bytes = file_->size();
    summary.tensors = file_->tensors().size();
    for (const GgufTensor& tensor : file_->tensors()) {
      summary.values_by_type[GgmlTypeName(tensor.type)] += tensor.Values();
    }
    for (const char* key : {"general.license", "eidetic.base.sha256"}) {
      const GgufValue* value = file_->Find(key);
      const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
      if (text != nullptr) summary.notes[key] = *text;
    }
    return summary;
  }

  bool Has(const std::string& tensor) const override {
    return file_->FindTensor(tensor) != nullptr;
  }
  void Read(const std::string& tensor, const std::vector<uint64_t>& shape,
            float* values) const override {
    file_->ReadTensor(file_->Tensor(tensor, shape), values);
  }
  std::string Where(const std::string& tensor) const override {
    return file_->path() + ": tensor " + Quoted(tensor);
  }

 private:
  std::shared_ptr<const GgufFile> file_;
};

bool IsFolder(const std::string& path) {
  std::error_code failed;
  return std::filesystem::is_directory(path, failed);
}

}  // namespace

std::shared_ptr<const Checkpoint> Checkpoint::Open(const std::string& path) {
  if (IsFolder(path)) return OpenModelFolder(path);
  return Of(GgufFile::Open(path));
}

std::shared_ptr<const Checkpoint> Checkpoint::Of(std::shared_ptr<const GgufFile> file) {
  return std::make_shared<GgufCheckpoint>(std::move(file));
}

std::vector<std::string> Checkpoint::FilesOf(const std::string& path) {
  if (!IsFolder(path)) return {path};
  return ListModelFolder(path).All();
}

}  // namespace eidetic::model
