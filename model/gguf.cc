#include "model/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "model/dequantize.h"
#include "model/error.h"
#include "model/mapped_file.h"
#include "model/text.h"

static_assert(std::endian::native == std::endian::little, "GGUF is read in place: little endian");

namespace eidetic::model {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// The fewest bytes a value takes in the file; 0 for an unknown type.
uint64_t LeastBytes(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kInt8:
    case ValueType::kBool:
      return 1;
    case ValueType::kUint16:
    case ValueType::kInt16:
      return 2;
    case ValueType::kUint32:
    case ValueType::kInt32:
    case ValueType::kFloat32:
      return 4;
    case ValueType::kString:  // its length
    case ValueType::kUint64:
    case ValueType::kInt64:
    case ValueType::kFloat64:
      return 8;
    case ValueType::kArray:  // type and count
      return 12;
  }
  return 0;
}

struct TypeRow {
  GgmlType type;
  const char* name;
  GgmlTypeSize size;
};
constexpr TypeRow kTypes[] = {
    {GgmlType::kF32, "F32", {1, 4}},       {GgmlType::kF16, "F16", {1, 2}},
    {GgmlType::kBF16, "BF16", {1, 2}},     {GgmlType::kQ4_0, "Q4_0", {32, 18}},
    {GgmlType::kQ4_1, "Q4_1", {32, 20}},   {GgmlType::kQ5_0, "Q5_0", {32, 22}},
    {GgmlType::kQ5_1, "Q5_1", {32, 24}},   {GgmlType::kQ8_0, "Q8_0", {32, 34}},
    {GgmlType::kQ4_K, "Q4_K", {256, 144}}, {GgmlType::kQ5_K, "Q5_K", {256, 176}},
    {GgmlType::kQ6_K, "Q6_K", {256, 210}}, {GgmlType::kIQ4_NL, "IQ4_NL", {32, 18}},
};

const TypeRow* FindType(GgmlType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

std::string KnownTypes() {
  std::string names;
  for (const TypeRow& row : kTypes) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

}  // namespace

const char* GgmlTypeName(GgmlType type) {
  const TypeRow* row = FindType(type);
  return row == nullptr ? "unknown" : row->name;
}

GgmlTypeSize SizeOf(GgmlType type) {
  const TypeRow* row = FindType(type);
  if (row == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                "tensor type " + std::to_string(static_cast<uint32_t>(type)) + " is none of " +
                    KnownTypes(),
                "use a file in one of these types");
  }
  return row->size;
}

uint64_t GgufTensor::Values() const {
  uint64_t values = 1;
  for (const uint64_t size : shape) values *= size;
  return values;
}

// Walks the file once from the front. Every read is checked against what is left of it.
class GgufParser {
 public:
  explicit GgufParser(GgufFile* file) : file_(*file), data_(file->map_), size_(file->size_) {}

  void Parse() {
    ReadHeader();
    for (uint64_t i = 0; i < entries_; ++i) ReadEntry();
    ReadAlignment();
    file_.tensors_.reserve(tensors_);
    for (uint64_t i = 0; i < tensors_; ++i) ReadTensorInfo();
    PlaceTensors();
  }

 private:
  [[noreturn]] void Fail(uint64_t offset, const std::string& message,
                         ErrorCode code = ErrorCode::kCorruption) const {
    throw Error(code, file_.path_ + ": " + message + ", at byte " + std::to_string(offset),
                code == ErrorCode::kUnsupported ? "use a GGUF v3 file in a supported form"
                                                : "the file is damaged: download or make it again");
  }

  uint64_t Left() const { return size_ - position_; }

  const uint8_t* Take(uint64_t bytes, const std::string& what) {
    if (bytes > Left()) {
      Fail(position_, what + " needs " + std::to_string(bytes) + " bytes, but the file has " +
                          std::to_string(Left()) + " left");
    }
    const uint8_t* data = data_ + position_;
    position_ += bytes;
    return data;
  }

  template <typename T>
  T Read(const std::string& what) {
    T value;
    std::memcpy(&value, Take(sizeof(T), what), sizeof(T));
    return value;
  }

  std::string_view ReadString(const std::string& what) {
    const auto length = Read<uint64_t>(what + "'s length");
    return {reinterpret_cast<const char*>(Take(length, what)), static_cast<size_t>(length)};
  }

