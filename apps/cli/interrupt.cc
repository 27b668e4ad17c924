#include "apps/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <string_view>

namespace eidetic::cli {
namespace {

// A signal handler reaches nothing but statics, so these are the globals of the program.
std::atomic<int> requests{0};
std::atomic<bool> told{false}, silent{false};
static_assert(std::atomic<int>::is_always_lock_free, "only lock-free atomics may be used here");

extern "C" void on_signal(int number) {
  if (number == SIGTERM) told = true;
  if (requests.fetch_add(1) == 0) {
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
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  // A parent may have it ignored; then we would go on for nobody.
  ::signal(SIGPIPE, SIG_DFL);
}

bool interrupted() {
  return requests.load(std::memory_order_relaxed) > 0;
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
