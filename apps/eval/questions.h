// Natural questions on books: the file that holds them, where their answers stand, and how often
// the right passage was recalled and the right answer given.
#ifndef EIDETIC_APPS_EVAL_QUESTIONS_H_
#define EIDETIC_APPS_EVAL_QUESTIONS_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "apps/eval/haystack.h"

namespace eidetic::eval {

struct Question {
  std::string id, book, question;
  std::vector<std::string> answers;   // any of them will do
  std::vector<std::string> passages;  // quotations, any of which answers the question
  std::vector<Range> places;          // where these stand in the book, in bytes
};

struct Book {
  std::string name, file, text;
};

struct QuestionSet {
  std::vector<Book> books;
  std::vector<Question> questions;
};

// A question file (docs/cli.md). Errors name the file, the question and the field; ids and books
// are unique, passages and answers are there.
QuestionSet parse_questions(const std::string& json, const std::string& path);

// Finds every passage in its book's text. Throws Error when one is not there exactly once.
void locate_passages(QuestionSet& set);

// Reads only the first `bytes` of each book, to the end of a word; questions that no passage of
// these answers are left out, and so are books without questions.
void cut_books(QuestionSet& set, std::size_t bytes);

// Whether one of `accepted` stands in `answer` at the beginning of a word, in any case (ASCII).
bool is_right(std::string_view answer, const std::vector<std::string>& accepted);

// The rank, from 1, of the first source that overlaps one of the question's places; 0: none does.
struct Source {
  std::string document;
  std::uint64_t byte_begin = 0, byte_end = 0;
};
int rank_of(const Question& question, const std::string& document,
            const std::vector<Source>& sources);

// One question asked in one way.
struct Asked {
  std::string id, policy, answer;
  int rank = 0;  // of the right passage among the sources
  bool right = false;
  double first_token_seconds = 0;  // from the question to the first text of the answer
  double seconds = 0;              // to the last
};
nlohmann::json to_json(const Asked& asked);
Asked asked_from_json(const nlohmann::json& json);

// One way of asking, over all its questions.
struct PolicyScore {
  std::string policy;
  int questions = 0, at_1 = 0, at_3 = 0, at_5 = 0, right = 0;
  double first_token_seconds = 0;  // the median
};
PolicyScore score_of(const std::string& policy, const std::vector<Asked>& asked);
nlohmann::json to_json(const PolicyScore& score);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_QUESTIONS_H_
