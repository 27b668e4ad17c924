#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/module_patterns.h"

#include <pcre2.h>

#include <array>
#include <new>
#include <string_view>
#include <utility>

#include "model/text.h"

namespace eidetic::model {
namespace {

using CompiledPattern = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;

// Null when it is no expression: then with what is wrong, and where.
CompiledPattern Compile(const std::string& pattern, int* error, size_t* offset) {
  return {pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                        PCRE2_UTF | PCRE2_ANCHORED, error, offset, nullptr),
          &pcre2_code_free};
}

std::string MessageOf(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

pcre2_match_context* LimitedContext() {
  constexpr uint32_t kMostSteps = 100'000;
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(context, kMostSteps);
  return context;
}

std::string KeyOf(const std::string& pattern, PatternExtent extent) {
  return (extent == PatternExtent::kWholePath ? "w" : "e") + pattern;
}

std::string AtCharacter(const std::string& what, size_t character) {
  return what + " at character " + std::to_string(character + 1);
}

// What begins a group in both languages, and means the same.
bool IsSharedGroup(std::string_view rest) {
  if (rest.starts_with("(*")) return false;  // PCRE2's verbs
  if (!rest.starts_with("(?")) return true;
  for (const char* known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?P<", "(?P="}) {
    if (rest.starts_with(known)) return true;
  }
  return false;
}

}  // namespace

class ModulePatterns::Code {
 public:
  explicit Code(CompiledPattern code) : code_(std::move(code)) {}

  int Match(const std::string& text) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr), &pcre2_match_data_free);
    if (match == nullptr) throw std::bad_alloc();
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                       match.get(), context_.get());
  }

 private:
  const CompiledPattern code_;
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context_{
      LimitedContext(), &pcre2_match_context_free};
};

ModulePatterns::ModulePatterns(ErrorCode code, std::string where, std::string remedy)
    : code_(code), where_(std::move(where)), remedy_(std::move(remedy)) {}

ModulePatterns::~ModulePatterns() = default;

void ModulePatterns::Add(const std::string& pattern, PatternExtent extent) {
  const char* before = extent == PatternExtent::kWholePath ? "" : "(?:.*\\.)?";
  const std::string whole = "(?:" + std::string(before) + "(?:" + pattern + "))\\z";
  int error = 0;
  size_t offset = 0;
  CompiledPattern code = Compile(whole, &error, &offset);
  if (code == nullptr) {
    throw Error(code_, where_ + ": " + Quoted(pattern) + " is no regular expression", remedy_);
  }
  codes_.insert_or_assign(KeyOf(pattern, extent), std::make_unique<const Code>(std::move(code)));
}

bool ModulePatterns::Fits(const std::string& pattern, PatternExtent extent,
                          const std::string& module) const {
  const int found = codes_.at(KeyOf(pattern, extent))->Match(module);
  if (found > 0) return true;
  if (found == PCRE2_ERROR_NOMATCH || found == PCRE2_ERROR_BADOFFSET) return false;
  throw Error(
      ErrorCode::kUnsupported,
      where_ + ": the expression " + Quoted(pattern) + " cannot be held against " + Quoted(module),
      "name the modules without an expression");
}

std::optional<std::string> PatternProblem(const std::string& pattern) {
  if (pattern.empty()) return "there is nothing in it";
  int error = 0;
  size_t offset = 0;
  // By itself: what stands around it elsewhere could close a group of its.
  if (Compile(pattern, &error, &offset) == nullptr) return AtCharacter(MessageOf(error), offset);
  // Letters that stand for the same behind a backslash.
  constexpr std::string_view kSharedEscapes = "bBdDsSwWfnrt";
  bool in_set = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char character = pattern[i];
    const auto next = static_cast<unsigned char>(i + 1 < pattern.size() ? pattern[i + 1] : 0);
    if (character == '\\') {
      const bool is_letter = (next | 32) >= 'a' && (next | 32) <= 'z';
      if (is_letter && kSharedEscapes.find(static_cast<char>(next)) == std::string_view::npos) {
        return AtCharacter("Python has no such '\\" + std::string(1, static_cast<char>(next)) + "'",
                           i);
      }
      // PEFT puts groups of its own around, so that numbers are other groups' there.
      if (next >= '0' && next <= '9') return AtCharacter("a group is meant by its number", i);
      ++i;
    } else if (in_set) {
      if (character == '[' && (next == ':' || next == '.' || next == '=')) {
        return AtCharacter("Python has no named sets", i);
      }
      in_set = character != ']';
    } else if (character == '[') {
      in_set = true;
      if (next == '^') ++i;
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') ++i;  // the first is one of the set
    } else if (character == '(' && !IsSharedGroup(std::string_view(pattern).substr(i))) {
      return AtCharacter("PEFT takes no group that begins so", i);
    } else if (character == '{' && next == ',') {
      return AtCharacter("a count without its least", i);
    } else if (next == '+' &&
               (character == '*' || character == '+' || character == '?' || character == '}')) {
      return AtCharacter("Python before 3.11 takes no '" + std::string(1, character) + "+'", i);
    }
  }
  return std::nullopt;
}

}  // namespace eidetic::model
