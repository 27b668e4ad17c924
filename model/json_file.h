// A JSON object in a file of a model, and checked look-ups in it.
#ifndef EIDETIC_MODEL_JSON_FILE_H_
#define EIDETIC_MODEL_JSON_FILE_H_

#include <nlohmann/json.hpp>
#include <string>

#include "model/error.h"

namespace eidetic::model {

// What to do about a damaged file of a model's folder.
inline constexpr char kDownload[] = "download the folder's files again";

// Nothing in the file is trusted (rule 6). Numbers that are no JSON (Infinity, -Infinity, NaN),
// which Python writes, become {"__float__": "Infinity"}, as newer versions of `transformers` spell
// them.
class JsonFile {
 public:
  // Throws Error: kNotFound, kIo, kCorruption. `remedy`: what to do when the content is wrong.
  JsonFile(const std::string& path, std::string remedy);

  const std::string& path() const { return path_; }
  const nlohmann::json& root() const { return root_; }
  // Throws an Error that names file and key.
  [[noreturn]] void Fail(ErrorCode code, const std::string& key, const std::string& problem) const;

  // Null when the key is missing or its value is null.
  const nlohmann::json* Find(const char* key) const;
  bool Has(const char* key) const { return Find(key) != nullptr; }

  // Those without a fallback throw kCorruption when the key is missing, the others when its value
  // is of another kind.
  double Number(const char* key) const;
  double NumberOr(const char* key, double fallback) const;
  int Size(const char* key) const;  // a whole number, 1 to 2^24
  int SizeOr(const char* key, int fallback) const;
  float Scale(const char* key) const;  // finite, above 0
  float ScaleOr(const char* key, double fallback) const;
  bool FlagOr(const char* key, bool fallback) const;
  std::string TextOr(const char* key, const std::string& fallback) const;

  // Throws kUnsupported when the flag, or the fallback for want of one, is another.
  void RequireFlag(const char* key, bool required, bool fallback) const;

 private:
  std::string path_, remedy_;
  nlohmann::json root_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_JSON_FILE_H_
