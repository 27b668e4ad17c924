#include "apps/cli/ask.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <initializer_list>
#include <string_view>

namespace eidetic::cli {

std::string ask_preface() {
  return "Some special facts are hidden within the following text. Make sure to memorize it. I "
         "will "
         "quiz you about the facts afterwards.";
}

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

constexpr const char* kWhite = " \t\r\n";

// Takes the first word off `text`, and the white space around it.
std::string_view take_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(kWhite), text.size()));
  const std::size_t end = std::min(text.find_first_of(kWhite), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  text.remove_prefix(std::min(text.find_first_not_of(kWhite), text.size()));
  return word;
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(), [&](std::string_view known) {
    return word.size() == known.size() &&
           std::equal(word.begin(), word.end(), known.begin(), [](char a, char b) {
             return std::tolower(static_cast<unsigned char>(a)) == b;
           });
  });
}

}  // namespace

std::string answer_lead(const std::string& question) {
  std::string_view rest = question;
  if (!is_one_of(take_word(rest), {"what", "who", "where", "which"})) return "";
  const std::string_view verb = take_word(rest);
  if (!is_one_of(verb, {"is", "are", "was", "were"})) return "";
  // The question mark that ends it, and no other: one question, not two.
  const std::size_t mark = rest.find('?');
  if (mark == std::string_view::npos ||
      rest.find_first_not_of(kWhite, mark + 1) != std::string_view::npos) {
    return "";
  }
  rest = rest.substr(0, mark);
  if (rest.empty()) return "";
  std::string subject(rest.substr(0, rest.find_last_not_of(kWhite) + 1));
  subject[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(subject[0])));
  return subject + " " + std::string(verb);
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

void read_preface(const Engine& engine, const SessionOptions& options) {
  Session session(engine, options);
  session.append(ask_preface(), {.use_span = false, .keep_beginning = true});
}

AskReply ask(const Engine& engine, const Archive& archive, const AskRequest& request,
             const OnText& on_text, const Progress& progress) {
  SessionOptions options = request.session;
  // Words find what a question is about where a small model's attention does not, and cost
  // attention nothing: docs/decisions/061.
  if (options.policy == EID_RECALL_DEFAULT) options.policy = EID_RECALL_BOTH;
  Session session(engine, options);
  for (const std::string& collection : request.collections) session.attach(archive, collection);
  GenerateOptions generate = request.generate;
  const auto begin = Clock::now();
  if (request.chat) {
    session.append(request.context + request.question,
                   {.use_span = true, .role = "user", .words = request.question}, progress);
    generate.assistant_turn = true;
  } else {
    const bool own = request.prompt.empty();
    // Only the preface is the same every time.
    session.append(ask_preface() + request.context,
                   {.use_span = false, .keep_beginning = request.context.empty()});
    session.append(own ? ask_prompt(request.question) : request.prompt,
                   {.use_span = true, .words = request.question}, progress);
    if (generate.stop.empty()) generate.stop = ask_stop();
  }
  AskReply reply;
  reply.answer = session.generate(generate, [&](std::string_view piece) {
    if (reply.first_text_seconds == 0) reply.first_text_seconds = seconds_since(begin);
    return !on_text || on_text(piece);
  });
  reply.seconds = seconds_since(begin);
  if (reply.first_text_seconds == 0) reply.first_text_seconds = reply.seconds;
  if (request.sources > 0) reply.sources = session.sources(request.sources);
  return reply;
}

}  // namespace eidetic::cli
