#include "model/gguf_writer.h"

namespace eidetic::model {
namespace {

// Types of values, as the format numbers them.
constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;

template <typename T>
void Append(std::string* bytes, T value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string* bytes, std::string_view text) {
  Append<uint64_t>(bytes, text.size());
  bytes->append(text);
}

template <typename T>
std::string Typed(uint32_t type, T value) {
  std::string bytes;
  Append(&bytes, type);
  Append(&bytes, value);
  return bytes;
}

}  // namespace

void GgufWriter::AddRaw(std::string_view key, std::string_view value) {
  AppendString(&metadata_, key);
  metadata_ += value;
  ++entries_;
}

void GgufWriter::AddUint32(std::string_view key, uint32_t value) {
  AddRaw(key, Typed(kUint32, value));
}

void GgufWriter::AddFloat32(std::string_view key, float value) {
  AddRaw(key, Typed(kFloat32, value));
}

void GgufWriter::AddBool(std::string_view key, bool value) {
  AddRaw(key, Typed<uint8_t>(kBool, value ? 1 : 0));
}

void GgufWriter::AddString(std::string_view key, std::string_view value) {
  std::string bytes;
  Append(&bytes, kString);
  AppendString(&bytes, value);
  AddRaw(key, bytes);
}

void GgufWriter::AddInt32Array(std::string_view key, const std::vector<int32_t>& values) {
  std::string bytes = Typed(kArray, kInt32);
  Append<uint64_t>(&bytes, values.size());
  for (const int32_t value : values) Append(&bytes, value);
  AddRaw(key, bytes);
}

void GgufWriter::AddStringArray(std::string_view key, const std::vector<std::string>& values) {
  std::string bytes = Typed(kArray, kString);
  Append<uint64_t>(&bytes, values.size());
  for (const std::string& value : values) AppendString(&bytes, value);
  AddRaw(key, bytes);
}

void GgufWriter::AddTensor(std::string_view name, const std::vector<uint64_t>& shape,
                           GgmlType type) {
  AppendString(&tensor_infos_, name);
  Append(&tensor_infos_, static_cast<uint32_t>(shape.size()));
  uint64_t values = 1;
  for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
    Append(&tensor_infos_, *size);
    values *= *size;
  }
  Append(&tensor_infos_, static_cast<uint32_t>(type));
  Append(&tensor_infos_, data_bytes_);
  const GgmlTypeSize size = SizeOf(type);
  const uint64_t bytes =
      values / static_cast<uint64_t>(size.values) * static_cast<uint64_t>(size.bytes);
  data_bytes_ += bytes + Padding(bytes);
  ++tensors_;
}

std::string GgufWriter::Header() const {
  std::string header = "GGUF";
  Append<uint32_t>(&header, 3);
  Append(&header, tensors_);
  Append(&header, entries_);
  header += metadata_;
  header += tensor_infos_;
  header.append(Padding(header.size()), '\0');
  return header;
}

}  // namespace eidetic::model
