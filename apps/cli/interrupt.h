// Ctrl-C (and SIGTERM): the first asks the running call to stop, the second ends the process. A
// pipe that nobody reads any more ends it at once.
#ifndef EIDETIC_APPS_CLI_INTERRUPT_H_
#define EIDETIC_APPS_CLI_INTERRUPT_H_

namespace eidetic::cli {

// Call once, before any long call.
void install_signal_handlers();

// Whether the user has asked to stop. Callbacks return it to the library.
bool interrupted();

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INTERRUPT_H_
