#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "model/error.h"
#include "model/mapped_file.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr size_t kMostDimensions = 8;

// Bytes of one value; 0 for an unknown dtype.
uint64_t DtypeBytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL") return 1;
  return 0;
}

std::string Described(const std::string& dtype, const std::vector<uint64_t>& shape) {
  std::string text = dtype + " [";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

class SafetensorsParser {
 public:
  explicit SafetensorsParser(SafetensorsFile* file) : file_(*file) {}

  void Parse() {
    if (file_.size_ < kLengthBytes) Fail("is shorter than the length of its header");
    uint64_t length;
    std::memcpy(&length, file_.map_, kLengthBytes);
    if (length > kLongestHeader || length > file_.size_ - kLengthBytes) {
      Fail("claims a header of " + std::to_string(length) + " bytes, but has " +
           std::to_string(file_.size_) + " in all");
    }
    data_ = file_.map_ + kLengthBytes + length;
    data_bytes_ = file_.size_ - kLengthBytes - length;
    const nlohmann::json header = ParseJson(length);
    if (!header.is_object()) Fail("has a header that is no JSON object");
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        ReadMetadata(value);
      } else {
        ReadTensor(name, value);
      }
    }
    CheckCoverage();
  }

 private:
  [[noreturn]] void Fail(const std::string& message,
                         ErrorCode code = ErrorCode::kCorruption) const {
    throw Error(code, file_.path_ + " " + message,
                code == ErrorCode::kCorruption ? "the file is damaged: download it again"
                                               : "convert the file");
  }

  nlohmann::json ParseJson(uint64_t length) const {
    const auto* begin = reinterpret_cast<const char*>(file_.map_) + kLengthBytes;
    // The parser would keep the last of two equal keys.
    std::set<std::string> names;
    const auto callback = [&](int depth, nlohmann::json::parse_event_t event,
                              nlohmann::json& value) {
      if (depth == 1 && event == nlohmann::json::parse_event_t::key &&
          !names.insert(value.get<std::string>()).second) {
        Fail("names " + Quoted(value.get<std::string>()) + " twice");
      }
      return true;
    };
    try {
      return nlohmann::json::parse(begin, begin + length, callback);
    } catch (const nlohmann::json::parse_error& error) {
      Fail("has a header that is no JSON: " + std::string(error.what()));
    }
  }

  void ReadMetadata(const nlohmann::json& value) {
    if (!value.is_object()) Fail("has metadata that is no JSON object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) Fail("has metadata " + Quoted(key) + " that is no string");
      file_.metadata_[key] = text.get<std::string>();
    }
  }

  // An array of unsigned numbers; fails for anything else.
  std::vector<uint64_t> Numbers(const nlohmann::json& value, const char* key,
                                const std::string& where) const {
    const auto found = value.find(key);
    std::vector<uint64_t> numbers;
    if (found == value.end() || !found->is_array()) Fail(where + "no " + key);
    for (const nlohmann::json& number : *found) {
      if (!number.is_number_unsigned()) Fail(where + "a bad number in its " + key);
      numbers.push_back(number.get<uint64_t>());
    }
    return numbers;
  }

  void ReadTensor(const std::string& name, const nlohmann::json& value) {
    const std::string where = "has tensor " + Quoted(name) + " with ";
    if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string()) {
      Fail(where + "no dtype");
    }
    SafeTensor tensor;
    tensor.dtype = value["dtype"].get<std::string>();
    const uint64_t value_bytes = DtypeBytes(tensor.dtype);
    if (value_bytes == 0) {
      Fail(where + "the dtype " + Quoted(tensor.dtype) + ", which is not supported",
           ErrorCode::kUnsupported);
    }
    tensor.shape = Numbers(value, "shape", where);
    if (tensor.shape.size() > kMostDimensions) Fail(where + "too many dimensions");
    uint64_t bytes = value_bytes;
    for (const uint64_t size : tensor.shape) {
      if (__builtin_mul_overflow(bytes, size, &bytes)) Fail(where + "too many values");
    }
    const std::vector<uint64_t> offsets = Numbers(value, "data_offsets", where);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes_) {
      Fail(where + "data_offsets that are no range within the " + std::to_string(data_bytes_) +
           " bytes of data");
    }
    if (offsets[1] - offsets[0] != bytes) {
      Fail(where + std::to_string(offsets[1] - offsets[0]) + " bytes, not the " +
           std::to_string(bytes) + " of " + Described(tensor.dtype, tensor.shape));
    }
    tensor.data = data_ + offsets[0];
    tensor.bytes = bytes;
    file_.tensors_.emplace(name, std::move(tensor));
  }

  void CheckCoverage() const {
    std::vector<std::pair<const uint8_t*, const std::string*>> begins;
    for (const auto& [name, tensor] : file_.tensors_) {
      if (tensor.bytes != 0) begins.emplace_back(tensor.data, &name);
    }
    std::sort(begins.begin(), begins.end());
    const uint8_t* end = data_;
    for (const auto& [begin, name] : begins) {
      if (begin != end) {
        Fail("has " + std::string(begin < end ? "an overlap" : "a gap") + " before tensor " +
             Quoted(*name));
      }
      end = begin + file_.tensors_.at(*name).bytes;
    }
    if (end != data_ + data_bytes_) Fail("has bytes behind its last tensor");
  }

  SafetensorsFile& file_;
  const uint8_t* data_ = nullptr;
  uint64_t data_bytes_ = 0;
};

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  const MappedFile map = MapFile(path);
  file->path_ = path;
  file->map_ = map.data;
  file->size_ = map.size;
  SafetensorsParser(file.get()).Parse();
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  Unmap({map_, size_});
}

const SafeTensor& SafetensorsFile::Tensor(const std::string& name, const std::string& dtype,
                                          const std::vector<uint64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw Error(ErrorCode::kCorruption, path_ + " lacks tensor " + Quoted(name),
                "use the file that belongs to this configuration");
  }
  const SafeTensor& tensor = found->second;
  if (tensor.dtype != dtype || tensor.shape != shape) {
    throw Error(ErrorCode::kCorruption,
                path_ + " has tensor " + Quoted(name) + " as " +
                    Described(tensor.dtype, tensor.shape) + ", expected " + Described(dtype, shape),
                "use the file that belongs to this configuration");
  }
  return tensor;
}

}  // namespace eidetic::model