  void ReadHeader() {
    if (std::memcmp(Take(4, "the magic number"), "GGUF", 4) != 0) {
      Fail(0, "does not begin with GGUF: not a GGUF file");
    }
    const auto version = Read<uint32_t>("the version");
    if (version != kVersion) {
      if (version == __builtin_bswap32(kVersion)) {
        Fail(4, "is a big-endian GGUF file; only little-endian ones can be read",
             ErrorCode::kUnsupported);
      }
      Fail(4, "is GGUF version " + std::to_string(version) + "; only version 3 can be read",
           ErrorCode::kUnsupported);
    }
    // A tensor takes at least 33 bytes (length and one byte of name, dimensions, one size, type,
    // offset), an entry 14 (length and one byte of key, type, one byte of value).
    tensors_ = ReadCount("tensor", 33);
    entries_ = ReadCount("metadata", 14);
  }

  uint64_t ReadCount(const char* what, uint64_t least_bytes) {
    const uint64_t at = position_;
    const auto count = Read<uint64_t>(std::string("the ") + what + " count");
    if (count > Left() / least_bytes) {
      Fail(at, std::string("the ") + what + " count " + std::to_string(count) +
                   " is more than the file can hold");
    }
    return count;
  }

  void ReadEntry() {
    const uint64_t at = position_;
    const std::string key(ReadString("a metadata key"));
    if (key.empty()) Fail(at, "a metadata key is empty");
    const std::string name = "metadata " + Quoted(key);
    const uint64_t value_at = position_;
    const ValueType type = ReadValueType(name);
    GgufValue value = type == ValueType::kArray ? ReadArray(name) : ReadScalar(type, name);
    if (!file_.metadata_.emplace(key, std::move(value)).second) Fail(at, name + " appears twice");
    file_.raw_values_.emplace(key, std::string_view(reinterpret_cast<const char*>(data_) + value_at,
                                                    position_ - value_at));
  }

  ValueType ReadValueType(const std::string& name) {
    const uint64_t at = position_;
    const auto type = static_cast<ValueType>(Read<uint32_t>(name + "'s type"));
    if (LeastBytes(type) == 0) {
      Fail(at, name + " has the unknown type " + std::to_string(static_cast<uint32_t>(type)));
    }
    return type;
  }

  uint8_t ReadBool(const std::string& name) {
    const uint64_t at = position_;
    const auto value = Read<uint8_t>(name);
    if (value > 1) Fail(at, name + " is a bool of value " + std::to_string(value));
    return value;
  }

  GgufValue ReadScalar(ValueType type, const std::string& name) {
    switch (type) {
      case ValueType::kUint8:
        return static_cast<uint64_t>(Read<uint8_t>(name));
      case ValueType::kInt8:
        return static_cast<int64_t>(Read<int8_t>(name));
      case ValueType::kUint16:
        return static_cast<uint64_t>(Read<uint16_t>(name));
      case ValueType::kInt16:
        return static_cast<int64_t>(Read<int16_t>(name));
      case ValueType::kUint32:
        return static_cast<uint64_t>(Read<uint32_t>(name));
      case ValueType::kInt32:
        return static_cast<int64_t>(Read<int32_t>(name));
      case ValueType::kUint64:
        return Read<uint64_t>(name);
      case ValueType::kInt64:
        return Read<int64_t>(name);
      case ValueType::kFloat32:
        return static_cast<double>(Read<float>(name));
      case ValueType::kFloat64:
        return Read<double>(name);
      case ValueType::kBool:
        return ReadBool(name) != 0;
      default:  // kString: arrays go elsewhere, unknown types were refused
        return std::string(ReadString(name));
    }
  }

  template <typename File, typename Wide>
  std::vector<Wide> ReadNumbers(uint64_t count, const std::string& name) {
    std::vector<Wide> values(count);
    const uint8_t* data = Take(count * sizeof(File), name);  // count was checked: no overflow
    for (uint64_t i = 0; i < count; ++i) {
      File value;
      std::memcpy(&value, data + i * sizeof(File), sizeof(File));
      values[i] = static_cast<Wide>(value);
    }
    return values;
  }

