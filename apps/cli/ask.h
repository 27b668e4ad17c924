// How a question is put to an archive: what `ask` and `eval sources` do.
#ifndef EIDETIC_APPS_CLI_ASK_H_
#define EIDETIC_APPS_CLI_ASK_H_

#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

struct AskRequest {
  std::string question;
  std::string context{};  // when not empty: text that is read before the question, not recalled
  std::string prompt{};   // when not empty: read as it is, instead of ask_prompt(question)
  std::vector<std::string> collections{};
  bool chat = false;  // by the model's chat template instead of plain continuation
  SessionOptions session;
  GenerateOptions generate;
  std::size_t sources = 5;  // passages wanted; 0: none
};

struct AskReply {
  Answer answer;
  std::vector<Passage> sources;
  double first_text_seconds = 0;  // from the first token read to the first text, or to an empty end
  double seconds = 0;             // to the last
};

// What is read before anything is recalled: it tells the model that a text comes whose details
// matter, and its tokens are the session's sinks, so that the span stands between it and the
// question as a text would. Without it a model takes the span for a story to go on with
// (docs/decisions/053).
std::string ask_preface();
// The beginning of the answer to a question such as "What is X?" or "Who was X?": "X is". A small
// model goes on from there with what the span says of X, where after a bare cue it often answers
// out of any passage of that form. Empty for other questions.
std::string answer_lead(const std::string& question);
// The prompt for plain continuation: the question, and a cue to answer when it ends in a question
// mark; other text is simply gone on with. The one place that decides its form.
std::string ask_prompt(const std::string& question);
// Text that shows that the model goes on to invent the next question.
std::string ask_stop();

// Reads what stands before every question, as a program does when it begins: the engine keeps the
// state (eid_append_options::keep_beginning), so that the first question need not wait for it.
void read_preface(const Engine& engine, const SessionOptions& options);

// Asks in a fresh session in RAM with only the question in it: all else comes from memory.
AskReply ask(const Engine& engine, const Archive& archive, const AskRequest& request,
             const OnText& on_text = {}, const Progress& progress = {});

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_ASK_H_
