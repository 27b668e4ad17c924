// Regular expressions that choose modules by their paths, as PEFT holds them against these.
#ifndef EIDETIC_MODEL_MODULE_PATTERNS_H_
#define EIDETIC_MODEL_MODULE_PATTERNS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "model/error.h"

namespace eidetic::model {

enum class PatternExtent : uint8_t {
  kWholePath,  // re.fullmatch(pattern, path): "target_modules"
  kEndOfPath,  // fits all of a path, or what stands behind one of its dots: "rank_pattern"
};

// Expressions of a file or of options, compiled. Those of Python and PCRE2 agree in what
// PatternProblem lets through. Immutable but for Add; Fits is thread-safe.
class ModulePatterns {
 public:
  // What is thrown for an expression that is none: `code`, with `where` before and `remedy`.
  ModulePatterns(ErrorCode code, std::string where, std::string remedy);
  ~ModulePatterns();
  ModulePatterns(const ModulePatterns&) = delete;
  ModulePatterns& operator=(const ModulePatterns&) = delete;

  void Add(const std::string& pattern, PatternExtent extent);
  // Of an expression that was added. Throws kUnsupported when that takes too many steps.
  bool Fits(const std::string& pattern, PatternExtent extent, const std::string& module) const;

 private:
  class Code;

  const ErrorCode code_;
  const std::string where_, remedy_;
  std::map<std::string, std::unique_ptr<const Code>> codes_;
};

// Why an expression that is to be written into an adapter cannot be: what is wrong with it and at
// which character, also when Python would not take it or takes it otherwise. Nothing when it can.
std::optional<std::string> PatternProblem(const std::string& pattern);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MODULE_PATTERNS_H_
