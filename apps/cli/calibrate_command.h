#ifndef EIDETIC_APPS_CLI_CALIBRATE_COMMAND_H_
#define EIDETIC_APPS_CLI_CALIBRATE_COMMAND_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

void add_calibrate_command(CLI::App& model, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CALIBRATE_COMMAND_H_
