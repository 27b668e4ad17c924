// eidetic eval ppl: perplexity of whole books by length and mode.
#ifndef EIDETIC_APPS_CLI_EVAL_PPL_COMMAND_H_
#define EIDETIC_APPS_CLI_EVAL_PPL_COMMAND_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

void add_eval_ppl_command(CLI::App& eval_app, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EVAL_PPL_COMMAND_H_
