// eidetic eval ruler: RULER's thirteen tasks.
#ifndef EIDETIC_APPS_CLI_EVAL_RULER_COMMAND_H_
#define EIDETIC_APPS_CLI_EVAL_RULER_COMMAND_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

void add_eval_ruler_command(CLI::App& eval_app, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EVAL_RULER_COMMAND_H_
