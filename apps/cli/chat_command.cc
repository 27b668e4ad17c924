// eidetic chat
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <iostream>

#include "apps/cli/characters.h"
#include "apps/cli/chat_input.h"
#include "apps/cli/chat_slash.h"
#include "apps/cli/command.h"
#include "apps/cli/conversation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/forget_report.h"
#include "apps/cli/input_history.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/line_editor.h"
#include "apps/cli/name_check.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct ChatFlags : AnswerFlags {
  std::string session = "chat", system;
  std::vector<std::string> collections;
  bool memory_off = false, no_history = false, json = false;
  CLI::Option* system_given = nullptr;

  ConversationOptions conversation() const {
    ConversationOptions options;
    options.session = session;
    options.collections = collections;
    options.system = system;
    options.attention = span.session_options(EID_ATTENTION_STREAM);
    // As for `ask`: docs/decisions/061.
    if (options.attention.policy == EID_RECALL_DEFAULT) options.attention.policy = EID_RECALL_BOTH;
    options.generate = sampling.options();
    options.memory_off = memory_off;
    options.on_reading_again = [](std::uint64_t turns, std::uint64_t tokens) {
      print_note("eidetic: something was forgotten; reading " + counted(turns, "later turn") +
                 " again, " + counted(tokens, "token"));
    };
    return options;
  }
};

json report(const std::string& message, const Exchange& exchange,
            const Conversation& conversation) {
  return {{"event", "turn"},
          {"session", conversation.session()},
          {"turn", exchange.turn.turn},
          {"message", message},
          {"answer", exchange.answer.text},
          {"stop", stop_reason_name(exchange.answer.reason)},
          {"tokens", exchange.answer.tokens},
          {"seconds", exchange.answer.seconds},
          {"first_token_seconds", exchange.answer.first_token_seconds},
          {"turn_tokens", exchange.turn.tokens},
          {"commit_bytes", exchange.turn.bytes},
          {"commit_seconds", exchange.turn.seconds}};
}

// One chat, from the first line to the last.
class Chat {
 public:
  Chat(const ChatFlags& flags, Conversation& conversation, ChatInput& input, bool on_terminal)
      : flags_(flags), conversation_(conversation), input_(input), on_terminal_(on_terminal) {}

  // The exit code: on a terminal 0; of a script that of the first line that failed.
  int run() {
    for (;;) {
      if (told_to_end()) return kExitInterrupted;
      std::string message;
      const InputResult got = read_message(input_, conversation_.session() + "> ", message);
      if (got == InputResult::kEnd) return end();
      if (got == InputResult::kCancelled) {
        if (!on_terminal_) return stopped();
        go_on_after_interrupt();
        continue;
      }
      if (message.find_first_not_of(" \t\n") == std::string::npos) continue;
      if (!take(message)) return end();
      if (interrupted()) {
        if (!on_terminal_) return stopped();
        go_on_after_interrupt();
      }
    }
  }

 private:
  // False: the chat is over.
  bool take(const std::string& message) {
    try {
      check_text(message, "the message");
      json told;
      if (is_slash_command(message)) {
        told = run_slash_command(conversation_, message, !flags_.json);
        if (!told.contains("event")) return false;
      } else {
        told = say(unprotected(message));
      }
      if (flags_.json) {
        print_json(told);
      }
      std::cout << std::flush;
    } catch (const Error& error) {
      fail(error);
    }
    return true;
  }

  json say(const std::string& message) {
    constexpr std::size_t kLong = 4000;  // bytes that take long enough to read for a bar
    ProgressMeter meter("message", "tokens", !on_terminal_ || message.size() < kLong);
    const OnText stream = [&](std::string_view piece) {
      meter.clear();
      if (!flags_.json) std::cout << model_text(piece) << std::flush;
      return !interrupted();
    };
    const Exchange exchange = conversation_.say(message, stream, progress_of(meter));
    if (!flags_.json) {
      std::cout << "\n";
      if (on_terminal_) print_end_of(exchange);
    }
    return report(message, exchange, conversation_);
  }

