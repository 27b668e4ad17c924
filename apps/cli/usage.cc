#include "apps/cli/usage.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "apps/cli/help.h"

namespace eidetic::cli {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

// The option that CLI11's message is about, which has its name in front or after "convert: ".
std::string option_named_in(const std::string& message) {
  const std::string convert = "Could not convert: ";
  if (message.rfind(convert, 0) == 0) {
    return message.substr(convert.size(), message.find(" = ") - convert.size());
  }
  return message.substr(0, message.find(": "));
}

Error with_help(const std::string& message, const std::string& remedy, const std::string& name) {
  return {EID_INVALID_ARGUMENT, message,
          (remedy.empty() ? "" : remedy + "; ") + "see: " + name + " --help"};
}

// Words that no option or command takes.
Error stray_words(const CLI::App& command, const std::string& name,
                  const std::vector<std::string>& rest) {
  const auto option = std::find_if(rest.begin(), rest.end(), [](const std::string& word) {
    return word.size() > 1 && word[0] == '-';
  });
  if (option != rest.end()) return with_help("'" + *option + "' is no option of " + name, "", name);
  if (!command.get_subcommands({}).empty()) {
    return with_help("'" + rest.front() + "' is no command of " + name, "", name);
  }
  return with_help("'" + rest.front() + "' is one argument too many for " + name,
                   "a text of several words stands in quotes", name);
}

}  // namespace

std::string full_command_name(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent ? full_command_name(*parent) + " " + command.get_name() : command.get_name();
}

const CLI::App& chosen_command(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : chosen_command(*commands.front());
}

bool is_group_alone(const CLI::App& app) {
  return !chosen_command(app).get_subcommands({}).empty() &&
         app.remaining(/*recurse=*/true).empty();
}

bool wants_json(const CLI::App& command, const std::vector<std::string>& arguments) {
  const CLI::Option* option = command.get_option_no_throw("--json");
  if (option && option->count() > 0) {
    const bool is_flag = option->get_type_name().empty();
    return is_flag || option->results().front().empty();  // else it names a file
  }
  return std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
}

Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = chosen_command(app);
  const std::string name = full_command_name(command);
  // CLI11 misses a command or an argument before it looks at what stands in its place.
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  if (!rest.empty()) return stray_words(command, name, rest);

  const std::string message = error.what();
  const std::string option_name = option_named_in(message);
  const CLI::Option* option = command.get_option_no_throw(option_name);
  if (option == nullptr) return with_help(message, "", name);
  const std::string allowed = allowed_values(*option);
  const std::string takes = allowed.empty() ? "" : "it takes " + allowed;
  if (error.get_name() == "ArgumentMismatch") {
    if (option->count() > 1) {
      return with_help(option_name + " is given " + std::to_string(option->count()) +
                           " times, as '" + joined(option->results()) + "'",
                       "give it once", name);
    }
    return with_help(option_name + " needs a value", takes, name);
  }
  if (allowed.empty()) return with_help(message, "", name);
  return with_help(option_name + " does not take '" + joined(option->results()) + "'", takes, name);
}

}  // namespace eidetic::cli
