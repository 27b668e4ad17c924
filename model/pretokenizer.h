// Splits text into the pieces within which a tokenizer may merge: words, numbers, spaces.
#ifndef EIDETIC_MODEL_PRETOKENIZER_H_
#define EIDETIC_MODEL_PRETOKENIZER_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

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

  // The regular expression, for the fingerprint.
  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  std::string name_;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PRETOKENIZER_H_
