#include "tests/apps/documented_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "tests/model/model_files.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

// A path such as `collections[].name`, and whether it may be missing.
using Keys = std::map<std::string, bool>;

// What stands between backticks.
std::vector<std::string> Quoted(const std::string& text) {
  std::vector<std::string> quoted;
  for (std::size_t at = 0; (at = text.find('`', at)) != std::string::npos;) {
    const std::size_t end = text.find('`', at + 1);
    quoted.push_back(text.substr(at + 1, end - at - 1));
    at = end + 1;
  }
  return quoted;
}

Keys DocumentedKeys(const std::string& what) {
  const std::string page = model::ReadFile(EIDETIC_CLI_PAGE), heading = "\n### `" + what + "`\n";
  const std::size_t begin = page.find(heading, page.find("\n## JSON keys\n"));
  if (begin == std::string::npos) throw std::runtime_error("no section of docs/cli.md on " + what);
  const std::size_t rows = begin + heading.size();
  std::istringstream lines(page.substr(rows, page.find("\n### ", rows) - rows));
  Keys keys;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    const std::size_t middle = line.find(" | ");
    const std::string description = line.substr(middle + 3), other = "keys of ";
    const bool optional = description.rfind("only ", 0) == 0;
    for (const std::string& key : Quoted(line.substr(0, middle))) {
      const std::size_t reference = description.find(other);
      if (reference == std::string::npos) {
        keys[key] = optional;
        continue;
      }
      for (const auto& [inner, inner_optional] :
           DocumentedKeys(Quoted(description.substr(reference)).at(0))) {
        keys[key + "." + inner] = optional || inner_optional;
      }
    }
  }
  return keys;
}

bool AnyBeginsWith(const Keys& keys, const std::string& prefix) {
  const auto found = keys.lower_bound(prefix);
  return found != keys.end() && found->first.rfind(prefix, 0) == 0;
}

// The paths in `value`, as deep as `documented` goes. Lists without elements go to `empty`.
void CollectPaths(const json& value, const std::string& path, const Keys& documented,
                  std::set<std::string>& paths, std::set<std::string>& empty) {
  if (value.is_object() && (path.empty() || AnyBeginsWith(documented, path + "."))) {
    for (const auto& [key, inner] : value.items()) {
      CollectPaths(inner, path.empty() ? key : path + "." + key, documented, paths, empty);
    }
  } else if (value.is_array() && AnyBeginsWith(documented, path + "[]")) {
    if (value.empty()) empty.insert(path + "[]");
    for (const json& inner : value) CollectPaths(inner, path + "[]", documented, paths, empty);
  } else {
    paths.insert(path);
  }
}

}  // namespace

void ExpectDocumented(const std::string& what, const json& printed) {
  const Keys documented = DocumentedKeys(what);
  std::set<std::string> paths, empty;
  CollectPaths(printed, "", documented, paths, empty);
  for (const std::string& path : paths) {
    EXPECT_TRUE(documented.contains(path))
        << what << " prints " << path << ": docs/cli.md does not";
  }
  for (const auto& [path, optional] : documented) {
    const auto within = [&path = path](const std::string& list) {
      return path.rfind(list, 0) == 0;
    };
    if (optional || std::any_of(empty.begin(), empty.end(), within)) continue;
    EXPECT_TRUE(paths.contains(path)) << what << " lacks " << path << " of docs/cli.md";
  }
}

}  // namespace eidetic::apps
