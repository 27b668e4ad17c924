// The configuration file: flags that need not be typed. Its keys are the flags of the commands.
#ifndef EIDETIC_APPS_CLI_CONFIGURATION_H_
#define EIDETIC_APPS_CLI_CONFIGURATION_H_

#include <array>
#include <string>

namespace CLI {
class App;
}

namespace eidetic::cli {

// Flags that many commands have. As keys they stand above the tables too, and count for every
// command that has them and says nothing else.
inline constexpr std::array kCommonKeys{"model", "archive", "device", "profile", "threads"};

// "eidetic/config.toml" in $XDG_CONFIG_HOME, else in ~/.config. Empty when there is neither.
std::string default_configuration_path();

// Adds --config and --no-config to `app` and to its commands, all of which must be there. While
// `app` parses, what the file says is taken for flags of the chosen command that neither the
// command line nor the environment gives. All of the file is checked, whatever the command.
//
// `app` then throws Error: EID_NOT_FOUND when a file that was named is not there; with line and
// remedy EID_INVALID_ARGUMENT for what is no TOML, unknown keys, and values that their flags do not
// take.
void add_configuration(CLI::App& app);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CONFIGURATION_H_
