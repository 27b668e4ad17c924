#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "model/error.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

// White space as Unicode defines it. PCRE2's own \s also takes U+180E, which no longer is.
constexpr char kSpace[] =
    R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// As they stand in the tokenizer.json of the models that they are named after.
#define EID_GPT2 R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"
#define EID_LLAMA3(digits)                                           \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
// Every number character stands alone, and GPT-2's expression sees what lies between two of them
// as if it were all the text. In one expression: the number comes first, and the look-ahead, which
// keeps the last space of several for the word that follows, takes a number for the end.
#define EID_DIGITS_GPT2 \
  R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\p{L}\p{N}\s]+|\s+(?![^\p{N}\s])|\s+)"
// Words are cut before a capital letter that follows a small one.
#define EID_TEKKEN                                                                   \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"  \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" \
  R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"

// Several expressions, one a line, are applied one after the other: each to the pieces that the one
// before has left. Of names with one expression the first is the one that folders get.
struct Rule {
  std::string_view name;
  std::string_view expressions;
  bool whole_words = false;  // a word that is a token is that token, whatever merges would make
};
constexpr Rule kRules[] = {
    {"smollm", EID_DIGITS_GPT2},
    {"refact", EID_DIGITS_GPT2},
    {"starcoder", EID_DIGITS_GPT2},
    {"gpt-2", EID_GPT2},
    {"gpt2", EID_GPT2},
    {"granite-docling", EID_GPT2},
    {"dbrx", EID_LLAMA3(R"(\p{N}{1,3})")},  // Granite 4
    {"smaug-bpe", EID_LLAMA3(R"(\p{N}{1,3})")},
    {"llama-bpe", EID_LLAMA3(R"(\p{N}{1,3})"), true},
    {"llama3", EID_LLAMA3(R"(\p{N}{1,3})"), true},
    {"llama-v3", EID_LLAMA3(R"(\p{N}{1,3})"), true},
    {"falcon3", EID_LLAMA3(R"(\p{N}{1,3})"), true},
    {"qwen2", EID_LLAMA3(R"(\p{N})")},
    {"tekken", EID_TEKKEN, true},
    {"default", R"([\p{P}\$\+<=>\^~\|]+)"
                "\n" EID_GPT2 "\n"
                R"(\p{N}+)"
                "\n"
                R"([0-9][0-9][0-9])"},
};
#undef EID_GPT2
#undef EID_LLAMA3
#undef EID_DIGITS_GPT2
#undef EID_TEKKEN

// Between two characters that no match of a rule holds both of, nor looks ahead over. Punctuation
// may take line ends along.
constexpr char kCut[] =
    R"((?<=[\p{L}\p{N}])(?=\s)|(?<=\S)(?=\s)(?![\r\n])|(?<=\p{L})(?=[^\x00-\x7F])(?=\p{P}))";

// For PCRE2, whose \s is another.
std::string WithUnicodeSpace(std::string_view expression) {
  std::string translated;
  bool in_brackets = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char at = expression[i];
    if (at == '[') in_brackets = true;
    if (at == ']') in_brackets = false;
    if (at != '\\' || i + 1 == expression.size()) {
      translated += at;
      continue;
    }
    const char escaped = expression[++i];
    if (escaped == 's') {
      translated += in_brackets ? kSpace : "[" + std::string(kSpace) + "]";
    } else if (escaped == 'S') {  // in no brackets in these expressions
      translated += "[^" + std::string(kSpace) + "]";
    } else {
      translated += {at, escaped};
    }
  }
  return translated;
}

const Rule& RuleOf(const std::string& name) {
  std::string known;
  for (const Rule& rule : kRules) {
    if (name == rule.name) return rule;
    known += (known.empty() ? "'" : ", '") + std::string(rule.name) + "'";
  }
  throw Error(ErrorCode::kUnsupported,
              "the pre-tokenizer " + Quoted(name) + " is not supported, only " + known,
              "docs/models.md lists what can be run");
}

