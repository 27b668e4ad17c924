// Writes a safetensors file of numbers.
#ifndef EIDETIC_MODEL_SAFETENSORS_WRITER_H_
#define EIDETIC_MODEL_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace eidetic::model {

// Collects tensors and writes them in the order and with the alignment that the format's own
// library has: wide types first, names ascending, the data at a multiple of 8 bytes. Equal contents
// give equal bytes, whatever the order of the calls. Not thread-safe.
class SafetensorsWriter {
 public:
  void AddMetadata(const std::string& key, const std::string& value);
  // `values`: fp32, as many as `shape` has, slowest first; kept rounded to `dtype`, "F32", "F16" or
  // "BF16" (to the nearest even). Throws kInvalidArgument for another dtype, a name that was added
  // before or is none, and for values that are not finite or too large for the dtype.
  void Add(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape,
           const float* values);

  std::string Bytes() const;
  // Puts the file in place of what was at the path, whole or not at all (atomic_file.h). Throws
  // Error: kNotFound, kIo, kNoSpace.
  void Write(const std::string& path) const;

 private:
  struct Tensor {
    std::string dtype;
    std::vector<uint64_t> shape;
    std::string data;
  };
  std::string Header() const;
  std::vector<const std::pair<const std::string, Tensor>*> InOrder() const;

  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SAFETENSORS_WRITER_H_
