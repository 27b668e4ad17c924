// Where the lines of a chat come from: a terminal (line_editor.h) or a script in a pipe or a file.
#ifndef EIDETIC_APPS_CLI_CHAT_INPUT_H_
#define EIDETIC_APPS_CLI_CHAT_INPUT_H_

#include <string>

namespace eidetic::cli {

enum class InputResult {
  kLine,
  kCancelled,  // Ctrl-C: what was typed so far is dropped
  kEnd,        // of the input
};

class ChatInput {
 public:
  virtual ~ChatInput() = default;
  // The next line without its end. `prompt` is shown on a terminal.
  virtual InputResult read_line(const std::string& prompt, std::string& line) = 0;
};

// Lines of a file descriptor, as they come; the last one may lack its end. Throws Error when it
// cannot be read.
class ScriptInput : public ChatInput {
 public:
  explicit ScriptInput(int descriptor) : descriptor_(descriptor) {}
  InputResult read_line(const std::string& prompt, std::string& line) override;

 private:
  int descriptor_;
  std::string read_;       // and not yet given out
  std::size_t begin_ = 0;  // of what is not
  bool ended_ = false;
};

// One message: a line, and the next ones as long as each ends in a backslash, with line ends
// between them.
InputResult read_message(ChatInput& input, const std::string& prompt, std::string& message);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CHAT_INPUT_H_
