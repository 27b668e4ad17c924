#include "apps/cli/ingest_plan.h"

#include <openssl/evp.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/ingest_prune.h"
#include "apps/cli/ingest_report.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

constexpr double kUsualBytesPerToken = 4;  // of English prose, with the tokenizers of today

// What is in the collection, and what reading into it has cost so far.
struct Present {
  std::map<std::string, std::string> complete, interrupted;  // source -> hash of the text
  double bytes_per_token = kUsualBytesPerToken;
  std::optional<double> disk_per_token;
};

Present present_in(const std::optional<Archive>& archive, const std::string& name) {
  Present present;
  if (!archive) return present;
  double text = 0, tokens = 0;
  const json list = parse_json(archive->list());
  for (const json& collection : list.at("collections")) {
    const bool asked = collection.at("name") == name;
    for (const json& document : collection.at("documents")) {
      text += document.at("bytes").get<double>();
      tokens += document.at("tokens").get<double>() - collection.at("sinks").get<double>();
      if (!asked) continue;
      auto& hashes = document.at("complete") ? present.complete : present.interrupted;
      hashes[document.at("source")] = document.at("content_hash");
    }
  }
  if (tokens > 0) {
    present.bytes_per_token = text / tokens;
    present.disk_per_token = parse_json(archive->stats()).at("bytes_per_token").get<double>();
  }
  return present;
}

std::string action_for(const std::string& source, const std::string& hash, bool again,
                       const Present& present) {
  const auto unfinished = present.interrupted.find(source);
  const auto there = present.complete.find(source);
  if (there != present.complete.end() && there->second == hash && !again) return "unchanged";
  if (unfinished != present.interrupted.end() && unfinished->second == hash) return "resume";
  return there == present.complete.end() ? "add" : "replace";
}

class Plan {
 public:
  Plan(const PlanOptions& options, Present present)
      : options_(options), present_(std::move(present)) {}

  void skip(const std::string& source, const std::string& reason, const std::string& message) {
    ++tally_.skipped[reason];
    if (reason == "unreadable") tally_.code = kExitRuntime;
    if (options_.json) return report_skipped(source, reason, message, true);
    std::cout << "skip       " << printable(source) << ": " << reason << "\n";
  }

  void add(const IngestInput& input, const ingest::ReadDocument& document) {
    if (document.error) {
      if (!input.named) return skip(input.source, reason_of(document), document.error->what());
      ++tally_.files;
      tally_.fail(exit_code(document.error->status()));
      return report_error(input.source, *document.error, options_.json);
    }
    ++tally_.files;
    const ingest::ExtractedText& text = document.text;
    const std::string action =
        action_for(input.source, text_hash(text.text), options_.again, present_);
    ++tally_.outcomes[action];
    const auto tokens = static_cast<std::uint64_t>(static_cast<double>(text.text.size()) /
                                                   present_.bytes_per_token);
    if (action != "unchanged") {
      tally_.tokens += tokens;
      text_bytes_ += text.text.size();
    }
    if (options_.json) {
      print_json({{"event", "planned"},
                  {"source", input.source},
                  {"action", action},
                  {"format", text.format},
                  {"bytes", text.original_bytes},
                  {"text_bytes", text.text.size()},
                  {"estimated_tokens", tokens}});
      return;
    }
    std::cout << action << std::string(11 - action.size(), ' ') << printable(input.source) << ": "
              << text.format << ", " << human_bytes(text.original_bytes) << ", about "
              << with_commas(tokens) << " tokens\n";
  }

  void see_to_gone(const IngestInputs& inputs, const std::set<std::string>& gone,
                   std::optional<Archive>& archive) {
    tally_.gone = gone.size();
    if (gone.empty() || !options_.prune) return;
    prune(inputs, gone, {options_.collection, /*dry_run=*/true, options_.json}, *archive, tally_);
  }

  static std::string reason_of(const ingest::ReadDocument& document) {
    return document.refusal.empty() ? "unreadable" : document.refusal;
  }

  int finish(std::uint64_t left_out) {
    const auto count = [&](const char* action) { return tally_.outcomes[action]; };
    const double tokens = static_cast<double>(tally_.tokens);
    if (options_.json) {
      json plan = {{"event", "plan"},
                   {"files", tally_.files},
                   {"failed", tally_.failed},
                   {"add", count("add")},
                   {"replace", count("replace")},
                   {"resume", count("resume")},
                   {"unchanged", count("unchanged")},
                   {"skipped", tally_.skipped_in_all()},
                   {"skipped_by_reason", tally_.skipped},
                   {"left_out", left_out},
                   {"gone", tally_.gone},
                   {"prune", tally_.pruned},
                   {"text_bytes", text_bytes_},
                   {"estimated_tokens", tally_.tokens},
                   {"exit_code", tally_.code}};
      if (present_.disk_per_token) {
        plan["estimated_bytes"] = static_cast<std::uint64_t>(tokens * *present_.disk_per_token);
      }
      print_json(plan);
      return tally_.code;
    }
    std::cout << with_commas(tally_.files) << (tally_.files == 1 ? " file" : " files");
    if (!tally_.outcomes.empty()) std::cout << ": " << by_reason(tally_.outcomes);
    std::cout << "; to read: " << human_bytes(text_bytes_) << ", about "
              << with_commas(tally_.tokens) << " tokens";
    if (present_.disk_per_token) {
      std::cout << ", about "
                << human_bytes(static_cast<std::uint64_t>(tokens * *present_.disk_per_token))
                << " on disk";
    }
    std::cout << "\n";
    if (!tally_.skipped.empty()) std::cout << "skipped: " << by_reason(tally_.skipped) << "\n";
    if (left_out > 0) {
      std::cout << with_commas(left_out) << " left out by ignore files, patterns or a dot\n";
    }
    tell_gone(tally_, /*dry_run=*/true);
    return tally_.code;
  }

 private:
  const PlanOptions& options_;
  Present present_;
  Tally tally_;
  std::uint64_t text_bytes_ = 0;
};

}  // namespace

std::string text_hash(const std::string& text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), digest, &length, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) {
    char byte[3];
    std::snprintf(byte, sizeof byte, "%02x", digest[i]);
    hex += byte;
  }
  return hex;
}

int print_plan(IngestInputs inputs, const PlanOptions& options, std::optional<Archive>& archive) {
  Plan plan(options, present_in(archive, options.collection));
  std::set<std::string> sources, gone;
  if (archive) sources = sources_in(*archive, options.collection);
  if (options.prune) gone = take_named_gone(inputs, sources);
  for (const ingest::SkippedEntry& entry : inputs.skipped) {
    plan.skip(entry.path, entry.reason, entry.detail);
  }
  ingest::Prefetch ahead(inputs.inputs.size(), options.jobs, [&](std::size_t i) {
    const IngestInput& input = inputs.inputs[i];
    return input.regular ? read_input(input, options.format) : ingest::ReadDocument{};
  });
  for (const IngestInput& input : inputs.inputs) {
    stop_if_interrupted();
    const ingest::ReadDocument document = ahead.next();
    plan.add(input, input.regular ? document : read_input(input, options.format));
  }
  gone.merge(gone_from_folders(inputs, sources));
  plan.see_to_gone(inputs, gone, archive);
  return plan.finish(inputs.left_out);
}

}  // namespace eidetic::cli
