#include "apps/cli/line_editor.h"

#include <histedit.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>

#include "apps/cli/input_history.h"
#include "apps/cli/interrupt.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {
namespace {

constexpr wchar_t kCtrlC = 0x03;
constexpr const char* kCancelCommand = "eidetic-cancel-line";

// Signals reach nothing but statics.
std::atomic<bool> resized{false}, continued{false};

extern "C" void on_terminal_signal(int number) {
  (number == SIGWINCH ? resized : continued) = true;
  wake_waiting();
}

void handle(int number) {
  struct sigaction action {};
  action.sa_handler = on_terminal_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(number, &action, nullptr);
}

// Characters of more than one byte need a locale that has them.
void choose_locale() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineEditor::Editor {
  explicit Editor(const std::string& history_path) : kept(history_path) {}
  ~Editor() {
    if (lines) history_end(lines);
    if (edit) el_end(edit);
  }

  static Editor& of(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }
  static char* prompt_of(EditLine* edit) { return of(edit).prompt.data(); }
  static int read_character(EditLine* edit, wchar_t* character) {
    return of(edit).next_character(character);
  }
  static unsigned char cancel(EditLine* edit, int /*character*/) {
    of(edit).cancelled = true;
    // What was typed on before the program saw it belongs to the line that is dropped. That stays
    // visible; the next prompt stands under it.
    ::tcflush(STDIN_FILENO, TCIFLUSH);
    std::fputs("^C\n", stdout);
    std::fflush(stdout);
    return CC_NEWLINE;
  }

  // 1: there is one; 0: the end of the input; -1: an error.
  int next_character(wchar_t* character) {
    std::mbstate_t state{};
    for (;;) {
      if (!wait_for_input()) {
        *character = kCtrlC;
        return 1;
      }
      char byte = 0;
      const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return static_cast<int>(got);
      const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
      if (length == static_cast<std::size_t>(-2)) continue;  // more bytes of it follow
      if (length != static_cast<std::size_t>(-1)) return 1;
      state = {};  // no character: left out
    }
  }

  // False when the user, or SIGTERM, asks to stop.
  bool wait_for_input() const {
    for (;;) {
      if (resized.exchange(false)) el_resize(edit);
      if (continued.exchange(false)) {
        // The shell has set the terminal its own way meanwhile.
        el_set(edit, EL_PREP_TERM, 0);
        el_set(edit, EL_PREP_TERM, 1);
        el_set(edit, EL_REFRESH);
      }
      const Waited waited = cli::wait_for_input(STDIN_FILENO);
      if (waited != Waited::kWoken) return waited == Waited::kInput;
    }
  }

  EditLine* edit = nullptr;
  History* lines = nullptr;
  HistEvent event{};
  InputHistory kept;
  std::string prompt;
  bool cancelled = false;
};

LineEditor::LineEditor(const std::string& history_path)
    : editor_(std::make_unique<Editor>(history_path)) {
  choose_locale();
  handle(SIGWINCH);
  handle(SIGCONT);
  Editor& e = *editor_;
  e.edit = el_init("eidetic", stdin, stdout, stderr);
  e.lines = history_init();
  if (!e.edit || !e.lines) {
    throw Error(EID_IO_ERROR, "the terminal cannot be set up for editing lines",
                "check TERM, or give the lines through a pipe");
  }
  el_set(e.edit, EL_CLIENTDATA, &e);
  el_set(e.edit, EL_PROMPT, Editor::prompt_of);
  el_set(e.edit, EL_EDITOR, "emacs");
  history(e.lines, &e.event, H_SETSIZE, static_cast<int>(InputHistory::kMostLines));
  el_set(e.edit, EL_HIST, history, e.lines);
  // Ctrl-C would throw away what was printed and is still on its way to the terminal.
  el_set(e.edit, EL_SETTY, "-d", "+noflsh", nullptr);
  el_set(e.edit, EL_GETCFN, Editor::read_character);
  el_set(e.edit, EL_ADDFN, kCancelCommand, "Drop the line", Editor::cancel);
  const auto bind = [&](const char* key, const char* command) {
    el_set(e.edit, EL_BIND, key, command, nullptr);
  };
  bind("^R", "em-inc-search-prev");
  bind("^W", "ed-delete-prev-word");
  bind("\\e[3~", "ed-delete-next-char");  // Delete
  bind("\\e[1;5C", "em-next-word");       // Ctrl-right
  bind("\\e[1;5D", "ed-prev-word");       // Ctrl-left
  el_source(e.edit, nullptr);             // ~/.editrc
  bind("^C", kCancelCommand);
  for (const std::string& line : e.kept.lines()) {
    history(e.lines, &e.event, H_ENTER, line.c_str());
  }
}

LineEditor::~LineEditor() = default;

InputResult LineEditor::read_line(const std::string& prompt, std::string& line) {
  Editor& e = *editor_;
  e.prompt = prompt;
  e.cancelled = false;
  int length = 0;
  // el_gets shows the prompt first: keys that come in between would be the terminal's.
  el_set(e.edit, EL_PREP_TERM, 1);
  const char* text = el_gets(e.edit, &length);
  if (e.cancelled) return InputResult::kCancelled;
  if (text == nullptr || length <= 0) {
    std::fputs("\n", stdout);
    std::fflush(stdout);
    return InputResult::kEnd;
  }
  line.assign(text, static_cast<std::size_t>(length));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  if (e.kept.add(line)) history(e.lines, &e.event, H_ENTER, line.c_str());
  return InputResult::kLine;
}

}  // namespace eidetic::cli
