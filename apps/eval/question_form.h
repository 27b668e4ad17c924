// The wordings in which a needle can be asked for: models differ in which they understand.
#ifndef EIDETIC_APPS_EVAL_QUESTION_FORM_H_
#define EIDETIC_APPS_EVAL_QUESTION_FORM_H_

#include <string>
#include <string_view>
#include <vector>

namespace eidetic::eval {

struct QuestionForm {
  std::string name;
  std::string text;   // {key} stands for the needle's key
  bool chat = false;  // a user's turn by the model's chat template, answered in the assistant's

  std::string ask_for(const std::string& key) const;
};

// What every prompt begins with, read with the span off: the needle
// task's own preface.
std::string_view needle_preface();

// protocol (the default), question, statement, repeat, answer, values (of several), chat.
const std::vector<QuestionForm>& question_forms();

// A form by name, or, when `name` holds {key}, that text itself. Throws Error.
QuestionForm question_form(const std::string& name);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_QUESTION_FORM_H_
