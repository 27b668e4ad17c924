// The exit codes of `eidetic`: one table, which docs/cli.md and `eidetic --help` repeat.
#ifndef EIDETIC_APPS_CLI_EXIT_CODE_H_
#define EIDETIC_APPS_CLI_EXIT_CODE_H_

#include <array>

#include "eidetic/eidetic.h"

namespace eidetic::cli {

enum ExitCode {
  kExitOk = 0,
  kExitRuntime = 1,
  kExitUsage = 2,
  kExitNotFound = 3,
  kExitCorruption = 4,
  kExitWrongModel = 5,
  kExitLocked = 6,
  kExitNoSpace = 7,
  kExitInterrupted = 130,
};

struct ExitCodeMeaning {
  ExitCode code;
  const char* meaning;
};

inline constexpr std::array<ExitCodeMeaning, 9> kExitCodes{{
    {kExitOk, "done"},
    {kExitRuntime, "it failed: the message says why"},
    {kExitUsage,
     "the command line or the configuration file is wrong, or an argument has a wrong value"},
    {kExitNotFound, "no such file, archive, collection, document or session"},
    {kExitCorruption, "stored bytes, or a model file, fail their checks"},
    {kExitWrongModel, "the memory was made by another model"},
    {kExitLocked, "another process writes the archive, or trains into the folder"},
    {kExitNoSpace, "the disk is full; what was committed is kept"},
    {kExitInterrupted, "stopped by Ctrl-C; what was committed is kept"},
}};

constexpr ExitCode exit_code(eid_status status) {
  switch (status) {
    case EID_OK:
      return kExitOk;
    case EID_INVALID_ARGUMENT:
      return kExitUsage;
    case EID_NOT_FOUND:
      return kExitNotFound;
    case EID_NO_SPACE:
      return kExitNoSpace;
    case EID_CORRUPTION:
      return kExitCorruption;
    case EID_LOCKED:
      return kExitLocked;
    case EID_FINGERPRINT_MISMATCH:
      return kExitWrongModel;
    case EID_CANCELLED:
      return kExitInterrupted;
    case EID_ALREADY_EXISTS:
    case EID_IO_ERROR:
    case EID_UNSUPPORTED:
    case EID_OUT_OF_MEMORY:
    case EID_INTERNAL:
      break;
  }
  return kExitRuntime;
}

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EXIT_CODE_H_
