// Runs the real `eidetic` in a terminal of its own, as a person at a keyboard would.
#ifndef EIDETIC_TESTS_APPS_TERMINAL_PROGRAM_H_
#define EIDETIC_TESTS_APPS_TERMINAL_PROGRAM_H_

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/apps/program.h"

namespace eidetic::apps {

class TerminalProgram {
 public:
  // A terminal of 100 columns without colours; the environment as for Program.
  explicit TerminalProgram(const std::vector<std::string>& arguments,
                           const Environment& environment = {});
  ~TerminalProgram();  // kills it when it still runs
  TerminalProgram(const TerminalProgram&) = delete;
  TerminalProgram& operator=(const TerminalProgram&) = delete;

  // Keys, as the terminal sends them.
  void Type(const std::string& keys) const;
  // Waits until `text` is shown, behind what an earlier call found. False after `limit`, or when
  // the program ended without it.
  bool Shows(const std::string& text, std::chrono::seconds limit = std::chrono::seconds(120));
  // Waits until anything is shown behind what the last call of Shows found.
  bool ShowsMore(std::chrono::seconds limit = std::chrono::seconds(120));
  // What was shown behind what the last call of Shows found.
  std::string Rest() const { return shown_.substr(seen_); }
  const std::string& shown() const { return shown_; }
  pid_t id() const { return id_; }
  // The exit code; -1: a signal ended it, or it did not end within `limit`.
  int Wait(std::chrono::seconds limit = std::chrono::seconds(120));

 private:
  using Clock = std::chrono::steady_clock;
  // More output, or false.
  bool Fill(Clock::time_point deadline);

  pid_t id_ = -1;
  int terminal_ = -1;
  std::string shown_;
  std::size_t seen_ = 0;
};

}  // namespace eidetic::apps

#endif  // EIDETIC_TESTS_APPS_TERMINAL_PROGRAM_H_
