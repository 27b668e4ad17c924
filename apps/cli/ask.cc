#include "apps/cli/ask.h"

#include <cctype>
#include <regex>

namespace eidetic::cli {

std::string ask_preface() {
  return "Some special facts are hidden within the following text. Make sure to memorize it. I "
         "will "
         "quiz you about the facts afterwards.";
}

std::string answer_lead(const std::string& question) {
  static const std::regex asks_what_is(
      R"(\s*(?:what|who|where|which)\s+(is|are|was|were)\s+(\S[^?]*?)\s*\?\s*)",
      std::regex::icase | std::regex::optimize);
  std::smatch parts;
  if (!std::regex_match(question, parts, asks_what_is)) return "";
  std::string subject = parts[2];
  subject[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(subject[0])));
  return subject + " " + parts[1].str();
}

std::string ask_prompt(const std::string& question) {
  const std::size_t last = question.find_last_not_of(" \t\n");
  const bool asks = last != std::string::npos && question[last] == '?';
  if (!asks) return "\n" + question;
  const std::string lead = answer_lead(question);
  return "\n" + question + (lead.empty() ? "\nAnswer:" : " " + lead);
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
