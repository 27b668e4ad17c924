// `tune` on several GPUs: a process for each, begun and ended together.
#ifndef EIDETIC_APPS_CLI_TUNE_PROCESSES_H_
#define EIDETIC_APPS_CLI_TUNE_PROCESSES_H_

#include <string>

namespace eidetic::cli {

// Runs this very command `count` times at once, with --process and --meeting besides, and waits.
// What the first one prints is printed, and of another one what it says when it fails. Ctrl-C is
// handed to the first one, which tells the others in its own way; when one fails, the others are
// ended. Returns the exit code of the one that failed first, else of the first one.
int run_tune_processes(int count);

// Of one of these: when the process that began it is gone, killed as it may be, the folder of the
// file `meeting` is removed and this process ends at once.
void end_with_who_began_it(const std::string& meeting);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_TUNE_PROCESSES_H_
