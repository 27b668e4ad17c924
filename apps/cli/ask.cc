#include "apps/cli/ask.h"

namespace eidetic::cli {

std::string ask_prompt(const std::string& question) {
  return "Question: " + question + "\nAnswer:";
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
