// What the user meant: the command that was chosen, and what is wrong with a command line.
#ifndef EIDETIC_APPS_CLI_USAGE_H_
#define EIDETIC_APPS_CLI_USAGE_H_

#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace eidetic::cli {

// "eidetic eval needle"
std::string full_command_name(const CLI::App& command);

// The innermost command that was named; `app` itself when none was.
const CLI::App& chosen_command(const CLI::App& app);

// A group of commands and nothing else, such as `eidetic memory`: the user looks for what there is.
bool is_group_alone(const CLI::App& app);

// Whether standard output is to hold JSON. Where parsing went wrong before --json was reached, the
// word among `arguments` counts.
bool wants_json(const CLI::App& command, const std::vector<std::string>& arguments);

// The message names the option and the value, the remedy what is allowed and whose help to read.
Error usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_USAGE_H_
