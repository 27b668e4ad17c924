// All commands together.
#ifndef EIDETIC_APPS_CLI_APPLICATION_H_
#define EIDETIC_APPS_CLI_APPLICATION_H_

#include "apps/cli/command.h"

namespace eidetic::cli {

// Adds every command to `app`, with what they have in common: help, version, the configuration
// file. The command that is chosen while `app` parses becomes `action`. Parsing throws
// CLI::ParseError, or Error for the configuration file.
void build_app(CLI::App& app, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_APPLICATION_H_
