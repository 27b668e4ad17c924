// eidetic eval needle: does a number that was hidden in a text come back?
#ifndef EIDETIC_APPS_CLI_EVAL_NEEDLE_COMMAND_H_
#define EIDETIC_APPS_CLI_EVAL_NEEDLE_COMMAND_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

void add_eval_needle_command(CLI::App& eval_app, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EVAL_NEEDLE_COMMAND_H_
