// `tune` on several GPUs: a process for each, begun and ended together.
#ifndef EIDETIC_APPS_CLI_TUNE_PROCESSES_H_
#define EIDETIC_APPS_CLI_TUNE_PROCESSES_H_

namespace eidetic::cli {

// Runs this very command `count` times at once, with --process and --meeting besides, and waits.
// What the first one prints is printed, and of another one what it says when it fails. Ctrl-C is
// handed to the first one, which tells the others in its own way; when one fails, the others are
// ended. Returns the exit code of the one that failed first, else of the first one.
int run_tune_processes(int count);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_TUNE_PROCESSES_H_
