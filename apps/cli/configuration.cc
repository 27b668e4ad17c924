#include "apps/cli/configuration.h"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "apps/cli/configuration_file.h"
#include "apps/cli/help.h"
#include "apps/cli/near_name.h"
#include "apps/cli/usage.h"

namespace eidetic::cli {
namespace {

constexpr const char* kConfig = "--config";
constexpr const char* kNoConfig = "--no-config";
constexpr const char* kVariable = "EIDETIC_CONFIG";

std::string variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? value : "";
}

bool is_common(const std::string& name) {
  return std::find(kCommonKeys.begin(), kCommonKeys.end(), name) != kCommonKeys.end();
}

std::vector<CLI::App*> commands_of(CLI::App& app) {
  return app.get_subcommands([](CLI::App*) { return true; });
}

bool is_group(const CLI::App& command) {
  return !command.get_subcommands({}).empty();
}

// `model` is a key, so that no table can have this name: the tables of its commands have their own
// names alone.
bool has_no_table(const CLI::App& group) {
  return is_group(group) && is_common(group.get_name());
}

// The command or group whose table has this name within that of `app`.
CLI::App* command_named(CLI::App& app, const std::string& name) {
  for (CLI::App* command : commands_of(app)) {
    if (has_no_table(*command)) {
      if (CLI::App* inner = command_named(*command, name)) return inner;
    } else if (command->get_name() == name) {
      return command;
    }
  }
  return nullptr;
}

// Below `app`, groups before what is in them.
std::vector<CLI::App*> all_commands_of(CLI::App& app) {
  std::vector<CLI::App*> all;
  for (CLI::App* command : commands_of(app)) {
    all.push_back(command);
    for (CLI::App* inner : all_commands_of(*command)) all.push_back(inner);
  }
  return all;
}

std::vector<CLI::App*> leaves_of(CLI::App& app) {
  std::vector<CLI::App*> leaves = all_commands_of(app);
  std::erase_if(leaves, [](const CLI::App* command) { return is_group(*command); });
  return leaves;
}

// "eval.needle"; empty for the app itself.
std::string table_of(const CLI::App& command) {
  if (!command.get_parent() || has_no_table(command)) return "";
  const std::string parent = table_of(*command.get_parent());
  return (parent.empty() ? "" : parent + ".") + command.get_name();
}

// The flag that a key of a command's table stands for; null when there is none.
CLI::Option* flag_of(CLI::App& command, const std::string& key) {
  // What the file itself is found by, and what ends before it is read.
  if (key == "config" || key == "no-config" || key == "help") return nullptr;
  return command.get_option_no_throw("--" + key);
}

// A common key counts for what has the same variable of the environment too: the file of `model
// info` is the model.
CLI::Option* common_flag_of(CLI::App& command, const std::string& key) {
  if (CLI::Option* flag = flag_of(command, key)) return flag;
  const auto is_model = [](CLI::Option* option) {
    return option->get_envname() == "EIDETIC_MODEL";
  };
  const std::vector<CLI::Option*> models = command.get_options(is_model);
  return key == "model" && !models.empty() ? models.front() : nullptr;
}

// The environment's say in --threads is the library's affair, not CLI11's.
bool is_in_environment(const CLI::Option& option) {
  return option.check_lname("threads") && !variable("OMP_NUM_THREADS").empty();
}

bool takes_lists(const CLI::Option& option) {
  return option.get_type_size() > 0 && option.get_items_expected_max() > 1;
}

// A flag that may also stand without its value, as --json [FILE].
bool takes_no_value_too(const CLI::Option& option) {
  return placeholder_of(option).rfind('[', 0) == 0;
}

// Paths may begin with ~, for which a shell would put the home folder.
std::string with_home(const CLI::Option& option, const std::string& value) {
  const std::string placeholder = placeholder_of(option), home = variable("HOME");
  const bool is_path =
      placeholder.find("FILE") != std::string::npos || placeholder.find("DIR") != std::string::npos;
  return is_path && value.rfind("~/", 0) == 0 && !home.empty() ? home + value.substr(1) : value;
}

bool fits(const TomlKey& key, const CLI::Option& option) {
  if (key.is_list && !takes_lists(option)) return false;
  if (key.is_list && key.values.empty()) return true;
  switch (value_kind(option)) {
    case ValueKind::kNone:
      return key.type == TomlType::kBoolean;
    case ValueKind::kWhole:
      return key.type == TomlType::kWhole;
    case ValueKind::kNumber:
      return key.type == TomlType::kWhole || key.type == TomlType::kNumber;
    case ValueKind::kText:
      break;
  }
  return key.type == TomlType::kText ||
         (key.type == TomlType::kBoolean && takes_no_value_too(option));
}

// "a whole number, 0 to 1000", in words of TOML.
std::string what_it_takes(const CLI::Option& option) {
  const std::string allowed = allowed_values(option);
  const bool list = takes_lists(option);
  switch (value_kind(option)) {
    case ValueKind::kNone:
      return "true or false";
    case ValueKind::kText: {
      if (takes_no_value_too(option)) return "true or a text in quotes";
      const std::string what = list ? "a text in quotes, or a list of them" : "a text in quotes";
      return allowed.empty() ? what : what + ": " + allowed;
    }
    default:
      return allowed + (list ? ", alone or as a list: [..., ...]" : "");
  }
}

// What the command line would have had; nothing where the flag is left as it is.
std::vector<std::string> words_of(const TomlKey& key, const CLI::Option& option) {
  if (key.type == TomlType::kBoolean && !key.is_list) {
    if (takes_no_value_too(option)) {
      return key.values[0] == "true" ? std::vector<std::string>{""} : std::vector<std::string>{};
    }
    const std::string word = option.get_flag_value(key.name, key.values[0]);
    // A flag that is off is one that was not given, but where the flag has an opposite.
    if (word == "false" && option.get_fnames().empty()) return {};
    return {word};
  }
  std::vector<std::string> words;
  for (const std::string& value : key.values) words.push_back(with_home(option, value));
  return words;
}

std::string list_of(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// One file and the app that it is for.
class Configuration {
 public:
  Configuration(CLI::App& app, CLI::App& chosen, TomlFile file)
      : app_(app), chosen_(chosen), file_(std::move(file)) {}

  void apply() {
    for (const CLI::Option* option : std::as_const(chosen_).get_options({})) {
      if (option->count() > 0) given_.insert(option);
    }
    std::vector<Setting> settings;
    for (const TomlKey& key : file_.keys) {
      if (const Setting setting = setting_of(key); setting.flag) settings.push_back(setting);
    }
    // Those of the command's own table first: they are nearer than the common ones.
    for (const bool common : {false, true}) {
      for (const Setting& setting : settings) {
        if (setting.key->table.empty() == common) take(setting);
      }
    }
    for (const auto& [option, key] : taken_) check_company(*option, *key);
  }

  OptionsOfFile taken() const {
    OptionsOfFile options;
    for (const auto& [option, key] : taken_) options.insert(option);
    return options;
  }

 private:
  struct Setting {
    const TomlKey* key = nullptr;
    CLI::App* command = nullptr;  // of which it is a flag
    CLI::Option* flag = nullptr;  // null: the key is a table
  };

  [[noreturn]] void refuse(const TomlKey& key, const std::string& what,
                           const std::string& remedy) const {
    throw Error(EID_INVALID_ARGUMENT, file_.place_of(key) + what, remedy);
  }

  // What a key stands for. Throws when that is nothing, or its value has the wrong type.
  Setting setting_of(const TomlKey& key) const {
    const bool is_table = key.type == TomlType::kTable && !key.is_list;
    CLI::App& command = command_of(key);
    if (command_named(command, key.name)) {
      if (is_table) return {};
      refuse(key, full_name(key) + " is " + type_name(key) + ", and " + key.name + " a command",
             "write its flags under [" + joined_table(key) + "]");
    }
    if (is_table) refuse_table(key);
    Setting setting{&key, &command, nullptr};
    if (!is_group(command)) {
      setting.flag = flag_of(command, key.name);
      if (!setting.flag) refuse_key(key, command);
    } else if (key.table.empty() && is_common(key.name)) {
      setting = common_setting(key);
    } else {
      refuse_outside_commands(key, command);
    }
    if (!fits(key, *setting.flag)) {
      refuse(key, full_name(key) + " is " + type_name(key),
             "it takes " + what_it_takes(*setting.flag));
    }
    return setting;
  }

  // The command whose table a key stands in. What is wrong with a table was told when it was the
  // key, since tables come before what is in them.
  CLI::App& command_of(const TomlKey& key) const {
    CLI::App* command = &app_;
    for (const std::string& name : key.table) {
      command = command_named(*command, name);
      if (!command) refuse_table(key);
    }
    return *command;
  }

  // Of the chosen command, else of one that has it, which checks the value.
  Setting common_setting(const TomlKey& key) const {
    if (CLI::Option* flag = common_flag_of(chosen_, key.name)) return {&key, &chosen_, flag};
    for (CLI::App* leaf : leaves_of(app_)) {
      if (CLI::Option* flag = flag_of(*leaf, key.name)) return {&key, leaf, flag};
    }
    return {&key, nullptr, nullptr};  // not reached: common flags are flags
  }

  // Checks the value, and leaves it in the flag when that is the chosen command's and has no value
  // yet.
  void take(const Setting& setting) {
    const TomlKey& key = *setting.key;
    CLI::Option& flag = *setting.flag;
    if (const auto other = taken_.find(&flag); other != taken_.end()) {
      if (other->second->table != key.table) return;  // that one is nearer
      refuse(key, full_name(key) + " and " + full_name(*other->second) + " are the same flag",
             "remove one of them");
    }
    const bool is_chosen = setting.command == &chosen_;
    if (is_chosen && (flag.count() > 0 || is_in_environment(flag) || is_excluded_by_given(flag))) {
      return;
    }
    const std::vector<std::string> words = words_of(key, flag);
    if (words.empty()) return;
    try {
      for (const std::string& word : words) flag.add_result(word);
      flag.run_callback();
    } catch (const CLI::ParseError&) {
      refuse(key, full_name(key) + " does not take '" + list_of(key.values) + "'",
             "it takes " + what_it_takes(flag));
    }
    if (is_chosen) {
      taken_.emplace(&flag, &key);
    } else {
      flag.clear();
    }
  }

  // What was typed decides between flags of which only one may be given.
  bool is_excluded_by_given(const CLI::Option& flag) const {
    const auto excluded = flag.get_excludes();
    return std::any_of(excluded.begin(), excluded.end(),
                       [&](const CLI::Option* other) { return given_.contains(other); });
  }

  void check_company(const CLI::Option& flag, const TomlKey& key) const {
    for (const CLI::Option* other : flag.get_excludes()) {
      const auto found = taken_.find(other);
      if (found == taken_.end()) continue;
      refuse(key, full_name(key) + " does not go together with " + full_name(*found->second),
             "remove one of them");
    }
    for (const CLI::Option* other : flag.get_needs()) {
      if (other->count() > 0) continue;
      refuse(key, full_name(key) + " needs " + other->get_name(),
             "add " + other->get_name().substr(2) + " beside it, or type " + other->get_name());
    }
  }

  static std::string joined_table(const TomlKey& key) {
    std::string table;
    for (const std::string& name : key.table) table += name + ".";
    return table + key.name;
  }

  [[noreturn]] void refuse_table(const TomlKey& key) const {
    // Of [eval.neelde] and [neelde] alike, the last name may be what was meant.
    std::vector<std::string> tables, last_names;
    for (CLI::App* command : all_commands_of(app_)) {
      if (has_no_table(*command)) {
        if (command->get_name() == key.name) refuse_key_as_table(key, *command);
        continue;
      }
      tables.push_back(table_of(*command));
      last_names.push_back(command->get_name());
    }
    const std::string table = joined_table(key);
    std::string meant = near_name(table, tables);
    if (meant.empty()) {
      const std::string last = near_name(key.name, last_names);
      const auto at = std::find(last_names.begin(), last_names.end(), last);
      if (at != last_names.end()) meant = tables[static_cast<std::size_t>(at - last_names.begin())];
    }
    refuse(key, "there is no command for the table " + full_name(key),
           meant.empty() ? "a table is named as a command, such as [ask] or [eval.needle]; see: "
                           "eidetic --help"
                         : "did you mean [" + meant + "]?");
  }

  [[noreturn]] void refuse_key_as_table(const TomlKey& key, CLI::App& group) const {
    std::vector<std::string> tables;
    for (const CLI::App* command : commands_of(group))
      tables.push_back("[" + table_of(*command) + "]");
    refuse(key, full_name(key) + " is a table, and " + key.name + " a key",
           "the commands of " + full_command_name(group) + " have the tables " + list_of(tables));
  }

  // A key above all tables, or in the table of a group of commands.
  [[noreturn]] void refuse_outside_commands(const TomlKey& key, CLI::App& group) const {
    std::vector<std::string> names(kCommonKeys.begin(), kCommonKeys.end());
    const std::string what = full_name(key) + " is no key here";
    if (!key.table.empty()) {
      const CLI::App* command = commands_of(group).front();
      refuse(key, what,
             "flags stand in the tables of commands, such as [" + table_of(*command) + "]");
    }
    const std::string meant = near_name(key.name, names);
    if (!meant.empty()) refuse(key, what, "did you mean " + meant + "?");
    for (CLI::App* leaf : leaves_of(app_)) {
      if (!flag_of(*leaf, key.name)) continue;
      refuse(key, what,
             "it is a flag of single commands: write it in their tables, such as [" +
                 table_of(*leaf) + "]");
    }
    refuse(key, what, "above the tables stand: " + list_of(names));
  }

  [[noreturn]] void refuse_key(const TomlKey& key, CLI::App& command) const {
    std::vector<std::string> names;
    for (const CLI::Option* option : std::as_const(command).get_options({})) {
      for (const std::string& name : option->get_lnames()) {
        if (flag_of(command, name)) names.push_back(name);
      }
    }
    const std::string meant = near_name(key.name, names);
    const std::string help = "see: " + full_command_name(command) + " --help";
    refuse(key, full_name(key) + " is no flag of " + full_command_name(command),
           meant.empty() ? help : "did you mean " + meant + "? " + help);
  }

  CLI::App& app_;
  CLI::App& chosen_;
  TomlFile file_;
  std::set<const CLI::Option*> given_;  // of the chosen command, without the file
  std::map<const CLI::Option*, const TomlKey*> taken_;
};

// What the chosen command or `app` itself was given.
struct Wanted {
  std::string path;   // empty: no --config
  bool none = false;  // --no-config, or the help, which helps whatever the file holds
};
Wanted wanted_by(const CLI::App& app) {
  Wanted wanted;
  for (const CLI::App* command = &chosen_command(app); command; command = command->get_parent()) {
    const CLI::Option* config = command->get_option_no_throw(kConfig);
    const CLI::Option* none = command->get_option_no_throw(kNoConfig);
    for (const CLI::Option* option : {none, command->get_help_ptr()}) {
      wanted.none |= option && option->count() > 0;
    }
    if (wanted.path.empty() && config && config->count() > 0) {
      wanted.path = config->results().back();
    }
  }
  return wanted;
}

void apply_configuration(CLI::App& app, OptionsOfFile& taken) {
  const std::vector<CLI::App*> leaves = leaves_of(app);
  const auto chosen = std::find(leaves.begin(), leaves.end(), &chosen_command(app));
  if (chosen == leaves.end()) return;  // a group of commands, which prints its help
  const Wanted wanted = wanted_by(app);
  if (wanted.none) return;
  std::string path = wanted.path;
  if (path.empty()) {
    path = default_configuration_path();
    struct stat status {};
    if (path.empty() || ::stat(path.c_str(), &status) != 0) return;
  }
  Configuration configuration(app, **chosen, read_toml(path));
  configuration.apply();
  taken = configuration.taken();
}

// Where CLI11 keeps them; they are read from the options of the command that was chosen.
struct ConfigurationFlags {
  std::string path;
  bool none = false;
};

void add_flags(CLI::App& command, ConfigurationFlags& flags) {
  CLI::Option* config = command.add_option(kConfig, flags.path, "The configuration file");
  config->type_name("FILE")->group("Configuration");
  command.add_flag(kNoConfig, flags.none, "Read no configuration file")
      ->excludes(config)
      ->group("Configuration");
}

}  // namespace

std::string default_configuration_path() {
  const std::string folder = variable("XDG_CONFIG_HOME"), home = variable("HOME");
  // The specification has relative ones ignored.
  if (folder.rfind('/', 0) == 0) return folder + "/eidetic/config.toml";
  return home.empty() ? "" : home + "/.config/eidetic/config.toml";
}

void add_configuration(CLI::App& app, std::shared_ptr<OptionsOfFile> taken) {
  const auto flags = std::make_shared<ConfigurationFlags>();
  for (CLI::App* leaf : leaves_of(app)) add_flags(*leaf, *flags);
  // Called when command line and environment were read, and before the flags of commands are
  // looked at: CLI11 sees to the options of the app first.
  CLI::Option* config = app.add_option_function<std::string>(
      kConfig,
      [&app, flags, taken = std::move(taken)](const std::string&) {
        apply_configuration(app, *taken);
      },
      "The configuration file, else eidetic/config.toml in $XDG_CONFIG_HOME or ~/.config");
  config->envname(kVariable)->force_callback()->type_name("FILE");
  app.add_flag(kNoConfig, flags->none, "Read no configuration file");
}

}  // namespace eidetic::cli
