// Ctrl-C (and SIGTERM): the first asks the running call to stop, the second ends the process. A
// pipe that nobody reads any more ends it at once.
#ifndef EIDETIC_APPS_CLI_INTERRUPT_H_
#define EIDETIC_APPS_CLI_INTERRUPT_H_

namespace eidetic::cli {

// Call once, before any long call.
void install_signal_handlers();

// Whether the user has asked to stop. Callbacks return it to the library.
bool interrupted();
// The same, by SIGTERM: not a step but the program is to end.
bool told_to_end();

// Waits until `descriptor` has input, or has ended. A signal that comes just before the wait ends
// it too, on whatever thread it was handled; a poll alone would miss it.
enum class Waited {
  kInput,
  kWoken,        // by wake_waiting
  kInterrupted,  // interrupted() is true
};
Waited wait_for_input(int descriptor);
// For handlers of other signals.
void wake_waiting();

// For a program that goes on after Ctrl-C. It says itself that it stopped; what it stopped for is
// done with, and the next Ctrl-C asks again.
void say_nothing_when_interrupted();
void go_on_after_interrupt();

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INTERRUPT_H_
