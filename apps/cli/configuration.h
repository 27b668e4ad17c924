// The configuration file: flags that need not be typed. Its keys are the flags of the commands.
#ifndef EIDETIC_APPS_CLI_CONFIGURATION_H_
#define EIDETIC_APPS_CLI_CONFIGURATION_H_

#include <array>
#include <memory>
#include <set>
#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace eidetic::cli {

// Flags that many commands have. As keys they stand above the tables too, and count for every
// command that has them and says nothing else.
inline constexpr std::array kCommonKeys{"model", "archive", "device", "profile", "threads"};

// Options of the chosen command that have their values from the file.
using OptionsOfFile = std::set<const CLI::Option*>;

// "eidetic/config.toml" in $XDG_CONFIG_HOME, else in ~/.config. Empty when there is neither.
std::string default_configuration_path();

// Adds --config and --no-config to `app` and to its commands, all of which must be there. While
// `app` parses, what the file says is taken for flags of the chosen command that neither the
// command line nor the environment gives. All of the file is checked, whatever the command. What
// was taken is added to `taken`, before the command's action.
//
// `app` then throws Error: EID_NOT_FOUND when a file that was named is not there; with line and
// remedy EID_INVALID_ARGUMENT for what is no TOML, unknown keys, and values that their flags do not
// take.
void add_configuration(CLI::App& app, std::shared_ptr<OptionsOfFile> taken);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CONFIGURATION_H_