  GgufValue ReadArray(const std::string& name) {
    const uint64_t at = position_;
    const ValueType type = ReadValueType(name + "'s elements");
    if (type == ValueType::kArray)
      Fail(at, name + " is an array of arrays", ErrorCode::kUnsupported);
    const uint64_t count_at = position_;
    const auto count = Read<uint64_t>(name + "'s count");
    if (count > Left() / LeastBytes(type)) {
      Fail(count_at,
           name + " claims " + std::to_string(count) + " elements, more than the file holds");
    }
    switch (type) {
      case ValueType::kUint8:
        return ReadNumbers<uint8_t, uint64_t>(count, name);
      case ValueType::kInt8:
        return ReadNumbers<int8_t, int64_t>(count, name);
      case ValueType::kUint16:
        return ReadNumbers<uint16_t, uint64_t>(count, name);
      case ValueType::kInt16:
        return ReadNumbers<int16_t, int64_t>(count, name);
      case ValueType::kUint32:
        return ReadNumbers<uint32_t, uint64_t>(count, name);
      case ValueType::kInt32:
        return ReadNumbers<int32_t, int64_t>(count, name);
      case ValueType::kUint64:
        return ReadNumbers<uint64_t, uint64_t>(count, name);
      case ValueType::kInt64:
        return ReadNumbers<int64_t, int64_t>(count, name);
      case ValueType::kFloat32:
        return ReadNumbers<float, double>(count, name);
      case ValueType::kFloat64:
        return ReadNumbers<double, double>(count, name);
      case ValueType::kBool: {
        std::vector<bool> values(count);
        for (uint64_t i = 0; i < count; ++i) values[i] = ReadBool(name) != 0;
        return values;
      }
      default: {  // kString
        std::vector<std::string_view> values(count);
        for (std::string_view& value : values) value = ReadString(name);
        return values;
      }
    }
  }

  void ReadAlignment() {
    alignment_ = kDefaultAlignment;
    const auto found = file_.metadata_.find("general.alignment");
    if (found == file_.metadata_.end()) return;
    const auto* value = std::get_if<uint64_t>(&found->second);
    if (value == nullptr || !std::has_single_bit(*value)) {
      Fail(position_, "general.alignment is not a power of two");
    }
    alignment_ = *value;
  }

  void ReadTensorInfo() {
    const uint64_t at = position_;
    GgufTensor tensor;
    tensor.name = ReadString("a tensor's name");
    if (tensor.name.empty()) Fail(at, "a tensor's name is empty");
    const std::string name = "tensor " + Quoted(tensor.name);
    if (!file_.by_name_.emplace(tensor.name, file_.tensors_.size()).second) {
      Fail(at, name + " appears twice");
    }
    ReadShape(name, &tensor);
    const uint64_t type_at = position_;
    tensor.type = static_cast<GgmlType>(Read<uint32_t>(name + "'s type"));
    if (FindType(tensor.type) == nullptr) {
      Fail(type_at,
           name + " has type " + std::to_string(static_cast<uint32_t>(tensor.type)) +
               ", which is none of " + KnownTypes(),
           ErrorCode::kUnsupported);
    }
    const GgmlTypeSize size = SizeOf(tensor.type);
    if (tensor.shape.back() % static_cast<uint64_t>(size.values) != 0) {
      Fail(type_at, name + " has rows of " + std::to_string(tensor.shape.back()) +
                        " values, not a multiple of its type's block of " +
                        std::to_string(size.values));
    }
    if (__builtin_mul_overflow(tensor.Values() / static_cast<uint64_t>(size.values),
                               static_cast<uint64_t>(size.bytes), &tensor.bytes)) {
      Fail(at, name + " has more bytes than can be addressed");
    }
    const uint64_t offset_at = position_;
    tensor.file_offset = Read<uint64_t>(name + "'s offset");  // made absolute by PlaceTensors
    if (tensor.file_offset % alignment_ != 0) {
      Fail(offset_at, name + "'s offset " + std::to_string(tensor.file_offset) +
                          " is not a multiple of the alignment " + std::to_string(alignment_));
    }
    file_.tensors_.push_back(std::move(tensor));
  }

