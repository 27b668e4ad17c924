#include "apps/cli/configuration_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "apps/cli/text_file.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {
namespace {

std::string shortest(double number) {
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof digits, number);
  return {digits, end.ptr};
}

TomlType type_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return TomlType::kTable;
    case toml::node_type::boolean:
      return TomlType::kBoolean;
    case toml::node_type::integer:
      return TomlType::kWhole;
    case toml::node_type::floating_point:
      // No flag means anything by infinity or by what is no number.
      return std::isfinite(**node.as_floating_point()) ? TomlType::kNumber : TomlType::kOther;
    case toml::node_type::string:
      return TomlType::kText;
    default:
      return TomlType::kOther;
  }
}

std::string value_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return shortest(number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  return "";
}

// The type of a list's values. Whole numbers among others are numbers.
TomlType common_type(TomlType one, TomlType other) {
  const auto is_number = [](TomlType type) {
    return type == TomlType::kWhole || type == TomlType::kNumber;
  };
  if (one == other) return one;
  return is_number(one) && is_number(other) ? TomlType::kNumber : TomlType::kOther;
}

TomlKey key_of(const toml::node& node) {
  TomlKey key;
  const toml::array* list = node.as_array();
  if (!list) {
    key.type = type_of(node);
    key.values.push_back(value_of(node));
    return key;
  }
  key.is_list = true;
  bool first = true;
  for (const toml::node& value : *list) {
    key.type = first ? type_of(value) : common_type(key.type, type_of(value));
    key.values.push_back(value_of(value));
    first = false;
  }
  return key;
}

void collect(const toml::table& table, const std::vector<std::string>& at,
             std::vector<TomlKey>& keys) {
  for (const auto& [name, node] : table) {
    TomlKey key = key_of(node);
    key.table = at;
    key.name = std::string(name.str());
    key.line = name.source().begin.line;
    keys.push_back(key);
    if (const toml::table* inner = node.as_table()) {
      std::vector<std::string> within = at;
      within.push_back(key.name);
      collect(*inner, within, keys);
    }
  }
}

std::string line_of(const std::string& path, std::size_t line) {
  return "'" + path + "', line " + std::to_string(line);
}

}  // namespace

std::string TomlFile::place_of(const TomlKey& key) const {
  return line_of(path, key.line) + ": ";
}

std::string full_name(const TomlKey& key) {
  std::string table;
  for (const std::string& name : key.table) table += (table.empty() ? "" : ".") + name;
  if (key.type == TomlType::kTable && !key.is_list) {
    return "[" + table + (table.empty() ? "" : ".") + key.name + "]";
  }
  return (table.empty() ? "" : "[" + table + "] ") + key.name;
}

std::string type_name(const TomlKey& key) {
  if (key.is_list) return "a list";
  switch (key.type) {
    case TomlType::kTable:
      return "a table";
    case TomlType::kBoolean:
      return "true or false";
    case TomlType::kWhole:
      return "a whole number";
    case TomlType::kNumber:
      return "a number";
    case TomlType::kText:
      return "a text";
    case TomlType::kOther:
      break;
  }
  return "a value that no flag takes";
}

TomlFile parse_toml(std::string_view text, const std::string& path) {
  TomlFile file{path, {}};
  try {
    collect(toml::parse(text), {}, file.keys);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    throw Error(EID_INVALID_ARGUMENT,
                line_of(path, at.line) + ", column " + std::to_string(at.column) +
                    ": this is no TOML: " + std::string(error.description()),
                "correct it, or pass --no-config to go without; the format: https://toml.io");
  }
  std::stable_sort(file.keys.begin(), file.keys.end(),
                   [](const TomlKey& a, const TomlKey& b) { return a.line < b.line; });
  return file;
}

TomlFile read_toml(const std::string& path) {
  // The usual way to say "none".
  return parse_toml(path == "/dev/null" ? "" : read_file(path), path);
}

}  // namespace eidetic::cli
