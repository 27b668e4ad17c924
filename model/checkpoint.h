// What a model is loaded from: a GGUF file, or a folder as `transformers` saves models.
//
// Whatever the format, tensors have GGUF's names, shapes and conventions here
// (docs/formats/gguf-hybrid.md), and the loader of weights knows no other.
#ifndef EIDETIC_MODEL_CHECKPOINT_H_
#define EIDETIC_MODEL_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace eidetic::model {

// What a checkpoint holds, in words and numbers of its own format: for `model info`.
struct CheckpointSummary {
  std::string format;  // "gguf", "safetensors"
  uint64_t bytes = 0;  // of the files with weights
  uint64_t tensors = 0;
  std::map<std::string, uint64_t> values_by_type;
  std::map<std::string, std::string> notes;  // licence and origin, by the file's keys
};

// Immutable and thread-safe; keeps its files mapped.
class Checkpoint {
 public:
  // A folder when `path` is a directory, else a GGUF file. Throws Error: kNotFound, kIo,
  // kCorruption, kUnsupported. A folder is checked as a whole: every tensor that its configuration
  // calls for is there, of the right shape and type, and no other.
  static std::shared_ptr<const Checkpoint> Open(const std::string& path);
  static std::shared_ptr<const Checkpoint> Of(std::shared_ptr<const GgufFile> file);
  // The files that Open reads, all that what is loaded depends on; ascending. Of a folder that can
  // be listed; otherwise throws as Open does.
  static std::vector<std::string> FilesOf(const std::string& path);

  virtual ~Checkpoint() = default;
  virtual const std::string& path() const = 0;
  virtual std::vector<std::string> files() const = 0;
  virtual ModelConfig Config() const = 0;
  virtual std::shared_ptr<const Tokenizer> ReadTokenizer() const = 0;
  virtual CheckpointSummary Summary() const = 0;

  virtual bool Has(const std::string& tensor) const = 0;
  // Values in fp32, on OpenMP's threads. Throws kCorruption when the tensor is missing or of
  // another shape.
  virtual void Read(const std::string& tensor, const std::vector<uint64_t>& shape,
                    float* values) const = 0;
  // The tensor of the base whose values these are, to the bit; empty when there is no base, or an
  // adapter changes them. Of a tensor that Has.
  virtual std::optional<std::string> SameAsInBase(const std::string& tensor) const {
    static_cast<void>(tensor);
    return std::nullopt;
  }
  // File and name of a tensor that Has, as the file has it, for errors.
  virtual std::string Where(const std::string& tensor) const = 0;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_CHECKPOINT_H_
