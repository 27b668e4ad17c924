#include "apps/cli/ask.h"

namespace eidetic::cli {

std::string ask_preface() {
  return "Some special facts are hidden within the following text. Make sure to memorize it. I "
         "will "
         "quiz you about the facts afterwards.";
}

std::string ask_prompt(const std::string& question) {
  const std::size_t last = question.find_last_not_of(" \t\n");
  const bool asks = last != std::string::npos && question[last] == '?';
  return asks ? "\n" + question + "\nAnswer:" : "\n" + question;
}

std::string ask_stop() {
  return "\n";
}

AskReply ask(const Engine& engine, const Archive& archive, const AskRequest& request,
             const OnText& on_text, const Progress& progress) {
  Session session(engine, request.session);
  for (const std::string& collection : request.collections) session.attach(archive, collection);
  GenerateOptions generate = request.generate;
  if (request.chat) {
    session.append(request.question, {.use_span = true, .role = "user"}, progress);
    generate.assistant_turn = true;
  } else {
    const bool own = request.prompt.empty();
    session.append(ask_preface(), {.use_span = false});
    session.append(own ? ask_prompt(request.question) : request.prompt, {.use_span = true},
                   progress);
    if (generate.stop.empty()) generate.stop = ask_stop();
  }
  AskReply reply;
  reply.answer = session.generate(generate, on_text);
  reply.sources = session.sources(request.sources);
  return reply;
}

}  // namespace eidetic::cli
