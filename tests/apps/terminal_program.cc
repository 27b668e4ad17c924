#include "tests/apps/terminal_program.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <thread>

namespace eidetic::apps {

using std::chrono::milliseconds;

TerminalProgram::TerminalProgram(const std::vector<std::string>& arguments,
                                 const Environment& environment) {
  Environment additions = environment;
  additions.insert(additions.end(), {{"TERM", "xterm"}, {"NO_COLOR", "1"}, {"LC_ALL", "C.UTF-8"}});
  std::vector<std::string> words = {EIDETIC_CLI_PATH}, variables = ChildEnvironment(additions);
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv = Pointers(words), envp = Pointers(variables);
  winsize size{};
  size.ws_row = 40;
  size.ws_col = 100;
  id_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
  if (id_ < 0) throw std::runtime_error("no terminal can be made");
  if (id_ == 0) {
    ::execve(EIDETIC_CLI_PATH, argv.data(), envp.data());
    ::_exit(127);
  }
}

TerminalProgram::~TerminalProgram() {
  if (id_ > 0) {
    ::kill(id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
  }
  if (terminal_ >= 0) ::close(terminal_);
}

void TerminalProgram::Type(const std::string& keys) const {
  for (std::size_t at = 0; at < keys.size();) {
    const ssize_t written = ::write(terminal_, keys.data() + at, keys.size() - at);
    if (written < 0 && errno != EINTR) throw std::runtime_error("nothing can be typed");
    if (written > 0) at += static_cast<std::size_t>(written);
  }
}

bool TerminalProgram::Fill(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
  pollfd waiting{terminal_, POLLIN, 0};
  if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) return false;
  char buffer[4096];
  const ssize_t got = ::read(terminal_, buffer, sizeof buffer);
  if (got <= 0) return false;  // an error is how a terminal tells that nobody writes to it
  shown_.append(buffer, static_cast<std::size_t>(got));
  return true;
}

bool TerminalProgram::Shows(const std::string& text, std::chrono::seconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  for (;;) {
    const std::size_t at = shown_.find(text, seen_);
    if (at != std::string::npos) {
      seen_ = at + text.size();
      return true;
    }
    if (!Fill(deadline)) return false;
  }
}

bool TerminalProgram::ShowsMore(std::chrono::seconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  while (seen_ == shown_.size()) {
    if (!Fill(deadline)) return false;
  }
  return true;
}

int TerminalProgram::Wait(std::chrono::seconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  while (Fill(deadline)) {
  }
  while (Clock::now() < deadline) {
    int status = 0;
    if (::waitpid(id_, &status, WNOHANG) == id_) {
      id_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return -1;
}

}  // namespace eidetic::apps
