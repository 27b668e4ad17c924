// eidetic generate
#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>

#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/name_check.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/common/attention_mode.h"

namespace eidetic::cli {
namespace {

struct GenerateFlags : AnswerFlags {
  std::string prompt, file, session, turn_name, mode = "stream";
  std::vector<std::string> collections;
  bool use_span = false, memory_off = false, chat = false, json = false;
  CLI::Option* prompt_given = nullptr;
};

std::string prompt_text(const GenerateFlags& flags) {
  if (!flags.file.empty()) return read_text_file(flags.file);
  const bool given = flags.prompt_given->count() > 0;
  std::string text = given ? flags.prompt : read_standard_input();
  if (text.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "the prompt is empty: zero tokens cannot be continued",
                "pass --prompt TEXT, --file FILE, or text on standard input");
  }
  check_text(text, given ? "the prompt" : "standard input");
  return text;
}

Session open_or_create(const GenerateFlags& flags, const Engine& engine,
                       const std::optional<Archive>& archive) {
  const SessionOptions options = flags.span.session_options(apps::parse_mode(flags.mode));
  if (flags.session.empty()) return Session(engine, options);
  try {
    ProgressMeter meter("opening " + flags.session, "tokens");
    return Session::open(engine, *archive, flags.session, progress_of(meter));
  } catch (const Error& error) {
    if (error.status() != EID_NOT_FOUND) throw;
  }
  return Session(engine, options, *archive, flags.session);
}

std::optional<Archive> open_archive(const GenerateFlags& flags) {
  if (!flags.session.empty()) return flags.archive.open_to_write(/*create=*/true);
  if (!flags.collections.empty()) return flags.archive.open_to_read();
  return std::nullopt;
}

int run_generate(const GenerateFlags& flags) {
  const std::string prompt = prompt_text(flags);
  const std::optional<Archive> archive = open_archive(flags);
  const Engine engine = flags.model.load();
  Session session = open_or_create(flags, engine, archive);
  for (const std::string& name : flags.collections) session.attach(*archive, name);

  int code = kExitOk;
  Answer answer;
  try {
    ProgressMeter meter("prompt", "tokens");
    session.append(prompt, {.use_span = flags.use_span, .role = flags.chat ? "user" : ""},
                   progress_of(meter));
    meter.clear();
    GenerateOptions options = flags.sampling.options();
    options.memory_off = flags.memory_off;
    options.assistant_turn = flags.chat;
    answer = session.generate(options, [&](std::string_view piece) {
      if (!flags.json) std::cout << model_text(piece) << std::flush;
      return !interrupted();
    });
    if (answer.reason == EID_STOP_CALLER) code = kExitInterrupted;
  } catch (const Error& error) {
    // What was read is part of the session: keep it, as after any other stop.
    if (error.status() != EID_CANCELLED) throw;
    code = kExitInterrupted;
  }
  eid_commit_result turn = {};
  if (!flags.session.empty()) turn = session.commit(flags.turn_name);
  if (flags.json) {
    nlohmann::json told = {{"text", answer.text},
                           {"stop", code ? "interrupted" : stop_reason_name(answer.reason)},
                           {"tokens", answer.tokens},
                           {"seconds", answer.seconds},
                           {"first_token_seconds", answer.first_token_seconds},
                           {"session", parse_json(session.info())}};
    if (!flags.session.empty()) {
      told["turn"] = {{"turn", turn.turn},
                      {"tokens", turn.tokens},
                      {"bytes", turn.bytes},
                      {"seconds", turn.seconds}};
    }
    print_json(told);
  } else {
    std::cout << std::endl;
  }
  if (code == kExitInterrupted) {
    print_error("stopped by Ctrl-C",
                flags.session.empty()
                    ? ""
                    : "what was read and written is kept in session '" + flags.session + "'");
  }
  return code;
}

}  // namespace

void add_generate_command(CLI::App& app, Action& action) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* c = app.add_subcommand("generate", "Continue a text, in a session that can be kept");
  flags->prompt_given =
      c->add_option("-p,--prompt", flags->prompt, "The text to continue; default: standard input")
          ->type_name("TEXT");
  c->add_option("-f,--file", flags->file, "A file with the text to continue")
      ->type_name("FILE")
      ->excludes(flags->prompt_given);
  c->add_option("--session", flags->session,
                "Open this session of the archive, or begin it; this becomes its next turn")
      ->type_name("NAME")
      ->check(name_check("a session's name"));
  c->add_option("--turn-name", flags->turn_name, "A name for that turn, to go back to")
      ->type_name("NAME")
      ->needs("--session");
  add_collections_flag(*c, flags->collections, "A collection to recall from; repeat for several");
  c->add_option("--mode", flags->mode, "Attention of a new session: stream, window, full, random")
      ->check(CLI::IsMember(apps::attention_mode_names()))
      ->capture_default_str()
      ->type_name("NAME");
  c->add_flag("--use-span", flags->use_span, "Recall memory while reading the prompt too");
  c->add_flag("--memory-off", flags->memory_off, "No recall for this answer");
  c->add_flag("--chat", flags->chat, "The prompt is a user's turn by the model's chat template");
  add_json_flag(*c, flags->json);
  flags->add(*c);
  add_examples(*c,
               "  eidetic generate --prompt \"Once upon a time\" --max-tokens 40\n"
               "  eidetic generate --file chapter.txt --temperature 0.8 --top-p 0.9 --seed 7\n"
               "  eidetic generate --session diary --archive memory.eid --prompt \"Dear diary,\"\n"
               "  eidetic generate --session diary --turn-name arrival -p \"We have arrived.\"\n"
               "  cat chapter.txt | eidetic generate --mode window");
  c->callback([flags, &action] { action = [flags] { return run_generate(*flags); }; });
}

}  // namespace eidetic::cli
