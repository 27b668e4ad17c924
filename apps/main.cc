// The command line of eidetic: one subcommand per job, described by --help and docs/cli.md.
#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"

namespace {

using namespace eidetic::cli;

std::string help_footer() {
  std::string text =
      "\nEnvironment:\n"
      "  EIDETIC_MODEL    the default of --model\n"
      "  EIDETIC_ARCHIVE  the default of --archive\n"
      "  NO_COLOR         no colours, even on a terminal\n"
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

int run(Action& action) {
  try {
    return action();
  } catch (const eidetic::Error& error) {
    print_error(error.what(), error.remedy());
    return exit_code(error.status());
  } catch (const std::bad_alloc&) {
    print_error("out of memory", "use a smaller model, a smaller window or a machine with more");
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  return kExitRuntime;
}

// CLI11 names the option; the remedy names the command whose help to read.
int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = "eidetic";
  for (const CLI::App* at = &app;;) {
    const auto chosen = at->get_subcommands();
    if (chosen.empty()) break;
    at = chosen.front();
    command += " " + at->get_name();
  }
  // CLI11 misses the subcommand before it looks at what stands in its place.
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  const bool unknown = error.get_name() == "RequiredError" && !rest.empty() &&
                       !rest.front().empty() && rest.front()[0] != '-';
  print_error(unknown ? "'" + rest.front() + "' is no command of " + command : error.what(),
              "see: " + command + " --help");
  return kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  install_interrupt_handler();
  CLI::App app("eidetic: a language model with a memory it can keep");
  app.name("eidetic");
  app.footer(help_footer());
  app.set_version_flag("--version", "eidetic " + eidetic::version());
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);

  Action action;
  add_model_commands(app, action);
  add_ingest_command(app, action);
  add_ask_command(app, action);
  add_generate_command(app, action);
  add_sessions_commands(app, action);
  add_memory_commands(app, action);
  add_eval_commands(app, action);
  add_bench_command(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);  // --help, --version
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  return run(action);
}
