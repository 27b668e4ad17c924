// What `ingest` is to read: named files, the files of directories, standard input.
#ifndef EIDETIC_APPS_CLI_INGEST_INPUTS_H_
#define EIDETIC_APPS_CLI_INGEST_INPUTS_H_

#include <string>
#include <vector>

#include "apps/ingest/directory_walk.h"
#include "apps/ingest/prefetch.h"

namespace eidetic::cli {

struct IngestInput {
  std::string path;    // "-": standard input
  std::string source;  // the document's name
  bool named = false;  // on the command line; else found in a directory
  // A pipe and the like: read on the thread that Ctrl-C reaches, and once.
  bool regular = true;
};

struct IngestInputs {
  std::vector<IngestInput> inputs;            // each source once
  std::vector<ingest::SkippedEntry> skipped;  // of directories
  std::uint64_t left_out = 0;                 // of directories
  std::vector<std::string> folders;           // that were walked
  std::vector<std::string> empty_folders;     // of these, without any entry
  std::vector<std::string> unused;            // patterns to include that fit no file of theirs
};

// Throws Error (EID_INVALID_ARGUMENT): one `name` for several files or for a directory, or none for
// standard input. A path that is not there is an input like others: reading it tells.
IngestInputs list_inputs(const std::vector<std::string>& paths, const std::string& name,
                         const ingest::WalkOptions& options);

// The document of an input; never throws. `format` as extract_text() has it.
ingest::ReadDocument read_input(const IngestInput& input, const std::string& format);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INGEST_INPUTS_H_
