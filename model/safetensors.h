// safetensors files: a checked reader over a memory map.
#ifndef EIDETIC_MODEL_SAFETENSORS_H_
#define EIDETIC_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace eidetic::model {

struct SafeTensor {
  std::string dtype;              // as in the file: "F32", "I8", "I32", ...
  std::vector<uint64_t> shape;    // slowest first
  const uint8_t* data = nullptr;  // little endian, no alignment promised; into the map
  uint64_t bytes = 0;
};

// Immutable and thread-safe; keeps the map open. Nothing in the file is trusted (rule 6): the
// header's length, its JSON, every dtype, shape and offset are checked, and tensors must fill the
// data exactly, without overlap or gap, as the format demands.
class SafetensorsFile {
 public:
  // Throws Error: kNotFound, kIo, kCorruption, kUnsupported (a dtype).
  static std::shared_ptr<const SafetensorsFile> Open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // of the file, bytes
  // The file's `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, SafeTensor>& tensors() const { return tensors_; }
  // Throws kCorruption when missing, or of another dtype or shape.
  const SafeTensor& Tensor(const std::string& name, const std::string& dtype,
                           const std::vector<uint64_t>& shape) const;

 private:
  friend class SafetensorsParser;
  SafetensorsFile() = default;
  std::string path_;
  const uint8_t* map_ = nullptr;
  uint64_t size_ = 0;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, SafeTensor> tensors_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SAFETENSORS_H_
