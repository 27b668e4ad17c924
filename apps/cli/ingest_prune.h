// `ingest --prune`: documents whose files are not there any more.
#ifndef EIDETIC_APPS_CLI_INGEST_PRUNE_H_
#define EIDETIC_APPS_CLI_INGEST_PRUNE_H_

#include <optional>
#include <set>
#include <string>

#include "apps/cli/ingest_inputs.h"
#include "apps/cli/ingest_report.h"

namespace eidetic::cli {

// The names of a collection's documents, those that were not read to their end included. Empty when
// there is no such collection.
std::set<std::string> sources_in(const Archive& archive, const std::string& collection);

// Those of `sources` that are named as files of the walked folders are and whose files are not
// there. A file that only cannot be looked at is there.
std::set<std::string> gone_from_folders(const IngestInputs& inputs,
                                        const std::set<std::string>& sources);

// Takes the named files that are not there, and are in `sources`, out of the inputs: with --prune
// they are no failures. Returns them.
std::set<std::string> take_named_gone(IngestInputs& inputs, const std::set<std::string>& sources);

struct PruneOptions {
  std::string collection;
  bool dry_run = false, json = false;
};

// Forgets the documents of `gone`, each in one durable step, or with dry_run tells which it would.
// Those of a folder without any entry stay, and it is an error: its disk may be absent. A failure
// is reported, and the others are forgotten all the same; Ctrl-C ends it between two of them.
void prune(const IngestInputs& inputs, const std::set<std::string>& gone,
           const PruneOptions& options, Archive& archive, Tally& tally);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INGEST_PRUNE_H_
