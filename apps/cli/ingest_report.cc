#include "apps/cli/ingest_report.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/forget_report.h"
#include "apps/cli/interrupt.h"

namespace eidetic::cli {

const char* outcome_name(eid_ingest_outcome outcome) {
  switch (outcome) {
    case EID_INGEST_ADDED:
      return "added";
    case EID_INGEST_REPLACED:
      return "replaced";
    case EID_INGEST_UNCHANGED:
      return "unchanged";
    case EID_INGEST_RESUMED:
      return "resumed";
  }
  return "unknown";
}

bool is_final(int code) {
  return code == kExitInterrupted || code == kExitNoSpace || code == kExitWrongModel;
}

void Tally::add(const eid_ingest_result& result) {
  ++outcomes[outcome_name(result.outcome)];
  add_part(result);
}

void Tally::add_part(const eid_ingest_result& result) {
  tokens += result.tokens;
  tokens_read += result.tokens_read;
  blocks += result.blocks;
  bytes += result.bytes;
  seconds += result.seconds;
}

void Tally::fail(int with) {
  ++failed;
  code = code == kExitOk || is_final(with) || code == with ? with : static_cast<int>(kExitRuntime);
}

std::uint64_t Tally::skipped_in_all() const {
  std::uint64_t sum = 0;
  for (const auto& [reason, count] : skipped) sum += count;
  return sum;
}

bool CommitReporter::operator()(const eid_progress& progress) {
  meter_.update(progress);
  if (!last_) first_done_ = progress.done;  // where a resumed document goes on
  last_ = progress;
  if (progress.committed > committed_) {
    committed_ = progress.committed;
    if (json_) {
      print_json({{"event", "committed"},
                  {"source", source_},
                  {"tokens", progress.committed},
                  {"total", progress.total},
                  {"blocks", progress.blocks},
                  {"bytes", progress.bytes},
                  {"seconds", progress.seconds}});
    }
  }
  return !interrupted();
}

eid_ingest_result CommitReporter::so_far() const {
  eid_ingest_result result{};
  if (last_) {
    result.tokens_read = last_->done - first_done_;
    result.blocks = last_->blocks;
    result.bytes = last_->bytes;
    result.seconds = last_->seconds;
  }
  return result;
}

void report_done(const std::string& source, const eid_ingest_result& result, bool json) {
  if (json) {
    print_json({{"event", "done"},
                {"source", source},
                {"outcome", outcome_name(result.outcome)},
                {"document", result.document},
                {"tokens", result.tokens},
                {"tokens_read", result.tokens_read},
                {"blocks", result.blocks},
                {"bytes", result.bytes},
                {"seconds", result.seconds}});
    return;
  }
  std::cout << styled(printable(source), Style::kBold) << ": " << outcome_name(result.outcome)
            << ", " << with_commas(result.tokens) << " tokens in " << with_commas(result.blocks)
            << " blocks";
  if (result.tokens_read > 0) {
    std::cout << ", " << human_bytes(result.bytes) << ", " << human_seconds(result.seconds);
    if (result.seconds > 0) {
      std::cout << " ("
                << with_commas(static_cast<std::uint64_t>(static_cast<double>(result.tokens_read) /
                                                          result.seconds))
                << " tokens/s)";
    }
  }
  std::cout << std::endl;
}

void report_error(const std::string& source, const Error& error, bool json) {
  if (json) {
    nlohmann::json event = error_json(error);
    event["source"] = source;
    print_json(event);
  }
  print_error(error.what(), error.remedy());
}

void report_skipped(const std::string& source, const std::string& reason,
                    const std::string& message, bool json) {
  if (json) {
    print_json(
        {{"event", "skipped"}, {"source", source}, {"reason", reason}, {"message", message}});
  }
}

std::string by_reason(const std::map<std::string, std::uint64_t>& counts) {
  std::string text;
  for (const auto& [reason, count] : counts) {
    text += (text.empty() ? "" : ", ") + with_commas(count) + " " + reason;
  }
  return text;
}

void tell_gone(const Tally& tally, bool dry_run) {
  const auto tell = [](std::uint64_t count, const std::string& what) {
    if (count == 0) return;
    std::cout << counted(count, "document") << " of files that are not there any more: " << what
              << "\n";
  };
  tell(tally.pruned, dry_run ? "to be forgotten" : "forgotten");
  tell(tally.gone - tally.pruned, "kept");
}

void report_summary(const Tally& tally, bool json) {
  const auto outcome = [&](const char* name) -> std::uint64_t {
    const auto found = tally.outcomes.find(name);
    return found == tally.outcomes.end() ? 0 : found->second;
  };
  if (json) {
    print_json({{"event", "summary"},
                {"files", tally.files},
                {"failed", tally.failed},
                {"not_tried", tally.not_tried},
                {"added", outcome("added")},
                {"replaced", outcome("replaced")},
                {"resumed", outcome("resumed")},
                {"unchanged", outcome("unchanged")},
                {"skipped", tally.skipped_in_all()},
                {"skipped_by_reason", tally.skipped},
                {"left_out", tally.left_out},
                {"gone", tally.gone},
                {"pruned", tally.pruned},
                {"tokens", tally.tokens},
                {"tokens_read", tally.tokens_read},
                {"blocks", tally.blocks},
                {"bytes", tally.bytes},
                {"seconds", tally.seconds},
                {"exit_code", tally.code}});
    return;
  }
  const std::uint64_t skipped = tally.skipped_in_all();
  if (tally.files < 2 && skipped == 0 && tally.gone == 0 && tally.left_out == 0) return;
  std::cout << with_commas(tally.files) << (tally.files == 1 ? " file" : " files");
  if (!tally.outcomes.empty()) std::cout << ": " << by_reason(tally.outcomes);
  if (tally.failed > 0) std::cout << ", " << tally.failed << " failed";
  if (tally.not_tried > 0) std::cout << ", " << tally.not_tried << " not tried";
  std::cout << "; " << with_commas(tally.tokens_read) << " tokens read into "
            << with_commas(tally.blocks) << " blocks, " << human_bytes(tally.bytes) << " written, "
            << human_seconds(tally.seconds) << "\n";
  if (skipped > 0) {
    std::cout << with_commas(skipped) << " skipped: " << by_reason(tally.skipped) << "\n";
  }
  if (tally.left_out > 0) {
    std::cout << with_commas(tally.left_out) << " left out by ignore files, patterns or a dot\n";
  }
  tell_gone(tally, /*dry_run=*/false);
  std::cout << std::flush;
}

}  // namespace eidetic::cli