  // What a reader of an answer that does not end by itself wonders about.
  static void print_end_of(const Exchange& exchange) {
    std::string note;
    if (exchange.answer.reason == EID_STOP_CALLER) {
      note = "stopped; what was said is kept as turn " + std::to_string(exchange.turn.turn);
    } else if (exchange.answer.reason == EID_STOP_LIMIT) {
      note = "stopped after " + std::to_string(exchange.answer.tokens) + " tokens (--max-tokens)";
    }
    if (!note.empty()) std::cout << styled("[" + note + "]", Style::kDim) << "\n";
  }

  void fail(const Error& error) {
    if (error.status() == EID_CANCELLED && on_terminal_) {
      std::cout << styled("[stopped while reading; the message is dropped]", Style::kDim) << "\n";
      return;
    }
    if (code_ == kExitOk) code_ = exit_code(error.status());
    if (flags_.json) print_json(error_json(error));
    std::cout << std::flush;
    print_error(error.what(), error.remedy());
  }

  int stopped() const {
    print_error("stopped by Ctrl-C", "session '" + conversation_.session() + "' stands at turn " +
                                         std::to_string(conversation_.turns()));
    return kExitInterrupted;
  }

  int end() const { return on_terminal_ ? static_cast<int>(kExitOk) : code_; }

  const ChatFlags& flags_;
  Conversation& conversation_;
  ChatInput& input_;
  bool on_terminal_;
  int code_ = kExitOk;
};

// Where it goes on: what was said last.
void print_beginning(const Conversation& conversation, const Archive& archive) {
  constexpr std::size_t kExcerpt = 72;
  std::string standing = "a new conversation";
  if (conversation.turns() > 0) {
    standing = "goes on after turn " + std::to_string(conversation.turns());
    const json told = parse_json(archive.export_session(conversation.session(), EID_EXPORT_JSON));
    for (const json& part : told.at("turn_list").back().at("parts")) {
      const std::string role = part.value("role", "");
      standing += "\n  " + (role.empty() ? "text" : role) + ": " +
                  one_line(part.value("text", ""), kExcerpt);
    }
  }
  std::cout << styled("session '" + printable(conversation.session()) + "': " + standing +
                          "\n/help lists the commands",
                      Style::kDim)
            << std::endl;
}

int run_chat(const ChatFlags& flags) {
  if (flags.session.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "--session is empty", "give the session a name");
  }
  if (flags.system_given->count() > 0) check_text(flags.system, "--system");
  Archive archive = flags.archive.open_to_write(/*create=*/true);
  const Engine engine = flags.model.load();
  Conversation conversation(engine, archive, flags.conversation());
  if (conversation.turns() > 0 && flags.system_given->count() > 0) {
    print_note("eidetic: session '" + flags.session +
               "' has begun already: --system is for a new one");
  }
  const bool on_terminal = ::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO) && !flags.json;
  if (!on_terminal) {
    ScriptInput input(STDIN_FILENO);
    return Chat(flags, conversation, input, on_terminal).run();
  }
  say_nothing_when_interrupted();
  LineEditor input(flags.no_history ? "" : state_file("chat-history"));
  print_beginning(conversation, archive);
  return Chat(flags, conversation, input, on_terminal).run();
}

}  // namespace

void add_chat_command(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* c = app.add_subcommand("chat", "Talk, in a conversation that goes on tomorrow");
  c->add_option("--session", flags->session, "Goes on with this conversation, or begins it")
      ->capture_default_str()
      ->type_name("NAME");
  c->add_option("--attach,--from", flags->collections,
                "A collection to recall from; repeat for several")
      ->type_name("NAME")
      ->check(name_check("a collection's name"))
      ->take_all()
      ->allow_extra_args(false);
  flags->system_given =
      c->add_option("--system", flags->system, "What a new conversation begins with: who answers")
          ->type_name("TEXT");
  c->add_flag("--memory-off", flags->memory_off, "No recall");
  add_json_flag(*c, flags->json);
  flags->add(*c);
  add_examples(
      *c,
      "  eidetic chat --archive memory.eid --model model.gguf\n"
      "  eidetic chat --session holmes --attach books\n"
      "  eidetic chat --session cook --system \"You are a cook. Answer in one sentence.\"\n"
      "  printf 'Who are you?\\n/why\\n' | eidetic chat --json | jq -r .event");
  c->callback([flags, &action] { action = [flags] { return run_chat(*flags); }; });
}

}  // namespace eidetic::cli
