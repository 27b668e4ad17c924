#include "apps/eval/question_form.h"

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

constexpr std::string_view kKey = "{key}";

}  // namespace

std::string QuestionForm::ask_for(const std::string& key) const {
  std::string result = text;
  for (std::size_t at; (at = result.find(kKey)) != std::string::npos;) {
    result.replace(at, kKey.size(), key);
  }
  return result;
}

std::string_view needle_preface() {
  return "Some special magic numbers are hidden within the following text. Make sure to memorize "
         "it. I "
         "will quiz you about the numbers afterwards.";
}

const std::vector<QuestionForm>& question_forms() {
  static const std::vector<QuestionForm> forms = {
      {"protocol",
       "\nWhat is the special magic number for {key} mentioned in the provided text? The special "
       "magic number for {key} mentioned in the provided text is"},
      {"question", "\nWhat is the special magic number for {key} mentioned in the provided text?"},
      {"statement", "\nThe special magic number for {key} mentioned in the provided text is"},
      {"repeat", " One of the special magic numbers for {key} is:"},
      {"answer", "\nQuestion: What is the special magic number for {key}?\nAnswer:"},
      {"answer-statement",
       "\nQuestion: What is the special magic number for {key}?\nAnswer: The special magic number "
       "for {key} is"},
      {"values",
       "\nWhat are all the special magic numbers for {key} mentioned in the provided text? The "
       "special magic numbers for {key} mentioned in the provided text are"},
      {"chat", "What is the special magic number for {key} mentioned in the provided text?", true},
  };
  return forms;
}

QuestionForm question_form(const std::string& name) {
  if (name.find(kKey) != std::string::npos) return {"custom", name};
  std::string known;
  for (const QuestionForm& form : question_forms()) {
    if (form.name == name) return form;
    known += (known.empty() ? "" : ", ") + form.name;
  }
  throw Error(EID_INVALID_ARGUMENT, "there is no question form '" + name + "'",
              "choose one of " + known + ", or pass a text with {key} in it");
}

}  // namespace eidetic::eval
