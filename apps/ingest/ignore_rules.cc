#include "apps/ingest/ignore_rules.h"

#include <algorithm>
#include <cctype>

namespace eidetic::ingest {
namespace {

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t slash = path.find('/', begin);
    parts.emplace_back(path.substr(begin, slash - begin));
    if (slash == std::string_view::npos) return parts;
    begin = slash + 1;
  }
}

bool in_class(std::string_view name, unsigned char c) {
  if (name == "alpha") return std::isalpha(c);
  if (name == "digit") return std::isdigit(c);
  if (name == "alnum") return std::isalnum(c);
  if (name == "upper") return std::isupper(c);
  if (name == "lower") return std::islower(c);
  if (name == "space") return std::isspace(c);
  if (name == "punct") return std::ispunct(c);
  if (name == "xdigit") return std::isxdigit(c);
  return false;
}

// A bracket that begins at `at`, just behind its '['. Moves `at` behind its ']'. False when `c` is
// not in it; nothing when it has no end.
std::optional<bool> bracket_fits(std::string_view pattern, std::size_t& at, unsigned char c) {
  const bool inverted = at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^');
  at += inverted;
  bool found = false;
  for (bool first = true; at < pattern.size() && (first || pattern[at] != ']'); first = false) {
    if (pattern.substr(at, 2) == "[:") {
      const std::size_t end = pattern.find(":]", at + 2);
      if (end != std::string_view::npos) {
        found |= in_class(pattern.substr(at + 2, end - at - 2), c);
        at = end + 2;
        continue;
      }
    }
    if (pattern[at] == '\\' && at + 1 < pattern.size()) ++at;
    const auto low = static_cast<unsigned char>(pattern[at++]);
    auto high = low;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      if (pattern[at] == '\\' && at + 1 < pattern.size()) ++at;
      high = static_cast<unsigned char>(pattern[at++]);
    }
    found |= low <= c && c <= high;
  }
  if (at >= pattern.size()) return std::nullopt;
  ++at;
  return found != inverted;
}

bool parts_fit(const std::vector<std::string>& pattern, const std::vector<std::string>& path) {
  // As name_fits() does it, with "**" for the star.
  std::size_t p = 0, s = 0, star = std::string::npos, star_s = 0;
  while (s < path.size()) {
    if (p < pattern.size() && pattern[p] == "**") {
      star = p++;
      star_s = s;
      // At the end it stands for something within a folder, not for the folder.
      if (p == pattern.size()) return true;
    } else if (p < pattern.size() && name_fits(pattern[p], path[s])) {
      ++p;
      ++s;
    } else if (star != std::string::npos) {
      p = star + 1;
      s = ++star_s;
    } else {
      return false;
    }
  }
  return p == pattern.size();
}

// Without the blanks at the end that no backslash keeps.
std::string_view without_blanks(std::string_view line) {
  while (!line.empty() && line.back() == ' ' &&
         (line.size() < 2 || line[line.size() - 2] != '\\')) {
    line.remove_suffix(1);
  }
  return line;
}

}  // namespace

std::string fault_of(std::string_view pattern) {
  for (std::string_view part = pattern;;) {
    const std::size_t slash = part.find('/');
    const std::string_view name = part.substr(0, slash);
    for (std::size_t at = 0; at < name.size();) {
      const char c = name[at++];
      if (c == '\\' && at++ == name.size())
        return "a backslash at its end has nothing to stand for";
      if (c == '[' && !bracket_fits(name, at, 'a')) {
        return "a '[' in it has no ']'; a bracket itself is written '\\['";
      }
    }
    if (slash == std::string_view::npos) return "";
    part.remove_prefix(slash + 1);
  }
}

bool name_fits(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, s = 0, star = std::string_view::npos, star_s = 0;
  for (;;) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_s = s;
      continue;
    }
    if (s == name.size()) return p == pattern.size();
    bool fits = false;
    std::size_t next = p + 1;
    if (p < pattern.size()) {
      const char c = pattern[p];
      if (c == '?') {
        fits = true;
      } else if (c == '[') {
        const auto in = bracket_fits(pattern, next, static_cast<unsigned char>(name[s]));
        if (!in) return false;  // a bracket without an end fits nothing
        fits = *in;
      } else if (c == '\\') {
        if (next == pattern.size()) return false;
        fits = pattern[next++] == name[s];
      } else {
        fits = c == name[s];
      }
    }
    if (fits) {
      p = next;
      ++s;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      s = ++star_s;
    } else {
      return false;
    }
  }
}

void IgnoreRules::add_lines(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    line = without_blanks(line);
    if (!line.empty() && line[0] != '#') add(std::string(line));
  }
}

void IgnoreRules::add(std::string pattern) {
  Pattern rule;
  if (pattern[0] == '!') {
    rule.takes_back = true;
    pattern.erase(0, 1);
  }
  if (pattern.size() > 1 && pattern.back() == '/') {
    rule.folders_only = true;
    pattern.pop_back();
  }
  rule.anchored = pattern.find('/') != std::string::npos;
  if (!pattern.empty() && pattern[0] == '/') pattern.erase(0, 1);
  if (pattern.empty()) return;
  rule.parts = split(pattern);
  for (std::string& part : rule.parts) {
    // Any more stars are as good as two.
    if (part.size() > 2 && part.find_first_not_of('*') == std::string::npos) part = "**";
  }
  patterns_.push_back(std::move(rule));
}

std::optional<bool> IgnoreRules::verdict(std::string_view path, bool is_folder) const {
  const std::vector<std::string> parts = split(path);
  for (auto rule = patterns_.rbegin(); rule != patterns_.rend(); ++rule) {
    if (rule->folders_only && !is_folder) continue;
    const bool fits =
        rule->anchored ? parts_fit(rule->parts, parts) : name_fits(rule->parts[0], parts.back());
    if (fits) return !rule->takes_back;
  }
  return std::nullopt;
}

}  // namespace eidetic::ingest
