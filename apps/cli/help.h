// How --help looks, and what an option takes in words.
#ifndef EIDETIC_APPS_CLI_HELP_H_
#define EIDETIC_APPS_CLI_HELP_H_

#include <CLI/CLI.hpp>
#include <string>

namespace eidetic::cli {

// Names on the left; on the right the description, with what is allowed, the default and the
// variable of the environment in parentheses, broken to the width of the output.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

// What stands for an option's value under --help: "N", "FILE"; empty for a flag.
std::string placeholder_of(const CLI::Option& option);

// What an option takes, as its placeholder says; a list is what its values are.
enum class ValueKind { kNone, kWhole, kNumber, kText };
ValueKind value_kind(const CLI::Option& option);

// "a whole number, 0 to 1000" or "int8 or fp16"; empty when anything may stand there.
std::string allowed_values(const CLI::Option& option);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_HELP_H_
