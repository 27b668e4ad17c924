#include "apps/ingest/directory_walk.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "apps/ingest/ignore_rules.h"

namespace eidetic::ingest {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIgnoreFiles[] = {".gitignore", ".eideticignore"};

std::string joined(const std::string& folder, const std::string& name) {
  if (folder.empty()) return name;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

std::string reason(int number) {
  return std::generic_category().message(number);
}

// The rules of one folder. `path` there is what an entry's path has in front of it when it is
// looked up in them.
struct Rules {
  IgnoreRules patterns;
  std::size_t prefix = 0;  // letters of the walked path that lie above the rules' folder
  std::string above;       // for rules of folders above the walked one: what lies between
};

IgnoreRules rules_of(const fs::path& folder) {
  IgnoreRules rules;
  for (const char* name : kIgnoreFiles) {
    // A file alone: a folder or a pipe of that name has no rules.
    std::error_code error;
    if (!fs::is_regular_file(folder / name, error)) continue;
    std::ifstream in(folder / name, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    rules.add_lines(text.str());
  }
  return rules;
}

class Walk {
 public:
  Walk(const std::string& directory, const WalkOptions& options, const std::function<bool()>& stop)
      : root_(plain_path(directory)), options_(options), stop_(stop) {
    for (const std::string& pattern : options.include) {
      include_.add(pattern);
      unused_.emplace_back(pattern, IgnoreRules());
      unused_.back().second.add(pattern);
    }
    for (const std::string& pattern : options.exclude) exclude_.add(pattern);
    shown_ = root_ == "." ? "" : root_;
    if (!options.no_ignore) add_rules_above();
  }

  WalkResult run() {
    enter(shown_, "");
    for (auto& [pattern, rule] : unused_) result_.unused.push_back(std::move(pattern));
    return std::move(result_);
  }

 private:
  // Those of a repository count up to its top.
  void add_rules_above() {
    std::error_code error;
    const fs::path start = fs::canonical(root_, error);
    if (error) return;
    std::vector<fs::path> above;
    for (fs::path folder = start;; folder = folder.parent_path()) {
      if (fs::exists(folder / ".git", error)) break;
      if (folder == folder.parent_path()) return;  // no repository
      above.push_back(folder.parent_path());
    }
    for (auto folder = above.rbegin(); folder != above.rend(); ++folder) {
      Rules rules{rules_of(*folder), 0, start.lexically_relative(*folder).generic_string()};
      if (!rules.patterns.empty()) rules_.push_back(std::move(rules));
    }
  }

  bool left_out(const std::string& relative, const std::string& name, bool is_folder) {
    if (name == ".git") return true;
    if (!is_folder) {
      std::erase_if(unused_, [&](const auto& one) {
        return one.second.verdict(relative, false).has_value();
      });
    }
    if (!options_.hidden && name[0] == '.') return true;
    if (exclude_.verdict(relative, is_folder).value_or(false)) return true;
    if (!is_folder && !include_.empty() && !include_.verdict(relative, false).value_or(false)) {
      return true;
    }
    for (auto rules = rules_.rbegin(); rules != rules_.rend(); ++rules) {
      const std::string path =
          rules->above.empty() ? relative.substr(rules->prefix) : rules->above + "/" + relative;
      if (const auto verdict = rules->patterns.verdict(path, is_folder)) return *verdict;
    }
    return false;
  }

  void skip(const std::string& path, std::string why, std::string detail) {
    result_.skipped.push_back({path, std::move(why), std::move(detail)});
  }

  // `shown` is the folder's path, `relative` the same from the walked one on.
  void enter(const std::string& shown, const std::string& relative) {
    if (stop_ && stop_()) return;
    const std::string path = shown.empty() ? "." : shown;
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return skip(path, "unreadable", reason(errno));
    if (!seen_.insert({status.st_dev, status.st_ino}).second) {
      return skip(path, "loop", "this folder has been read already");
    }
    std::error_code error;
    if (fs::exists(joined(path, "writer.lock"), error) && fs::exists(joined(path, "db"), error)) {
      return skip(path, "archive", "an archive is memory, no text");
    }
    std::vector<std::string> names;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error)) {
      names.push_back(entry->path().filename().string());
    }
    if (error) return skip(path, "unreadable", error.message());
    std::sort(names.begin(), names.end());
    const std::size_t outer_rules = rules_.size();
    if (!options_.no_ignore) {
      Rules rules{rules_of(path), relative.empty() ? 0 : relative.size() + 1, ""};
      if (!rules.patterns.empty()) rules_.push_back(std::move(rules));
    }
    for (const std::string& name : names) {
      look_at(joined(shown, name), joined(relative, name), name);
    }
    rules_.resize(outer_rules);
  }

  void look_at(const std::string& shown, const std::string& relative, const std::string& name) {
    struct stat status {};
    if (::lstat(shown.c_str(), &status) != 0) return skip(shown, "unreadable", reason(errno));
    const bool is_link = S_ISLNK(status.st_mode);
    if (left_out(relative, name, S_ISDIR(status.st_mode))) {
      ++result_.left_out;
      return;
    }
    if (is_link && !options_.follow) {
      return skip(shown, "symbolic link", "--follow reads what it leads to");
    }
    if (is_link && ::stat(shown.c_str(), &status) != 0) {
      const bool loop = errno == ELOOP;
      return skip(shown, loop ? "loop" : "unreadable",
                  loop ? "the link leads back to itself" : "the link leads nowhere");
    }
    if (S_ISDIR(status.st_mode)) {
      if (is_link && left_out(relative, name, true)) {
        ++result_.left_out;
        return;
      }
      return enter(shown, relative);
    }
    if (!S_ISREG(status.st_mode)) {
      return skip(shown, "special", "a pipe, socket or device is no file of text");
    }
    result_.files.push_back(shown);
  }

  std::string root_, shown_;
  const WalkOptions& options_;
  const std::function<bool()>& stop_;
  IgnoreRules include_, exclude_;
  std::vector<std::pair<std::string, IgnoreRules>> unused_;  // of include_, each by itself
  std::vector<Rules> rules_;                                 // the outermost first
  std::set<std::pair<dev_t, ino_t>> seen_;
  WalkResult result_;
};

}  // namespace

std::string plain_path(const std::string& path) {
  std::string plain = fs::path(path).lexically_normal().generic_string();
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  return plain.empty() ? "." : plain;
}

WalkResult walk_directory(const std::string& directory, const WalkOptions& options,
                          const std::function<bool()>& stop) {
  return Walk(directory, options, stop).run();
}

}  // namespace eidetic::ingest
