// Lays out a GGUF v3 file: the header that stands before the tensors' data, and where each goes.
#ifndef EIDETIC_MODEL_GGUF_WRITER_H_
#define EIDETIC_MODEL_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf.h"

namespace eidetic::model {

// Collects metadata and tensors in the order of the calls; equal calls give equal bytes. The caller
// writes Header(), then every tensor's bytes in order, each followed by Padding() of it. Keys and
// names must differ from one another; what is written is read back by GgufFile in the tests.
class GgufWriter {
 public:
  static constexpr uint64_t kAlignment = 32;

  void AddUint32(std::string_view key, uint32_t value);
  void AddFloat32(std::string_view key, float value);
  void AddBool(std::string_view key, bool value);
  void AddString(std::string_view key, std::string_view value);
  void AddInt32Array(std::string_view key, const std::vector<int32_t>& values);
  void AddStringArray(std::string_view key, const std::vector<std::string>& values);
  // The bytes of a value, its type first: GgufFile::RawValue.
  void AddRaw(std::string_view key, std::string_view value);
  // `shape` as LibTorch counts, slowest first; the last one a multiple of the type's block.
  void AddTensor(std::string_view name, const std::vector<uint64_t>& shape, GgmlType type);

  // Ends where the data begins.
  std::string Header() const;
  uint64_t data_bytes() const { return data_bytes_; }  // of all tensors with their padding
  static uint64_t Padding(uint64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

 private:
  std::string metadata_, tensor_infos_;
  uint64_t entries_ = 0, tensors_ = 0;
  uint64_t data_bytes_ = 0;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_GGUF_WRITER_H_
