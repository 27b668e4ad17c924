#include "apps/cli/application.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "apps/cli/configuration.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/help.h"

namespace eidetic::cli {
namespace {

std::string help_footer() {
  std::string text =
      "\nEnvironment:\n"
      "  EIDETIC_MODEL    the default of --model\n"
      "  EIDETIC_ADAPTER  the default of --adapter\n"
      "  EIDETIC_ARCHIVE  the default of --archive\n"
      "  EIDETIC_CONFIG   the configuration file, in place of the usual one\n"
      "  EIDETIC_CACHE    where hashes of model files are remembered\n"
      "  OMP_NUM_THREADS  threads of the CPU, where --threads says nothing\n"
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

}  // namespace

void build_app(CLI::App& app, Action& action) {
  app.formatter(std::make_shared<HelpFormatter>());
  app.name("eidetic");
  app.footer(help_footer());
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.set_version_flag("--version", "eidetic " + eidetic::version(), "Print the version and exit");
  app.require_subcommand(1);

  const auto of_file = std::make_shared<OptionsOfFile>();
  add_model_commands(app, action);
  add_adapter_commands(app, action);
  add_tune_command(app, action, of_file);
  add_ingest_command(app, action);
  add_ask_command(app, action);
  add_chat_command(app, action);
  add_generate_command(app, action);
  add_sessions_commands(app, action);
  add_memory_commands(app, action);
  add_archive_commands(app, action);
  add_eval_commands(app, action);
  add_bench_command(app, action);
  add_configuration(app, of_file);
}

}  // namespace eidetic::cli
