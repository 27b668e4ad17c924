// eidetic ask QUESTION --from COLLECTION
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "apps/cli/ask.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

struct AskFlags : AnswerFlags {
  std::string question;
  std::vector<std::string> collections;
  std::size_t sources = 5;
  bool chat = false, json = false;
};

void print_sources(const std::vector<Passage>& sources, bool name_collections) {
  if (sources.empty()) {
    std::cout << "\n" << styled("no passage of memory served this answer", Style::kDim) << "\n";
    return;
  }
  std::cout << "\n" << styled("Sources", Style::kBold) << "\n";
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const Passage& p = sources[i];
    const std::string name = p.source.empty() ? "this session" : p.source;
    print_passage(i + 1, p, (name_collections ? p.collection + ": " : "") + name,
                  std::string("by ") + reason_of(p) + ", " + fixed(100 * p.attention, 1) +
                      " % of attention, " + fixed(100 * p.focus, 1) + " % in layer " +
                      std::to_string(p.focus_layer));
  }
}

nlohmann::json report(const AskFlags& flags, const AskRequest& request, const AskReply& reply) {
  nlohmann::json sources = nlohmann::json::array();
  for (const Passage& passage : reply.sources) sources.push_back(to_json(passage));
  return {{"question", flags.question},
          {"collections", request.collections},
          {"answer", reply.answer.text},
          {"stop", stop_reason_name(reply.answer.reason)},
          {"tokens", reply.answer.tokens},
          {"seconds", reply.answer.seconds},
          {"first_token_seconds", reply.answer.first_token_seconds},
          {"sources", sources}};
}

int run_ask(const AskFlags& flags) {
  check_text(flags.question, "the question");
  Archive archive = flags.archive.open_to_read();
  AskRequest request;
  request.question = flags.question;
  request.collections = collections_to_ask(archive, flags.collections);
  request.chat = flags.chat;
  request.session = flags.span.session_options(EID_ATTENTION_STREAM);
  request.generate = flags.sampling.options();
  request.sources = flags.sources;
  Engine engine = flags.model.load();

  bool begun = false;  // the blank between question and answer is nothing to show
  const OnText stream = [&](std::string_view piece) {
    if (!begun) piece.remove_prefix(std::min(piece.find_first_not_of(" \n"), piece.size()));
    begun |= !piece.empty();
    if (!flags.json) std::cout << model_text(piece) << std::flush;
    return !interrupted();
  };
  const Progress progress = [](const eid_progress&) { return !interrupted(); };
  const AskReply reply = ask(engine, archive, request, stream, progress);
  if (flags.json) {
    print_json(report(flags, request, reply));
  } else {
    std::cout << "\n";
    if (flags.sources > 0) print_sources(reply.sources, request.collections.size() > 1);
  }
  return reply.answer.reason == EID_STOP_CALLER ? kExitInterrupted : kExitOk;
}

}  // namespace

void add_ask_command(CLI::App& app, Action& action) {
  auto flags = std::make_shared<AskFlags>();
  flags->sampling.max_tokens = 128;
  CLI::App* c = app.add_subcommand("ask", "Answer a question from memory, with its sources");
  c->add_option("QUESTION", flags->question, "The question")->required();
  add_collections_flag(*c, flags->collections,
                       "A collection to ask; repeat for several; default: the archive's only one");
  c->add_option("--sources", flags->sources, "Passages to show under the answer")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str()
      ->type_name("N");
  c->add_flag("--chat,!--no-chat", flags->chat,
              "Ask by the model's chat template; default: plain continuation");
  add_json_flag(*c, flags->json);
  flags->add(*c);
  add_examples(*c,
               "  eidetic ask \"Where does Irene Adler live?\" --from books\n"
               "  eidetic ask \"Who wrote the letter?\" --from books --from notes --sources 3\n"
               "  eidetic ask \"Where does Irene Adler live?\" --policy words\n"
               "  eidetic ask \"Who wrote the letter?\" --json | jq .answer");
  c->callback([flags, &action] { action = [flags] { return run_ask(*flags); }; });
}

}  // namespace eidetic::cli
