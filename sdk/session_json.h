// Fields of a session's records in CBOR: arrays of numbers as the machine holds them, and options.
// The readers throw, as nlohmann does, when a field is missing or not possible.
#ifndef EIDETIC_SDK_SESSION_JSON_H_
#define EIDETIC_SDK_SESSION_JSON_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "sdk/session.h"

namespace eidetic::sdk {

static_assert(std::endian::native == std::endian::little);

template <typename T>
nlohmann::json BinaryJson(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return nlohmann::json::binary(std::move(bytes));
}

inline nlohmann::json BinaryJson(const std::string& bytes) {
  return nlohmann::json::binary(std::vector<uint8_t>(bytes.begin(), bytes.end()));
}

template <typename T>
std::vector<T> NumbersOf(const nlohmann::json& record, const char* field) {
  const std::vector<uint8_t>& bytes = record.at(field).get_binary();
  if (bytes.size() % sizeof(T) != 0) throw std::length_error(field);
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

inline std::string BytesOf(const nlohmann::json& record, const char* field) {
  const std::vector<uint8_t>& bytes = record.at(field).get_binary();
  return std::string(bytes.begin(), bytes.end());
}

nlohmann::json OptionsToJson(const SessionOptions& options);
SessionOptions OptionsFromJson(const nlohmann::json& from, const std::string& name);
nlohmann::json PinsToJson(const std::vector<SavedPin>& pins);
std::vector<SavedPin> PinsFromJson(const nlohmann::json& list);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_SESSION_JSON_H_
