#include "apps/cli/ingest_prune.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <map>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/forget_report.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

bool is_within(const std::string& source, const std::string& folder) {
  if (folder == ".") return source[0] != '/' && source.rfind("../", 0) != 0;
  return source.rfind(folder == "/" ? folder : folder + "/", 0) == 0;
}

bool is_gone(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

void fail_with(int code, Tally& tally) {
  if (tally.code == kExitOk || is_final(code)) tally.code = code;
}

// What stays because its folder is empty is taken out of `gone`.
void keep_of_empty_folders(const IngestInputs& inputs, const PruneOptions& options,
                           std::set<std::string>& gone, Tally& tally) {
  for (const std::string& folder : inputs.empty_folders) {
    const std::size_t kept =
        std::erase_if(gone, [&](const std::string& source) { return is_within(source, folder); });
    if (kept == 0) continue;
    const Error error(EID_IO_ERROR,
                      "the directory '" + folder + "' is empty, and " + counted(kept, "document") +
                          " of '" + options.collection + "' came from it: none is forgotten",
                      "see whether its disk is there; one that shall go: eidetic memory forget "
                      "--collection " +
                          options.collection + " --source NAME");
    report_error(folder, error, options.json);
    fail_with(kExitRuntime, tally);
  }
}

void report_pruned(const std::set<std::string>& sources, const json& receipt,
                   const PruneOptions& options) {
  std::map<std::string, std::uint64_t> blocks;
  for (const json& document : receipt.at("documents")) {
    blocks[document.at("source")] += document.at("blocks").get<std::uint64_t>();
  }
  for (const std::string& source : sources) {
    const std::string count = counted(blocks[source], "block");
    if (options.json) {
      print_json({{"event", "pruned"}, {"source", source}, {"blocks", blocks[source]}});
    } else if (options.dry_run) {
      std::cout << "forget     " << printable(source) << ": its file is gone, " << count << "\n";
    } else {
      std::cout << styled(printable(source), Style::kBold) << ": forgotten, its file is gone, "
                << count << "\n";
    }
  }
  if (options.json) {
    print_json({{"event", "forgotten"}, {"receipt", receipt}});
  } else {
    print_seen(receipt);
  }
  std::cout << std::flush;
}

}  // namespace

std::set<std::string> sources_in(const Archive& archive, const std::string& collection) {
  std::set<std::string> sources;
  const json list = parse_json(archive.list());
  for (const json& one : list.at("collections")) {
    if (one.at("name") != collection) continue;
    for (const json& document : one.at("documents")) sources.insert(document.at("source"));
  }
  return sources;
}

std::set<std::string> gone_from_folders(const IngestInputs& inputs,
                                        const std::set<std::string>& sources) {
  std::set<std::string> gone;
  for (const std::string& source : sources) {
    const auto holds = [&](const std::string& folder) { return is_within(source, folder); };
    if (std::any_of(inputs.folders.begin(), inputs.folders.end(), holds) && is_gone(source)) {
      gone.insert(source);
    }
  }
  return gone;
}

std::set<std::string> take_named_gone(IngestInputs& inputs, const std::set<std::string>& sources) {
  std::set<std::string> gone;
  std::erase_if(inputs.inputs, [&](const IngestInput& input) {
    // Standard input is named "-" and no file.
    const bool takes = input.named && input.path == input.source &&
                       sources.contains(input.source) && is_gone(input.path);
    if (takes) gone.insert(input.source);
    return takes;
  });
  return gone;
}

void prune(const IngestInputs& inputs, const std::set<std::string>& gone,
           const PruneOptions& options, Archive& archive, Tally& tally) {
  std::set<std::string> going = gone;
  keep_of_empty_folders(inputs, options, going, tally);
  if (going.empty()) return;
  ForgetOptions forget;
  forget.collection = options.collection;
  forget.sources.assign(going.begin(), going.end());
  forget.dry_run = options.dry_run;
  try {
    stop_if_interrupted();
    report_pruned(going, parse_json(archive.forget(forget).receipt), options);
    tally.pruned += going.size();
  } catch (const Error& error) {
    if (options.json) {
      json event = error_json(error);
      event["collection"] = options.collection;
      print_json(event);
    }
    print_error(error.what(), error.remedy());
    fail_with(exit_code(error.status()), tally);
  }
}

}  // namespace eidetic::cli
