// `ingest --dry-run`: what would be read, without a model and without writing.
#ifndef EIDETIC_APPS_CLI_INGEST_PLAN_H_
#define EIDETIC_APPS_CLI_INGEST_PLAN_H_

#include <optional>
#include <string>

#include "apps/cli/ingest_inputs.h"

namespace eidetic::cli {

struct PlanOptions {
  std::string collection, format;
  bool again = false, prune = false, json = false;
  int jobs = 1;
};

// Hex SHA-256, as archives have it of their texts.
std::string text_hash(const std::string& text);

// Prints a line per document and a summary; returns the exit code that reading would have so far as
// the files decide on it. `archive`: the one to read into, opened to read; nothing when it is to be
// made.
int print_plan(IngestInputs inputs, const PlanOptions& options, std::optional<Archive>& archive);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INGEST_PLAN_H_
