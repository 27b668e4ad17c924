#include "apps/cli/help.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "apps/cli/characters.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

constexpr std::size_t kIndent = 2, kNames = 30, kLeastText = 40, kMostColumns = 100;
// Bounds from here on are there for safety alone: nobody needs to be told.
constexpr double kNoBound = 1 << 16;

// CLI11 has the placeholder and the checks in one string: "N:INT in [0 - 1000]",
// "NAME:{int8,fp16}".
struct TypeName {
  std::string placeholder, check;
};
TypeName type_of(const CLI::Option& option) {
  if (option.get_type_size() == 0) return {};  // a flag
  const std::string whole = option.get_type_name();
  const std::size_t colon = whole.find(':');
  if (colon == std::string::npos) return {whole, ""};
  return {whole.substr(0, colon), whole.substr(colon + 1)};
}

std::string without(std::string text, std::string_view part) {
  const std::size_t at = text.find(part);
  return at == std::string::npos ? text : text.erase(at, part.size());
}

// "[0 - 1000]" as "0 to 1000", or "0 or more"; empty for another check. With a value `given` above
// a bound that is as good as none, the bound is told.
std::string range_of(const std::string& check, double given = 0) {
  if (check == "NONNEGATIVE") return "0 or more";
  if (check == "POSITIVE") return "more than 0";
  const std::size_t open = check.find('['), dash = check.find(" - ", open);
  if (open == std::string::npos || dash == std::string::npos) return "";
  const std::string first = check.substr(open + 1, dash - open - 1);
  const std::string last = check.substr(dash + 3, check.find(']', dash) - dash - 3);
  const double bound = std::stod(last);
  return bound >= kNoBound && given <= bound ? first + " or more" : first + " to " + last;
}

// "{int8,fp16}" as "int8 or fp16"; empty for another check.
std::string members_of(const std::string& check) {
  if (check.size() < 2 || check.front() != '{') return "";
  std::string members = check.substr(1, check.find('}') - 1);
  const std::size_t last = members.rfind(',');
  if (last != std::string::npos) members.replace(last, 1, " or ");
  for (std::size_t at = 0; (at = members.find(',', at)) != std::string::npos; at += 2) {
    members.replace(at, 1, ", ");
  }
  return members;
}

std::string names_of(const CLI::Option& option, bool is_positional) {
  std::string names = is_positional ? option.get_name(true, false) : option.get_name(false, true);
  names = without(names, "{false}");
  for (std::size_t at = 0; (at = names.find(',', at)) != std::string::npos; at += 2) {
    names.replace(at, 1, ", ");
  }
  return names;
}

std::string line_of(const std::string& names, const std::string& text) {
  const std::size_t columns = std::min(output_columns(), kMostColumns);
  // A narrow output has the text under the names.
  const std::size_t indent = columns >= kNames + kLeastText ? kNames : 3 * kIndent;
  std::string line = std::string(kIndent, ' ') + names;
  std::string lines = wrapped(text, indent, columns);
  if (indent == kNames && line.size() + 1 < kNames && !lines.empty()) {
    return line + lines.substr(line.size());
  }
  return line + "\n" + lines;
}

}  // namespace

std::string placeholder_of(const CLI::Option& option) {
  return type_of(option).placeholder;
}

ValueKind value_kind(const CLI::Option& option) {
  const std::string placeholder = placeholder_of(option);
  if (placeholder.empty()) return ValueKind::kNone;
  const std::string first = placeholder.substr(0, placeholder.find(','));
  if (first == "N") return ValueKind::kWhole;
  const bool number = first == "X" || first == "SHARE" || first == "NATS";
  return number ? ValueKind::kNumber : ValueKind::kText;
}

std::string allowed_values(const CLI::Option& option) {
  double given = 0;
  for (const std::string& value : option.results()) {
    given = std::max(given, std::strtod(value.c_str(), nullptr));
  }
  const TypeName type = type_of(option);
  if (const std::string members = members_of(type.check); !members.empty()) return members;
  const std::string range = range_of(type.check, given);
  const bool several = type.placeholder.find(',') != std::string::npos;
  std::string kind;
  if (value_kind(option) == ValueKind::kWhole) kind = several ? "whole numbers" : "a whole number";
  if (value_kind(option) == ValueKind::kNumber) kind = several ? "numbers" : "a number";
  return kind.empty() || range.empty() ? kind + range : kind + ", " + range;
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string name,
                                     CLI::AppFormatMode mode) const {
  std::string help = CLI::Formatter::make_help(app, std::move(name), mode);
  for (std::size_t at = 0; (at = help.find("\n\n\n", at)) != std::string::npos;) help.erase(at, 1);
  return help;
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  const TypeName type = type_of(*option);
  std::string names = names_of(*option, is_positional);
  if (!is_positional && !type.placeholder.empty()) names += " " + type.placeholder;

  std::vector<std::string> remarks;
  std::string allowed = range_of(type.check);
  if (allowed.empty()) allowed = members_of(type.check);
  // Where the description lists them, they are there with what they mean.
  const std::string first = allowed.substr(0, allowed.find_first_of(", "));
  const bool told = !allowed.empty() && members_of(type.check) == allowed &&
                    option->get_description().find(first) != std::string::npos;
  if (option->get_required()) remarks.push_back("required");
  if (!allowed.empty() && !told) remarks.push_back(allowed);
  std::string standard = option->get_default_str();
  if (standard.size() > 1 && standard.front() == '[') {
    standard = standard.substr(1, standard.size() - 2);
  }
  if (!standard.empty()) remarks.push_back("default: " + standard);
  if (!option->get_envname().empty()) remarks.push_back("default: $" + option->get_envname());
  std::string text = option->get_description();
  for (std::size_t i = 0; i < remarks.size(); ++i) text += (i ? "; " : " (") + remarks[i];
  return line_of(names, remarks.empty() ? text : text + ")");
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  return line_of(command->get_name(), command->get_description());
}

}  // namespace eidetic::cli
