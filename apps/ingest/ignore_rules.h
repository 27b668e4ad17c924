// Which entries of a folder are left out: patterns as in .gitignore.
#ifndef EIDETIC_APPS_INGEST_IGNORE_RULES_H_
#define EIDETIC_APPS_INGEST_IGNORE_RULES_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace eidetic::ingest {

// The patterns of one file, or of one option, which count from one folder: `*`, `?`, `[...]` within
// a name, `**` over folders; a slash at the beginning or in the middle ties a pattern to the
// folder, one at the end to folders; `!` takes back; the last pattern that fits decides.
class IgnoreRules {
 public:
  // Every line of an ignore file: without comments and empty lines.
  void add_lines(std::string_view text);
  void add(std::string pattern);
  bool empty() const { return patterns_.empty(); }

  // `path` counts from the rules' folder, with slashes between names and none at the ends. True:
  // left out; false: taken back by `!`; nothing when no pattern fits.
  std::optional<bool> verdict(std::string_view path, bool is_folder) const;

 private:
  struct Pattern {
    std::vector<std::string> parts;  // of a path, or one that any name may fit
    bool anchored = false, folders_only = false, takes_back = false;
  };
  std::vector<Pattern> patterns_;
};

// Why a pattern can fit nothing: a bracket without an end, or a backslash before nothing. Empty:
// it can. Ignore files may hold such patterns, as .gitignore may.
std::string fault_of(std::string_view pattern);

// Whether a name fits a pattern without slashes.
bool name_fits(std::string_view pattern, std::string_view name);

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_IGNORE_RULES_H_
