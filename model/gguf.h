// GGUF v3 files: a checked reader over a memory map. gguf_writer.h writes them.
//
// Nothing in the file is trusted (rule 6): every length, count, offset, type and alignment is
// checked against the file's size before use, and the Error names the key or tensor and the byte
// offset. What is checked is listed in docs/formats/gguf-hybrid.md.
#ifndef EIDETIC_MODEL_GGUF_H_
#define EIDETIC_MODEL_GGUF_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace eidetic::model {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
};
const char* GgmlTypeName(GgmlType type);
// Values per block and bytes per block; throws kUnsupported for a type not listed above.
struct GgmlTypeSize {
  int values;
  int bytes;
};
GgmlTypeSize SizeOf(GgmlType type);

// Arrays of strings are views into the map; numeric arrays are widened.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<double>, std::vector<bool>,
                               std::vector<std::string_view>>;

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> shape;  // as LibTorch counts: slowest first (the file's order reversed)
  GgmlType type = GgmlType::kF32;
  uint64_t file_offset = 0;  // from the start of the file
  uint64_t bytes = 0;
  uint64_t Values() const;
};

// Immutable and thread-safe; keeps the map open. The file must not be shortened meanwhile: reading
// a page that is gone ends the process (SIGBUS), as with every memory map.
class GgufFile {
 public:
  // Throws Error: kNotFound, kIo, kCorruption, kUnsupported (another version, a tensor type).
  static std::shared_ptr<const GgufFile> Open(const std::string& path);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  const uint8_t* data() const { return map_; }

  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  // Typed look-ups: throw kCorruption naming the key when it is missing or of another kind.
  uint64_t Unsigned(const std::string& key) const;
  double Float(const std::string& key) const;
  const std::string& String(const std::string& key) const;
  const GgufValue* Find(const std::string& key) const;  // null when missing
  uint64_t UnsignedOr(const std::string& key, uint64_t fallback) const;
  double FloatOr(const std::string& key, double fallback) const;
  bool BoolOr(const std::string& key, bool fallback) const;
  // The value as the file has it, its type (4 bytes) first: for a writer that copies it. Empty when
  // the key is missing.
  std::string_view RawValue(const std::string& key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* FindTensor(const std::string& name) const;  // null when missing
  // Throws kCorruption when missing or of another shape.
  const GgufTensor& Tensor(const std::string& name, const std::vector<uint64_t>& shape) const;
  const uint8_t* TensorData(const GgufTensor& tensor) const { return map_ + tensor.file_offset; }
  // Dequantised to fp32 [Values()], on OpenMP's threads.
  void ReadTensor(const GgufTensor& tensor, float* values) const;

 private:
  friend class GgufParser;
  GgufFile() = default;
  std::string path_;
  const uint8_t* map_ = nullptr;
  uint64_t size_ = 0;
  std::map<std::string, GgufValue> metadata_;
  std::map<std::string, std::string_view> raw_values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t> by_name_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_GGUF_H_
