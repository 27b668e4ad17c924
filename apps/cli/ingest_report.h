// What `ingest` tells: a line per commit and per document, and a summary.
#ifndef EIDETIC_APPS_CLI_INGEST_REPORT_H_
#define EIDETIC_APPS_CLI_INGEST_REPORT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "apps/cli/exit_code.h"
#include "apps/cli/terminal.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

const char* outcome_name(eid_ingest_outcome outcome);

// Failures that every further file would meet as well.
bool is_final(int code);

// What all files came to. A final failure gives its code, others of different kinds the general
// one.
struct Tally {
  std::uint64_t files = 0, failed = 0, not_tried = 0;
  std::map<std::string, std::uint64_t> outcomes, skipped;  // by outcome, by reason
  std::uint64_t left_out = 0;
  // Documents whose files are not there any more, and those of them that were forgotten.
  std::uint64_t gone = 0, pruned = 0;
  std::uint64_t tokens = 0, tokens_read = 0, blocks = 0, bytes = 0;
  double seconds = 0;
  int code = kExitOk;

  void add(const eid_ingest_result& result);
  // What was done for a document that failed.
  void add_part(const eid_ingest_result& result);
  void fail(int with);
  std::uint64_t skipped_in_all() const;
};

// Reports what a kill can no longer lose: one line per commit, flushed, so that a reader may take
// it for an acknowledgement (rule 2).
class CommitReporter {
 public:
  CommitReporter(std::string source, ProgressMeter& meter, bool json)
      : source_(std::move(source)), meter_(meter), json_(json) {}

  bool operator()(const eid_progress& progress);
  std::uint64_t committed() const { return committed_; }
  // What was done before a failure.
  eid_ingest_result so_far() const;

 private:
  std::string source_;
  ProgressMeter& meter_;
  bool json_;
  std::uint64_t committed_ = 0, first_done_ = 0;
  std::optional<eid_progress> last_;
};

void report_done(const std::string& source, const eid_ingest_result& result, bool json);
void report_error(const std::string& source, const Error& error, bool json);
// An entry of a directory that was not read; on a terminal it only counts in the summary.
void report_skipped(const std::string& source, const std::string& reason,
                    const std::string& message, bool json);
void report_summary(const Tally& tally, bool json);
// A line for the documents whose files are gone, by what becomes of them.
void tell_gone(const Tally& tally, bool dry_run);
// "3 binary, 1 empty"
std::string by_reason(const std::map<std::string, std::uint64_t>& counts);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_INGEST_REPORT_H_
