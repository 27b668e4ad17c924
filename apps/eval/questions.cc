#include "apps/eval/questions.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(EID_INVALID_ARGUMENT, "the question file '" + path + "' " + what,
              "docs/cli.md says what it holds");
}

std::string text_in(const json& object, const char* key, const std::string& path,
                    const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string() || found->get<std::string>().empty()) {
    refuse(path, "has no text '" + std::string(key) + "' in " + where);
  }
  return found->get<std::string>();
}

std::vector<std::string> texts_in(const json& object, const char* key, const std::string& path,
                                  const std::string& where) {
  std::vector<std::string> texts;
  const auto found = object.find(key);
  if (found != object.end() && found->is_array()) {
    for (const json& one : *found) {
      if (one.is_string() && !one.get<std::string>().empty()) texts.push_back(one);
    }
  }
  if (texts.empty() || texts.size() != found->size()) {
    refuse(path, "has no list of texts '" + std::string(key) + "' in " + where);
  }
  return texts;
}

const json& list_in(const json& object, const char* key, const std::string& path) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array() || found->empty()) {
    refuse(path, "has no list '" + std::string(key) + "'");
  }
  return *found;
}

const Book& book_of(const QuestionSet& set, const Question& question) {
  return *std::find_if(set.books.begin(), set.books.end(),
                       [&](const Book& book) { return book.name == question.book; });
}

char lower(char c) {
  return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

}  // namespace

QuestionSet parse_questions(const std::string& text, const std::string& path) {
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) refuse(path, "is no JSON object");
  if (file.value("version", json()) != kVersion) {
    refuse(path, "has no version " + std::to_string(kVersion));
  }
  QuestionSet set;
  std::set<std::string> books, ids;
  for (const json& one : list_in(file, "books", path)) {
    if (!one.is_object()) refuse(path, "has a book that is no object");
    Book book;
    book.name = text_in(one, "name", path, "a book");
    book.file = text_in(one, "file", path, "the book " + book.name);
    if (!books.insert(book.name).second) refuse(path, "has the book " + book.name + " twice");
    set.books.push_back(std::move(book));
  }
  for (const json& one : list_in(file, "questions", path)) {
    if (!one.is_object()) refuse(path, "has a question that is no object");
    Question question;
    question.id = text_in(one, "id", path, "a question");
    const std::string where = "question " + question.id;
    question.book = text_in(one, "book", path, where);
    question.question = text_in(one, "question", path, where);
    question.answers = texts_in(one, "answers", path, where);
    question.passages = texts_in(one, "passages", path, where);
    if (!ids.insert(question.id).second) refuse(path, "has " + where + " twice");
    if (!books.contains(question.book)) {
      refuse(path, "asks in " + where + " about the book " + question.book + ", which it lacks");
    }
    set.questions.push_back(std::move(question));
  }
  return set;
}

void locate_passages(QuestionSet& set) {
  for (Question& question : set.questions) {
    const Book& book = book_of(set, question);
    question.places.clear();
    for (const std::string& passage : question.passages) {
      const std::size_t at = book.text.find(passage);
      if (at == std::string::npos || book.text.find(passage, at + 1) != std::string::npos) {
        throw Error(EID_INVALID_ARGUMENT,
                    "the passage '" + passage + "' of question " + question.id + " stands " +
                        (at == std::string::npos ? "nowhere" : "more than once") + " in '" +
                        book.file + "'",
                    "use the text that the questions were written for: bench/data/books.tar.xz");
      }
      question.places.push_back({at, at + passage.size()});
    }
  }
}

void cut_books(QuestionSet& set, std::size_t bytes) {
  for (Book& book : set.books) {
    if (book.text.size() <= bytes) continue;
    const std::size_t end = book.text.find_last_of(" \n", bytes);
    book.text.resize(end == std::string::npos ? 0 : end);
  }
  for (Question& question : set.questions) {
    const std::size_t size = book_of(set, question).text.size();
    std::erase_if(question.places, [&](const Range& place) { return place.end > size; });
  }
  std::erase_if(set.questions, [](const Question& q) { return q.places.empty(); });
  std::erase_if(set.books, [&](const Book& book) {
    return std::none_of(set.questions.begin(), set.questions.end(),
                        [&](const Question& q) { return q.book == book.name; });
  });
}

bool is_right(std::string_view answer, const std::vector<std::string>& accepted) {
  for (const std::string& wanted : accepted) {
    auto at = answer.begin();
    while (true) {
      at = std::search(at, answer.end(), wanted.begin(), wanted.end(),
                       [](char a, char b) { return lower(a) == lower(b); });
      if (at == answer.end()) break;
      if (at == answer.begin() || !std::isalnum(static_cast<unsigned char>(at[-1]))) return true;
      ++at;
    }
  }
  return false;
}

int rank_of(const Question& question, const std::string& document,
            const std::vector<Source>& sources) {
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].document != document) continue;
    for (const Range& place : question.places) {
      if (place.overlaps(sources[i].byte_begin, sources[i].byte_end)) {
        return static_cast<int>(i) + 1;
      }
    }
  }
  return 0;
}

json to_json(const Asked& asked) {
  return {{"id", asked.id},          {"policy", asked.policy},
          {"rank", asked.rank},      {"right", asked.right},
          {"answer", asked.answer},  {"first_token_seconds", asked.first_token_seconds},
          {"seconds", asked.seconds}};
}

Asked asked_from_json(const json& from) {
  Asked asked;
  asked.id = from.at("id").get<std::string>();
  asked.policy = from.at("policy").get<std::string>();
  asked.rank = from.at("rank").get<int>();
  asked.right = from.at("right").get<bool>();
  asked.answer = from.at("answer").get<std::string>();
  asked.first_token_seconds = from.at("first_token_seconds").get<double>();
  asked.seconds = from.at("seconds").get<double>();
  return asked;
}

PolicyScore score_of(const std::string& policy, const std::vector<Asked>& asked) {
  PolicyScore score;
  score.policy = policy;
  std::vector<double> times;
  for (const Asked& one : asked) {
    if (one.policy != policy) continue;
    ++score.questions;
    score.at_1 += one.rank == 1;
    score.at_3 += one.rank >= 1 && one.rank <= 3;
    score.at_5 += one.rank >= 1 && one.rank <= 5;
    score.right += one.right;
    times.push_back(one.first_token_seconds);
  }
  if (times.empty()) return score;
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  score.first_token_seconds = *middle;
  return score;
}

json to_json(const PolicyScore& score) {
  const auto share = [&](int part) -> json {
    return score.questions > 0 ? json(static_cast<double>(part) / score.questions) : json(nullptr);
  };
  return {{"policy", score.policy},
          {"questions", score.questions},
          {"source_recall_at_1", share(score.at_1)},
          {"source_recall_at_3", share(score.at_3)},
          {"source_recall_at_5", share(score.at_5)},
          {"right_answers", share(score.right)},
          {"median_first_token_seconds", score.first_token_seconds}};
}

}  // namespace eidetic::eval
