// What was typed at the prompt, kept from one run to the next: one line of text each, in a file
// that only its owner reads. Several programs may add to it at once.
#ifndef EIDETIC_APPS_CLI_INPUT_HISTORY_H_
#define EIDETIC_APPS_CLI_INPUT_HISTORY_H_

#include <cstddef>
#include <string>
#include <vector>

namespace eidetic::cli {

// eidetic/NAME in XDG_STATE_HOME, or in ~/.local/state; empty where neither variable is set.
std::string state_file(const std::string& name);

class InputHistory {
 public:
  static constexpr std::size_t kMostLines = 1000;

  // An empty path keeps nothing. A file that cannot be read or written is none: a history is no
  // reason not to talk.
  explicit InputHistory(std::string path);

  // The last kMostLines of earlier runs and this one, the oldest first.
  const std::vector<std::string>& lines() const { return lines_; }
  // False when it is left out: an empty line, and one that repeats the line before.
  bool add(const std::string& line);

 private:
  void shorten() const;

  std::string path_;
  std::vector<std::string> lines_;
};

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INPUT_HISTORY_H_
