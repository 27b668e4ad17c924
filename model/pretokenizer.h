// Splits text into the pieces within which a tokenizer may merge: words, numbers, spaces.
#ifndef EIDETIC_MODEL_PRETOKENIZER_H_
#define EIDETIC_MODEL_PRETOKENIZER_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace eidetic::model {

// Immutable and thread-safe.
class Pretokenizer {
 public:
  // `name` as in tokenizer.ggml.pre. Throws Error kUnsupported for one that is not known here.
  explicit Pretokenizer(const std::string& name);
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

  // Calls `piece` with consecutive parts of `text` (valid UTF-8) that make up all of it. Time grows
  // with the length of the text alone, whatever stands in it.
  void Split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

  // The first place at or behind byte `from` where `text` (valid UTF-8) can be cut, and the parts
  // have the pieces of the whole, by every rule there is here: between a word and white space, or
  // between a letter and punctuation outside of ASCII (for writing without spaces). The end of the
  // text when there is none.
  static size_t NextCut(std::string_view text, size_t from);

  // The regular expressions, one a line, for the fingerprint.
  const std::string& pattern() const { return pattern_; }

 private:
  struct Expression;
  void Add(const std::string& pattern);
  // With the expressions from `first` on.
  void SplitFrom(size_t first, std::string_view text,
                 const std::function<void(std::string_view)>& piece) const;

  std::string name_;
  std::string pattern_;
  std::vector<Expression> expressions_;
};

// The name of the pre-tokenizer that consists of this one regular expression, written as in
// tokenizer.json; empty when none does.
std::string PretokenizerOfExpression(std::string_view expression);

// Whether GGUF files with this name in tokenizer.ggml.pre take a word that is a token as it is, and
// merge only others ("ignore_merges" of tokenizer.json, which GGUF does not write). Throws Error
// kUnsupported for a name that is not known here.
bool TakesWholeWords(const std::string& pretokenizer);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PRETOKENIZER_H_
