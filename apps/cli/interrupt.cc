#include "apps/cli/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string_view>

namespace eidetic::cli {
namespace {

// A signal handler reaches nothing but statics, so these are the globals of the program.
std::atomic<int> requests{0};
std::atomic<bool> told{false}, silent{false};
// Handlers write a byte into the second for who waits at the first.
int wakes[2] = {-1, -1};
static_assert(std::atomic<int>::is_always_lock_free, "only lock-free atomics may be used here");

extern "C" void on_signal(int number) {
  if (number == SIGTERM) told = true;
  if (requests.fetch_add(1) == 0) {
    wake_waiting();
    if (silent) return;
    constexpr std::string_view note =
        "\neidetic: stopping after the step at hand; press Ctrl-C again to end at once\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, note.data(), note.size());
    return;
  }
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void install_signal_handlers() {
  // Without it a wait ends with the input alone.
  if (::pipe2(wakes, O_NONBLOCK | O_CLOEXEC) != 0) wakes[0] = wakes[1] = -1;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  // A parent may have it ignored; then we would go on for nobody.
  ::signal(SIGPIPE, SIG_DFL);
  // A file that grows over the user's limit (`ulimit -f`) is an error of its write, which is told.
  ::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() {
  return requests.load(std::memory_order_relaxed) > 0;
}

void wake_waiting() {
  const int number = errno;
  const char byte = 0;
  [[maybe_unused]] const auto written = ::write(wakes[1], &byte, 1);
  errno = number;
}

Waited wait_for_input(int descriptor) {
  for (;;) {
    if (interrupted()) return Waited::kInterrupted;
    pollfd waiting[] = {{descriptor, POLLIN, 0}, {wakes[0], POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0 && errno != EINTR) return Waited::kInput;  // for read to tell
    if (waiting[1].revents != 0) {
      char bytes[64];
      while (::read(wakes[0], bytes, sizeof bytes) > 0) {
      }
      return interrupted() ? Waited::kInterrupted : Waited::kWoken;
    }
    if (waiting[0].revents != 0) return Waited::kInput;
  }
}

bool told_to_end() {
  return told;
}

void say_nothing_when_interrupted() {
  silent = true;
}

void go_on_after_interrupt() {
  if (!told) requests = 0;
}

}  // namespace eidetic::cli
