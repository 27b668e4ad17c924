// The command line of eidetic: one subcommand per job, described by --help and docs/cli.md.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/help.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/usage.h"

namespace {

using namespace eidetic::cli;

std::string help_footer() {
  std::string text =
      "\nEnvironment:\n"
      "  EIDETIC_MODEL    the default of --model\n"
      "  EIDETIC_ARCHIVE  the default of --archive\n"
      "  EIDETIC_CACHE    where hashes of model files are remembered\n"
      "  NO_COLOR         no colours, even on a terminal\n"
      "  COLUMNS          the width to print in, when it is not the terminal's\n"
      "\nExit codes:\n";
  for (const ExitCodeMeaning& entry : kExitCodes) {
    const std::string code = std::to_string(entry.code);
    text += "  " + code + std::string(5 - code.size(), ' ') + entry.meaning + "\n";
  }
  text +=
      "\nExamples:\n"
      "  eidetic ingest book.txt --into books --archive memory.eid --model model.gguf\n"
      "  eidetic ask \"Where does Irene Adler live?\" --from books\n"
      "  eidetic COMMAND --help";
  return text;
}

int fail(const eidetic::Error& error, bool json) {
  if (json) print_json(error_json(error));
  print_error(error.what(), error.remedy());
  return exit_code(error.status());
}

int run(Action& action, bool json) {
  try {
    return action();
  } catch (const eidetic::Error& error) {
    return fail(error, json);
  } catch (const std::bad_alloc&) {
    return fail({EID_OUT_OF_MEMORY, "out of memory",
                 "use a smaller model, a smaller window or a machine with more"},
                json);
  } catch (const std::exception& error) {
    return fail({EID_INTERNAL, error.what()}, json);
  }
}

// Output that could not be written must not pass for output.
int flushed(int code) {
  std::cout.flush();
  if (std::cout || code != kExitOk) return code;
  print_error("standard output could not be written", "check the disk and what reads the output");
  return kExitRuntime;
}

}  // namespace

int main(int argc, char** argv) {
  install_signal_handlers();
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  CLI::App app("eidetic: a language model with a memory it can keep");
  app.formatter(std::make_shared<HelpFormatter>());
  app.name("eidetic");
  app.footer(help_footer());
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.set_version_flag("--version", "eidetic " + eidetic::version(), "Print the version and exit");
  app.require_subcommand(1);

  Action action;
  add_model_commands(app, action);
  add_ingest_command(app, action);
  add_ask_command(app, action);
  add_chat_command(app, action);
  add_generate_command(app, action);
  add_sessions_commands(app, action);
  add_memory_commands(app, action);
  add_eval_commands(app, action);
  add_bench_command(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return flushed(app.exit(success));  // --help, --version
  } catch (const CLI::ParseError& error) {
    if (is_group_alone(app)) {
      std::cout << app.help();
      return flushed(kExitOk);
    }
    return fail(usage_error(app, error), wants_json(chosen_command(app), arguments));
  }
  return flushed(run(action, wants_json(chosen_command(app), arguments)));
}
