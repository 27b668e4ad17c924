#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenizer.h"

#include <pcre2.h>

#include "model/error.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

// White space as Unicode defines it. PCRE2's own \s also takes U+180E, which no longer is.
#define EID_SPACE \
  R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"

struct Rule {
  const char* name;
  const char* pattern;
};
constexpr Rule kRules[] = {
    // Every number character stands alone, and GPT-2's expression sees what lies between two of
    // them
    // as if it were all the text. In one expression: the number comes first, and the look-ahead,
    // which keeps the last space of several for the word that follows, takes a number for the end.
    {"smollm", R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\p{L}\p{N})" EID_SPACE
               R"(]+|[)" EID_SPACE R"(]+(?![^\p{N})" EID_SPACE R"(])|[)" EID_SPACE "]+"},
};
#undef EID_SPACE

std::string Pcre2Message(int error) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(error, text, sizeof(text)) < 0) return std::to_string(error);
  return reinterpret_cast<const char*>(text);
}

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

}  // namespace

struct Pretokenizer::Code {
  explicit Code(pcre2_code* compiled) : code(compiled, &pcre2_code_free) {}
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code;
};

Pretokenizer::Pretokenizer(const std::string& name) : name_(name) {
  std::string known;
  for (const Rule& rule : kRules) {
    if (name == rule.name) pattern_ = rule.pattern;
    known += (known.empty() ? "'" : ", '") + std::string(rule.name) + "'";
  }
  if (pattern_.empty()) {
    throw Error(ErrorCode::kUnsupported,
                "the pre-tokenizer " + Quoted(name) + " is not supported, only " + known,
                "docs/models.md lists what can be run");
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_ = std::make_unique<Code>(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_.data()), pattern_.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr));
  if (code_->code == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                "PCRE2 refuses the expression of pre-tokenizer " + Quoted(name) + " at " +
                    std::to_string(offset) + ": " + Pcre2Message(error),
                "use PCRE2 10.30 or newer with Unicode support");
  }
  // Where no code may be made at run time this fails, and the interpreter does the same, slower.
  pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE);
}

Pretokenizer::~Pretokenizer() = default;

void Pretokenizer::Split(std::string_view text,
                         const std::function<void(std::string_view)>& piece) const {
  const MatchData match(pcre2_match_data_create_from_pattern(code_->code.get(), nullptr),
                        &pcre2_match_data_free);
  if (match == nullptr) throw std::bad_alloc();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t position = 0; position < text.size();) {
    const int found = pcre2_match(code_->code.get(), subject, text.size(), position,
                                  PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (found < 0) {
      throw Error(ErrorCode::kUnsupported,
                  "the expression of pre-tokenizer " + Quoted(name_) + " fails at byte " +
                      std::to_string(position) + " of " + std::to_string(text.size()) + ": " +
                      Pcre2Message(found),
                  "give the text in smaller parts");
    }
    const size_t end = pcre2_get_ovector_pointer(match.get())[1];
    piece(text.substr(position, end - position));
    position = end;
  }
}

}  // namespace eidetic::model
