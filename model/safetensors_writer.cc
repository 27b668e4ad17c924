#include "model/safetensors_writer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/atomic_file.h"
#include "model/error.h"
#include "model/half.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

// What magnitudes must stay below.
float OverflowOf(const std::string& dtype) {
  if (dtype == "F32") return std::numeric_limits<float>::infinity();
  if (dtype == "F16") return kHalfOverflow;
  if (dtype == "BF16") return kBfloat16Overflow;
  throw Error(ErrorCode::kInvalidArgument,
              "tensors are written as F32, F16 or BF16, not as " + Quoted(dtype));
}

std::string Encoded(const std::string& dtype, const float* values, uint64_t count) {
  const size_t bytes = dtype == "F32" ? sizeof(float) : sizeof(uint16_t);
  if (dtype == "F32") return {reinterpret_cast<const char*>(values), count * bytes};
  std::string data(count * bytes, '\0');
  for (uint64_t i = 0; i < count; ++i) {
    const uint16_t bits = dtype == "F16" ? RoundToHalf(values[i]) : RoundToBfloat16(values[i]);
    data[2 * i] = static_cast<char>(bits & 0xff);
    data[2 * i + 1] = static_cast<char>(bits >> 8);
  }
  return data;
}

}  // namespace

void SafetensorsWriter::AddMetadata(const std::string& key, const std::string& value) {
  metadata_[key] = value;
}

void SafetensorsWriter::Add(const std::string& name, const std::string& dtype,
                            const std::vector<uint64_t>& shape, const float* values) {
  const float overflow = OverflowOf(dtype);
  if (name.empty() || name == "__metadata__" || tensors_.contains(name)) {
    throw Error(ErrorCode::kInvalidArgument,
                "a tensor cannot be named " + Quoted(name) +
                    (tensors_.contains(name) ? ": there is one of this name" : ""));
  }
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  for (uint64_t i = 0; i < count; ++i) {
    if (std::fabs(values[i]) < overflow) continue;
    throw Error(ErrorCode::kInvalidArgument,
                "tensor " + Quoted(name) + " holds " + std::to_string(values[i]) + " at " +
                    std::to_string(i) + ", which is no number of " + dtype,
                std::isfinite(values[i]) ? "write it as F32" : "");
  }
  tensors_[name] = {dtype, shape, Encoded(dtype, values, count)};
}

std::vector<const std::pair<const std::string, SafetensorsWriter::Tensor>*>
SafetensorsWriter::InOrder() const {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& entry : tensors_) order.push_back(&entry);
  std::stable_partition(order.begin(), order.end(),
                        [](const auto* entry) { return entry->second.dtype == "F32"; });
  return order;
}

std::string SafetensorsWriter::Header() const {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata_.empty()) header["__metadata__"] = metadata_;
  uint64_t end = 0;
  for (const auto* entry : InOrder()) {
    const Tensor& tensor = entry->second;
    const uint64_t begin = end;
    end += tensor.data.size();
    header[entry->first] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  constexpr size_t kAlignment = 8;
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

std::string SafetensorsWriter::Bytes() const {
  std::string bytes = Header();
  for (const auto* entry : InOrder()) bytes += entry->second.data;
  return bytes;
}

void SafetensorsWriter::Write(const std::string& path) const {
  const std::string header = Header();
  AtomicFile file(path);
  file.Write(header.data(), header.size());
  for (const auto* entry : InOrder()) {
    file.Write(entry->second.data.data(), entry->second.data.size());
  }
  file.Commit();
}

}  // namespace eidetic::model