std::string Pcre2Message(int error) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(error, text, sizeof(text)) < 0) return std::to_string(error);
  return reinterpret_cast<const char*>(text);
}

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

}  // namespace

// `whose`: for errors.
struct Pretokenizer::Expression {
  Expression(const std::string& pattern, std::string whose)
      : whose(std::move(whose)), code(nullptr, &pcre2_code_free) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (code == nullptr) {
      throw Error(ErrorCode::kUnsupported,
                  "PCRE2 refuses the expression of " + this->whose + " at " +
                      std::to_string(offset) + ": " + Pcre2Message(error),
                  "use PCRE2 10.30 or newer with Unicode support");
    }
    // Where no code may be made at run time this fails, and the interpreter does the same, slower.
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  }

  MatchData NewMatch() const {
    MatchData match(pcre2_match_data_create_from_pattern(code.get(), nullptr),
                    &pcre2_match_data_free);
    if (match == nullptr) throw std::bad_alloc();
    return match;
  }
  // Where the first match from `position` on begins and ends; nothing when there is none.
  std::optional<std::pair<size_t, size_t>> Find(std::string_view text, size_t position,
                                                pcre2_match_data* match) const {
    const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), position, PCRE2_NO_UTF_CHECK, match, nullptr);
    if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (found < 0) {
      throw Error(ErrorCode::kUnsupported,
                  "the expression of " + whose + " fails at byte " + std::to_string(position) +
                      " of " + std::to_string(text.size()) + ": " + Pcre2Message(found),
                  "give the text in smaller parts");
    }
    const size_t* range = pcre2_get_ovector_pointer(match);
    return std::pair(range[0], range[1]);
  }

  std::string whose;
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code;
};

Pretokenizer::Pretokenizer(const std::string& name) : name_(name) {
  std::string_view rest = RuleOf(name).expressions;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    Add(WithUnicodeSpace(rest.substr(0, end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

Pretokenizer::~Pretokenizer() = default;

void Pretokenizer::Add(const std::string& pattern) {
  expressions_.emplace_back(pattern, "pre-tokenizer " + Quoted(name_));
  pattern_ += (pattern_.empty() ? "" : "\n") + pattern;
}

void Pretokenizer::Split(std::string_view text,
                         const std::function<void(std::string_view)>& piece) const {
  SplitFrom(0, text, piece);
}

void Pretokenizer::SplitFrom(size_t first, std::string_view text,
                             const std::function<void(std::string_view)>& piece) const {
  if (first == expressions_.size()) return piece(text);
  const Expression& expression = expressions_[first];
  const MatchData match = expression.NewMatch();
  for (size_t position = 0; position < text.size();) {
    // What lies between two matches is a piece as well.
    const auto found = expression.Find(text, position, match.get());
    const size_t begin = found ? found->first : text.size();
    if (begin > position) SplitFrom(first + 1, text.substr(position, begin - position), piece);
    if (!found) return;
    SplitFrom(first + 1, text.substr(begin, found->second - begin), piece);
    position = found->second;
  }
}

size_t Pretokenizer::NextCut(std::string_view text, size_t from) {
  static const Expression cut(WithUnicodeSpace(kCut), "places to cut a text");
  const auto is_inside = [&] { return (static_cast<uint8_t>(text[from]) & 0xC0) == 0x80; };
  while (from < text.size() && is_inside()) ++from;
  if (from >= text.size()) return text.size();
  const auto found = cut.Find(text, from, cut.NewMatch().get());
  return found ? found->first : text.size();
}

std::string PretokenizerOfExpression(std::string_view expression) {
  for (const Rule& rule : kRules) {
    if (expression == rule.expressions) return std::string(rule.name);
  }
  return {};
}

bool TakesWholeWords(const std::string& pretokenizer) {
  return RuleOf(pretokenizer).whole_words;
}

}  // namespace eidetic::model
