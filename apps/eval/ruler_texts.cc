#include "apps/eval/ruler_texts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

constexpr std::size_t kDocumentBytes = 600;
// Documents that one which answers may be joined of.
constexpr std::size_t kMostJoined = 3;
constexpr std::size_t kShortestWord = 3, kLongestWord = 12;

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

bool is_small_letter(char c) {
  return c >= 'a' && c <= 'z';
}

// Words with single spaces between them.
std::string with_single_spaces(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!is_blank(text[i])) {
      result += text[i];
    } else if (!result.empty() && result.back() != ' ') {
      result += ' ';
    }
  }
  if (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

// The different words in small letters.
std::set<std::string> words_in(std::string_view text) {
  std::set<std::string> words;
  std::string word;
  for (const char c : std::string(text) + " ") {
    const char small = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (is_small_letter(small) || (c >= '0' && c <= '9')) {
      word += small;
    } else if (!word.empty()) {
      words.insert(std::exchange(word, {}));
    }
  }
  return words;
}

std::vector<Range> cut_into_documents(std::string_view text) {
  std::vector<Range> ranges;
  Range open;
  for (const TextPiece& piece : split_text(text)) {
    if (piece.sentence && open.end - open.begin >= kDocumentBytes) {
      ranges.push_back(open);
      open.begin = open.end;
    }
    open.end += piece.text.size();
  }
  if (open.end > open.begin) ranges.push_back(open);
  return ranges;
}

bool holds_an_answer(std::string_view text, const Question& question) {
  return is_right(text, question.answers);
}

// The fewest documents [first, last] of the book that cover `place` and hold an answer. False when
// there would be too many.
bool documents_that_answer(const std::vector<Range>& ranges, std::string_view text,
                           const Question& question, const Range& place, std::size_t* first,
                           std::size_t* last) {
  *first = 0;
  while (ranges[*first].end <= place.begin) ++*first;
  *last = *first;
  while (ranges[*last].end < place.end) ++*last;
  while (*last - *first < kMostJoined) {
    const std::size_t begin = ranges[*first].begin;
    if (holds_an_answer(with_single_spaces(text.substr(begin, ranges[*last].end - begin)),
                        question)) {
      return true;
    }
    // What comes after a passage explains it more often than what stands before.
    if ((*last - *first) % 2 == 0 && *last + 1 < ranges.size()) {
      ++*last;
    } else if (*first > 0) {
      --*first;
    } else {
      return false;
    }
  }
  return false;
}

}  // namespace

RunningText::RunningText(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (!text_.empty()) text_ += ' ';
    text_ += with_single_spaces(text);
  }
  std::size_t at = 0, sentences = 0;
  for (const TextPiece& piece : split_text(text_)) {
    bool first = piece.sentence;
    sentences += piece.sentence;
    for (std::size_t i = 0; i < piece.text.size(); ++i) {
      if (piece.text[i] == ' ' || (at + i > 0 && text_[at + i - 1] != ' ')) continue;
      begins_.push_back(at + i);
      starts_.push_back(std::exchange(first, false));
    }
    at += piece.text.size();
  }
  if (sentences < 2) {
    throw Error(EID_INVALID_ARGUMENT,
                "the text has " + std::to_string(sentences) +
                    " sentence(s): a needle is hidden between two",
                "give a longer running text with --text");
  }
}

std::size_t RunningText::sentence_at(std::size_t word) const {
  word %= words();
  while (!starts_[word]) word = (word + 1) % words();
  return word;
}

std::string_view RunningText::range(std::size_t first, std::size_t end) const {
  const std::size_t stop = end < words() ? begins_[end] - 1 : text_.size();
  return std::string_view(text_).substr(begins_[first], stop - begins_[first]);
}

std::vector<std::string_view> RunningText::sentences(std::size_t first, std::size_t count) const {
  std::vector<std::string_view> result;
  while (count > 0) {
    std::size_t end = first + 1;
    while (end < words() && end < first + count && !starts_[end]) ++end;
    result.push_back(range(first, end));
    count -= end - first;
    first = end % words();
  }
  return result;
}

std::vector<std::string> RunningText::vocabulary() const {
  std::set<std::string> found;
  for (std::size_t w = 0; w < words(); ++w) {
    std::string_view word = range(w, w + 1);
    const auto is_mark = [](char c) {
      return c == '.' || c == ',' || c == ';' || c == ':' || c == '!' || c == '?';
    };
    while (!word.empty() && is_mark(word.back())) word.remove_suffix(1);
    if (word.size() >= kShortestWord && word.size() <= kLongestWord &&
        std::all_of(word.begin(), word.end(), is_small_letter)) {
      found.emplace(word);
    }
  }
  return {found.begin(), found.end()};
}

RulerQuestions::RulerQuestions(const QuestionSet& set) {
  std::map<std::string, std::size_t> books;
  std::vector<std::vector<Range>> ranges;
  std::vector<std::size_t> begins;  // of each book's documents
  for (const Book& book : set.books) {
    books.emplace(book.name, titles_.size());
    begins.push_back(documents_.size());
    ranges.push_back(cut_into_documents(book.text));
    for (const Range& bytes : ranges.back()) {
      const std::string_view text =
          std::string_view(book.text).substr(bytes.begin, bytes.end - bytes.begin);
      for (const std::string& word : words_in(text)) {
        documents_with_[word].push_back(documents_.size());
      }
      documents_.push_back({titles_.size(), bytes, with_single_spaces(text)});
    }
    titles_.push_back(book.name);
  }
  for (const Question& asked : set.questions) {
    const std::size_t book = books.at(asked.book);
    const std::string_view text = set.books[book].text;
    for (const Range& place : asked.places) {
      std::size_t first = 0, last = 0;
      if (!documents_that_answer(ranges[book], text, asked, place, &first, &last)) continue;
      RulerQuestion question;
      question.question = asked.question;
      question.answers = asked.answers;
      question.document.book = book;
      question.document.bytes = {ranges[book][first].begin, ranges[book][last].end};
      question.document.text = with_single_spaces(text.substr(
          question.document.bytes.begin, ranges[book][last].end - ranges[book][first].begin));
      for (std::size_t d = 0; d < ranges[book].size(); ++d) {
        const bool answers =
            std::any_of(asked.places.begin(), asked.places.end(), [&](const Range& other) {
              return other.overlaps(ranges[book][d].begin, ranges[book][d].end);
            });
        if (answers || (d >= first && d <= last)) question.overlaps.push_back(begins[book] + d);
      }
      questions_.push_back(std::move(question));
      break;
    }
  }
  if (questions_.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no passage of the question file holds an answer near it",
                "docs/cli.md says what the file holds");
  }
}

std::vector<std::size_t> RulerQuestions::alike(const RulerQuestion& question,
                                               std::size_t count) const {
  std::vector<std::pair<double, std::size_t>> scored;
  for (std::size_t d = 0; d < documents_.size(); ++d) scored.emplace_back(0, d);
  for (const std::string& word : words_in(question.question)) {
    const auto found = documents_with_.find(word);
    if (found == documents_with_.end()) continue;
    const double rarity = std::log(static_cast<double>(documents_.size()) /
                                   static_cast<double>(found->second.size()));
    for (const std::size_t d : found->second) scored[d].first -= rarity;  // the best come first
  }
  count = std::min(count, scored.size());
  std::partial_sort(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(count),
                    scored.end());
  std::vector<std::size_t> best;
  for (std::size_t i = 0; i < count; ++i) best.push_back(scored[i].second);
  return best;
}

}  // namespace eidetic::eval
