// Lines typed at a terminal: editing keys, and a history that is kept (libedit). What a user has in
// ~/.editrc holds.
#ifndef EIDETIC_APPS_CLI_LINE_EDITOR_H_
#define EIDETIC_APPS_CLI_LINE_EDITOR_H_

#include <memory>
#include <string>

#include "apps/cli/chat_input.h"

namespace eidetic::cli {

// For standard input and output, both of a terminal. One at a time in a process: it handles the
// signals of a terminal's size and of going on after Ctrl-Z.
class LineEditor : public ChatInput {
 public:
  // `history_path`: of InputHistory; empty: kept for this run alone. Throws Error when the terminal
  // cannot be used.
  explicit LineEditor(const std::string& history_path);
  ~LineEditor() override;
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // Ctrl-C gives kCancelled, and so does SIGTERM; Ctrl-D on an empty line kEnd.
  InputResult read_line(const std::string& prompt, std::string& line) override;

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_LINE_EDITOR_H_
