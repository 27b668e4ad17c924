// eidetic eval continuation: what the memory of a book's beginning is worth for its end.
#ifndef EIDETIC_APPS_CLI_EVAL_CONTINUATION_COMMAND_H_
#define EIDETIC_APPS_CLI_EVAL_CONTINUATION_COMMAND_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

void add_eval_continuation_command(CLI::App& eval_app, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EVAL_CONTINUATION_COMMAND_H_