  void ReadShape(const std::string& name, GgufTensor* tensor) {
    const uint64_t at = position_;
    const auto dimensions = Read<uint32_t>(name + "'s number of dimensions");
    if (dimensions < 1 || dimensions > kMaxDimensions) {
      Fail(at, name + " has " + std::to_string(dimensions) + " dimensions, not 1 to 4");
    }
    tensor->shape.resize(dimensions);
    uint64_t values = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      const uint64_t size_at = position_;
      const auto size = Read<uint64_t>(name + "'s shape");
      if (size == 0) Fail(size_at, name + " has a dimension of size 0");
      if (__builtin_mul_overflow(values, size, &values)) {
        Fail(size_at, name + " has more values than can be counted");
      }
      tensor->shape[dimensions - 1 - i] = size;
    }
  }

  // The data begins at the next multiple of the alignment; every tensor lies in the file, and no
  // two share a byte.
  void PlaceTensors() {
    if (file_.tensors_.empty()) return;
    const uint64_t begin = (position_ + alignment_ - 1) & ~(alignment_ - 1);
    for (GgufTensor& tensor : file_.tensors_) {
      const std::string name = "tensor " + Quoted(tensor.name);
      if (begin > size_ || tensor.file_offset > size_ - begin ||
          tensor.bytes > size_ - begin - tensor.file_offset) {
        Fail(size_, name + " (" + std::to_string(tensor.bytes) + " bytes at data offset " +
                        std::to_string(tensor.file_offset) + ", data from byte " +
                        std::to_string(begin) + ") does not end within the file");
      }
      tensor.file_offset += begin;
    }
    std::vector<const GgufTensor*> ordered;
    for (const GgufTensor& tensor : file_.tensors_) ordered.push_back(&tensor);
    std::sort(ordered.begin(), ordered.end(), [](const GgufTensor* a, const GgufTensor* b) {
      return a->file_offset < b->file_offset;
    });
    for (size_t i = 1; i < ordered.size(); ++i) {
      if (ordered[i - 1]->file_offset + ordered[i - 1]->bytes > ordered[i]->file_offset) {
        Fail(ordered[i]->file_offset, "tensors " + Quoted(ordered[i - 1]->name) + " and " +
                                          Quoted(ordered[i]->name) + " overlap");
      }
    }
  }

  GgufFile& file_;
  const uint8_t* data_;
  uint64_t size_;
  uint64_t position_ = 0;
  uint64_t tensors_ = 0, entries_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
};

std::shared_ptr<const GgufFile> GgufFile::Open(const std::string& path) {
  std::shared_ptr<GgufFile> file(new GgufFile);
  const MappedFile map = MapFile(path);
  file->path_ = path;
  file->map_ = map.data;
  file->size_ = map.size;
  GgufParser(file.get()).Parse();
  return file;
}

GgufFile::~GgufFile() {
  Unmap({map_, size_});
}

const GgufValue* GgufFile::Find(const std::string& key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

std::string_view GgufFile::RawValue(const std::string& key) const {
  const auto found = raw_values_.find(key);
  return found == raw_values_.end() ? std::string_view() : found->second;
}

namespace {

[[noreturn]] void FailKey(const GgufFile& file, const std::string& key, const char* problem) {
  throw Error(ErrorCode::kCorruption, file.path() + ": metadata " + Quoted(key) + " " + problem,
              "use a file that a converter for this architecture made");
}

}  // namespace

uint64_t GgufFile::Unsigned(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) FailKey(*this, key, "is missing");
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  const auto* number = std::get_if<int64_t>(value);
  if (number == nullptr || *number < 0) FailKey(*this, key, "is not an unsigned number");
  return static_cast<uint64_t>(*number);
}

double GgufFile::Float(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) FailKey(*this, key, "is missing");
  const auto* number = std::get_if<double>(value);
  if (number == nullptr) FailKey(*this, key, "is not a floating-point number");
  return *number;
}

const std::string& GgufFile::String(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) FailKey(*this, key, "is missing");
  const auto* text = std::get_if<std::string>(value);
  if (text == nullptr) FailKey(*this, key, "is not a string");
  return *text;
}

uint64_t GgufFile::UnsignedOr(const std::string& key, uint64_t fallback) const {
  return Find(key) == nullptr ? fallback : Unsigned(key);
}

double GgufFile::FloatOr(const std::string& key, double fallback) const {
  return Find(key) == nullptr ? fallback : Float(key);
}

bool GgufFile::BoolOr(const std::string& key, bool fallback) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return fallback;
  const auto* flag = std::get_if<bool>(value);
  if (flag == nullptr) FailKey(*this, key, "is not a bool");
  return *flag;
}

const GgufTensor* GgufFile::FindTensor(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const GgufTensor& GgufFile::Tensor(const std::string& name,
                                   const std::vector<uint64_t>& shape) const {
  const GgufTensor* tensor = FindTensor(name);
  if (tensor == nullptr) {
    throw Error(ErrorCode::kCorruption, path_ + ": tensor " + Quoted(name) + " is missing",
                "use a file that a converter for this architecture made");
  }
  if (tensor->shape != shape) {
    throw Error(ErrorCode::kCorruption,
                path_ + ": tensor " + Quoted(name) + " has shape " + ShapeText(tensor->shape) +
                    ", expected " + ShapeText(shape),
                "use a file that a converter for this architecture made");
  }
  return *tensor;
}

void GgufFile::ReadTensor(const GgufTensor& tensor, float* values) const {
  const auto block = static_cast<uint64_t>(SizeOf(tensor.type).values);
  Dequantize(tensor.type, TensorData(tensor), tensor.Values() / block, values);
}

}  // namespace eidetic::model
