#include "model/json_file.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "model/mapped_file.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// The text with bare Infinity, -Infinity and NaN spelt as JSON.
std::string WithFiniteNumbers(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_string = false;
  for (size_t at = 0; at < text.size();) {
    if (!in_string) {
      std::string_view name;
      for (const std::string_view number : {"-Infinity", "Infinity", "NaN"}) {
        if (name.empty() && text.substr(at, number.size()) == number) name = number;
      }
      if (!name.empty()) {
        out += R"({"__float__":")" + std::string(name) + R"("})";
        at += name.size();
        continue;
      }
    }
    if (text[at] == '"') in_string = !in_string;
    if (in_string && text[at] == '\\' && at + 1 < text.size()) out += text[at++];
    out += text[at++];
  }
  return out;
}

}  // namespace

JsonFile::JsonFile(const std::string& path, std::string remedy)
    : path_(path), remedy_(std::move(remedy)) {
  const MappedFile file = MapFile(path);
  const std::string text =
      WithFiniteNumbers({reinterpret_cast<const char*>(file.data), static_cast<size_t>(file.size)});
  Unmap(file);
  root_ = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root_.is_discarded() || !root_.is_object()) {
    throw Error(ErrorCode::kCorruption, path + " is no JSON object", remedy_);
  }
}

void JsonFile::Fail(ErrorCode code, const std::string& key, const std::string& problem) const {
  throw Error(code, path_ + ": " + Quoted(key) + " " + problem,
              code == ErrorCode::kUnsupported ? "docs/models.md lists what can be run" : remedy_);
}

const json* JsonFile::Find(const char* key) const {
  const auto found = root_.find(key);
  return found == root_.end() || found->is_null() ? nullptr : &*found;
}

double JsonFile::Number(const char* key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_number()) {
    Fail(ErrorCode::kCorruption, key, "is missing or no number");
  }
  return value->get<double>();
}

double JsonFile::NumberOr(const char* key, double fallback) const {
  return Has(key) ? Number(key) : fallback;
}

int JsonFile::Size(const char* key) const {
  constexpr double kLargest = 1 << 24;
  const double value = Number(key);
  if (!(value >= 1 && value <= kLargest) || value != std::floor(value)) {
    Fail(ErrorCode::kCorruption, key, "is " + Find(key)->dump() + ", not a size");
  }
  return static_cast<int>(value);
}

int JsonFile::SizeOr(const char* key, int fallback) const {
  return Has(key) ? Size(key) : fallback;
}

float JsonFile::Scale(const char* key) const {
  const auto value = static_cast<float>(Number(key));
  if (!(value > 0) || !std::isfinite(value)) {
    Fail(ErrorCode::kCorruption, key, "is not a number above 0");
  }
  return value;
}

float JsonFile::ScaleOr(const char* key, double fallback) const {
  return Has(key) ? Scale(key) : static_cast<float>(fallback);
}

bool JsonFile::FlagOr(const char* key, bool fallback) const {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) Fail(ErrorCode::kCorruption, key, "is no boolean");
  return value->get<bool>();
}

std::string JsonFile::TextOr(const char* key, const std::string& fallback) const {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) Fail(ErrorCode::kCorruption, key, "is no text");
  return value->get<std::string>();
}

void JsonFile::RequireFlag(const char* key, bool required, bool fallback) const {
  if (FlagOr(key, fallback) != required) {
    Fail(ErrorCode::kUnsupported, key, required ? "is false" : "is true");
  }
}

}  // namespace eidetic::model
