// The command line of eidetic: one subcommand per job, described by --help and docs/cli.md.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "apps/cli/application.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/usage.h"

namespace {

using namespace eidetic::cli;

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

int run_command_line(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  CLI::App app("eidetic: a language model with a memory it can keep");
  Action action;
  build_app(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return flushed(app.exit(success));     // --help, --version
  } catch (const eidetic::Error& error) {  // of the configuration file
    return fail(error, wants_json(chosen_command(app), arguments));
  } catch (const CLI::ParseError& error) {
    if (is_group_alone(app)) {
      std::cout << app.help();
      return flushed(kExitOk);
    }
    return fail(usage_error(app, error), wants_json(chosen_command(app), arguments));
  }
  return flushed(run(action, wants_json(chosen_command(app), arguments)));
}

}  // namespace

int main(int argc, char** argv) {
  install_signal_handlers();
  const int code = run_command_line(argc, argv);
#ifndef __SANITIZE_ADDRESS__  // leaks are looked for at exit
  // All is closed and written; taking LibTorch's tables of operators down would take a third of the
  // time of a short command.
  std::cerr.flush();
  std::fflush(nullptr);
  std::_Exit(code);
#endif
  return code;
}
