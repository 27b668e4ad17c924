// What the prompts of `eval ruler` are made of: running text, words, questions with documents.
#ifndef EIDETIC_APPS_EVAL_RULER_TEXTS_H_
#define EIDETIC_APPS_EVAL_RULER_TEXTS_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/eval/haystack.h"
#include "apps/eval/questions.h"

namespace eidetic::eval {

// The texts one behind another, as words with single spaces between them.
class RunningText {
 public:
  // Throws Error when there are no two sentences.
  explicit RunningText(const std::vector<std::string>& texts);

  std::size_t words() const { return begins_.size(); }
  // The word that begins a sentence, at `word` or after it, from the beginning again at the end.
  std::size_t sentence_at(std::size_t word) const;
  // `count` words from `first` on (from the beginning again at the end), cut into sentences. The
  // last one may be cut short.
  std::vector<std::string_view> sentences(std::size_t first, std::size_t count) const;
  // The different words of 3 to 12 small letters, sorted.
  std::vector<std::string> vocabulary() const;

 private:
  std::string_view range(std::size_t first, std::size_t end) const;

  std::string text_;
  std::vector<std::size_t> begins_;  // of each word
  std::vector<bool> starts_;         // whether it begins a sentence
};

// The books of a question file, cut into documents of some 600 bytes that end with a sentence.
struct RulerDocument {
  std::size_t book = 0;
  Range bytes;
  std::string text;  // with single spaces
};

struct RulerQuestion {
  std::string question;
  std::vector<std::string> answers;
  RulerDocument document;             // holds one of the answers
  std::vector<std::size_t> overlaps;  // documents that answer it too
};

class RulerQuestions {
 public:
  RulerQuestions() = default;
  // Of questions whose passages are located. One whose document would have to be longer than three
  // to hold an answer is left out. Throws Error when none is left.
  explicit RulerQuestions(const QuestionSet& set);

  const std::vector<RulerQuestion>& questions() const { return questions_; }
  const std::vector<RulerDocument>& documents() const { return documents_; }
  const std::string& title(const RulerDocument& document) const { return titles_[document.book]; }
  // The documents that share the rarest words with the question, best first.
  std::vector<std::size_t> alike(const RulerQuestion& question, std::size_t count) const;

 private:
  std::vector<std::string> titles_;
  std::vector<RulerDocument> documents_;
  std::vector<RulerQuestion> questions_;
  std::map<std::string, std::vector<std::size_t>> documents_with_;  // a word
};

struct RulerTexts {
  RunningText text;
  std::vector<std::string> vocabulary;  // of the running text
  RulerQuestions questions;             // empty: there are none to ask

  explicit RulerTexts(const std::vector<std::string>& texts, RulerQuestions asked = {})
      : text(texts), vocabulary(text.vocabulary()), questions(std::move(asked)) {}
};

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RULER_TEXTS_H_
