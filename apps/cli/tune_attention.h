// Which options of `tune` the attention reads that it trains with.
#ifndef EIDETIC_APPS_CLI_TUNE_ATTENTION_H_
#define EIDETIC_APPS_CLI_TUNE_ATTENTION_H_

#include <string>

#include "apps/cli/command.h"
#include "apps/cli/configuration.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

// By the name of --attention: the one that is asked for, else the default.
std::string attention_of(const TuneOptions& options);

// Options of `tune`, which is `command`, that the attention does not read are an error, which names
// the attentions that do, where they were typed. Where the configuration file has them they are
// left out of `options` with a note: a file is for runs of several kinds. Throws Error
// EID_INVALID_ARGUMENT. An attention that is none is left to the library.
void leave_out_unread(const CLI::App& command, const OptionsOfFile& of_file, TuneOptions& options);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_TUNE_ATTENTION_H_
