// eidetic eval sources: does `ask` name the right passage?
#ifndef EIDETIC_APPS_CLI_EVAL_SOURCES_COMMAND_H_
#define EIDETIC_APPS_CLI_EVAL_SOURCES_COMMAND_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

void add_eval_sources_command(CLI::App& eval_app, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EVAL_SOURCES_COMMAND_H_
