#include "apps/cli/chat_input.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "apps/cli/interrupt.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

InputResult ScriptInput::read_line(const std::string& /*prompt*/, std::string& line) {
  for (;;) {
    const std::size_t end = read_.find('\n', begin_);
    if (end != std::string::npos || (ended_ && begin_ < read_.size())) {
      line = read_.substr(begin_, end - begin_);
      begin_ = end == std::string::npos ? read_.size() : end + 1;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return InputResult::kLine;
    }
    if (ended_) return InputResult::kEnd;
    read_.erase(0, begin_);
    begin_ = 0;
    const Waited waited = wait_for_input(descriptor_);
    if (waited == Waited::kInterrupted) return InputResult::kCancelled;
    if (waited == Waited::kWoken) continue;
    char buffer[1 << 16];
    const ssize_t got = ::read(descriptor_, buffer, sizeof buffer);
    if (got > 0) {
      read_.append(buffer, static_cast<std::size_t>(got));
    } else if (got == 0) {
      ended_ = true;
    } else if (errno != EINTR) {
      throw Error(EID_IO_ERROR,
                  "standard input cannot be read: " + std::generic_category().message(errno),
                  "check what it is connected to");
    }
  }
}

InputResult read_message(ChatInput& input, const std::string& prompt, std::string& message) {
  message.clear();
  std::string line;
  InputResult result = input.read_line(prompt, line);
  if (result != InputResult::kLine) return result;
  while (!line.empty() && line.back() == '\\') {
    line.back() = '\n';
    message += line;
    result = input.read_line("... ", line);
    if (result == InputResult::kCancelled) return result;
    if (result == InputResult::kEnd) line.clear();
  }
  message += line;
  return InputResult::kLine;
}

}  // namespace eidetic::cli
