// eidetic eval
#include <CLI/CLI.hpp>

#include "apps/cli/command.h"
#include "apps/cli/eval_continuation_command.h"
#include "apps/cli/eval_conversation_command.h"
#include "apps/cli/eval_needle_command.h"
#include "apps/cli/eval_ppl_command.h"
#include "apps/cli/eval_questions_command.h"
#include "apps/cli/eval_ruler_command.h"
#include "apps/cli/eval_sources_command.h"

namespace eidetic::cli {

void add_eval_commands(CLI::App& app, Action& action) {
  CLI::App* eval_app = app.add_subcommand("eval", "Measure how well memory is recalled");
  eval_app->require_subcommand(1);
  add_examples(*eval_app,
               "  eidetic eval needle --text books/*.txt --lengths 4096,8192\n"
               "  eidetic eval ppl --text books/*.txt --lengths 8192 --score 2048\n"
               "  eidetic eval sources --text books/*.txt --needles 5");
  add_eval_needle_command(*eval_app, action);
  add_eval_ruler_command(*eval_app, action);
  add_eval_ppl_command(*eval_app, action);
  add_eval_continuation_command(*eval_app, action);
  add_eval_sources_command(*eval_app, action);
  add_eval_questions_command(*eval_app, action);
  add_eval_conversation_command(*eval_app, action);
}

}  // namespace eidetic::cli
