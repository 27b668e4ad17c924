// A file of TOML as a list of its keys.
#ifndef EIDETIC_APPS_CLI_CONFIGURATION_FILE_H_
#define EIDETIC_APPS_CLI_CONFIGURATION_FILE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace eidetic::cli {

enum class TomlType { kTable, kBoolean, kWhole, kNumber, kText, kOther };

struct TomlKey {
  std::vector<std::string> table;  // where it stands: "eval" and "needle" of [eval.needle]
  std::string name;
  std::size_t line = 0;  // in the file, from 1
  TomlType type = TomlType::kOther;
  bool is_list = false;             // `type` is then that of its values; kOther where they differ
  std::vector<std::string> values;  // as on a command line; of a list, each
};

struct TomlFile {
  std::string path;
  std::vector<TomlKey> keys;  // in the order of lines, tables among them

  // "'PATH', line N: "
  std::string place_of(const TomlKey& key) const;
};

// "[eval.needle] seed", as an error names it.
std::string full_name(const TomlKey& key);
// "a whole number", "a list", "a table"
std::string type_name(const TomlKey& key);

// Throws Error (EID_INVALID_ARGUMENT, with line and column) when `text` is no TOML. `path` is for
// messages.
TomlFile parse_toml(std::string_view text, const std::string& path);

// The same of a file. Throws Error as read_file() does.
TomlFile read_toml(const std::string& path);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CONFIGURATION_FILE_H_
