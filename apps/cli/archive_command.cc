// eidetic archive migrate
#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <iostream>

#include "apps/cli/calibrate_command.h"
#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/ingest_report.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct MigrateFlags {
  ArchiveFlag archive;
  ModelFlags model;
  std::vector<std::string> collections;
  CalibrateRequest calibrate;
  double commit_seconds = 0;
  bool dry_run = false, leave_sessions = false, json = false;
};

std::vector<std::string> collections_of(const Archive& archive, const MigrateFlags& flags) {
  if (!flags.collections.empty()) return flags.collections;
  std::vector<std::string> names;
  const json list = parse_json(archive.list());
  for (const json& one : list.at("collections")) names.push_back(one.at("name"));
  return names;
}

std::uint64_t count_in(const json& report, const char* key) {
  return report.at(key).get<std::uint64_t>();
}

// "a, b and 3 more"
std::string some_of(const json& names) {
  constexpr std::size_t kMost = 5;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kMost; ++i) {
    text += (i == 0 ? "" : ", ") + printable(names[i].get<std::string>());
  }
  if (names.size() > kMost) text += " and " + with_commas(names.size() - kMost) + " more";
  return text;
}

// What does not come along: it is told whatever became of the rest.
void print_left(const json& report) {
  if (const json& names = report.at("sessions"); !names.empty()) {
    std::cout << "  sessions that recalled from it go on with their own model, without it: "
              << some_of(names) << "\n";
  }
  if (const json& names = report.at("unfinished"); !names.empty()) {
    std::cout << "  interrupted ingests are dropped, ingest them again: " << some_of(names) << "\n";
  }
}

void print_migrated(const json& report) {
  const std::string outcome = report.at("outcome");
  std::cout << styled(printable(report.at("collection").get<std::string>()), Style::kBold) << ": ";
  if (outcome == "unchanged") {
    std::cout << "is this model's already, " << with_commas(count_in(report, "documents"))
              << " documents\n";
    return;
  }
  if (outcome == "planned") {
    std::cout << with_commas(count_in(report, "documents_read")) << " of "
              << with_commas(count_in(report, "documents")) << " documents would be read, "
              << human_bytes(count_in(report, "text_bytes_to_read")) << " of text\n";
  } else {
    std::cout << "migrated, " << with_commas(count_in(report, "documents")) << " documents, "
              << with_commas(count_in(report, "tokens")) << " tokens in "
              << with_commas(count_in(report, "blocks")) << " blocks, "
              << with_commas(count_in(report, "tokens_read")) << " tokens read in "
              << human_seconds(report.at("seconds").get<double>()) << "\n";
  }
  print_left(report);
}

void print_other_sessions(const json& names) {
  if (names.empty()) return;
  print_note(std::to_string(names.size()) +
             " sessions are another model's and stay so: " + some_of(names));
}

json migrate_one(Archive& archive, const Engine& engine, const std::string& collection,
                 const MigrateFlags& flags) {
  ProgressMeter meter(collection, "tokens");
  std::uint64_t committed = 0;
  MigrateOptions options;
  options.collection = collection;
  options.commit_seconds = flags.commit_seconds;
  options.leave_sessions = flags.leave_sessions;
  const auto tell = [&](const eid_progress& progress) {
    meter.update(progress);
    if (flags.json && progress.committed > committed) {
      // Flushed, so that a reader may take it for an acknowledgement (rule 2).
      print_json({{"event", "committed"},
                  {"collection", collection},
                  {"source", progress.item},
                  {"tokens", progress.committed},
                  {"total", progress.total},
                  {"blocks", progress.blocks},
                  {"bytes", progress.bytes},
                  {"seconds", progress.seconds}});
    }
    committed = std::max(committed, progress.committed);
    return !interrupted();
  };
  json report = parse_json(archive.migrate(engine, options, tell));
  meter.clear();
  return report;
}

// Each collection by `migrate`, which gives its report.
int migrate_all(const Archive& archive, const MigrateFlags& flags,
                const std::function<json(const std::string& collection)>& migrate) {
  int code = kExitOk;
  json other_sessions = json::array();
  const std::vector<std::string> collections = collections_of(archive, flags);
  if (collections.empty()) print_note("the archive has no collections");
  for (const std::string& collection : collections) {
    try {
      json report = migrate(collection);
      other_sessions = report.at("other_sessions");
      if (flags.json) {
        report["event"] = report.at("outcome");
        print_json(report);
      } else {
        print_migrated(report);
      }
    } catch (const Error& error) {
      if (flags.json) {
        json event = error_json(error);
        event["collection"] = collection;
        print_json(event);
      }
      print_error(error.what(), error.remedy());
      if (code == kExitOk || is_final(exit_code(error.status()))) code = exit_code(error.status());
      if (is_final(code)) return code;
    }
  }
  if (!flags.json) print_other_sessions(other_sessions);
  return code;
}

int run_migrate_dry(const MigrateFlags& flags) {
  const Archive archive = flags.archive.open_to_read();
  const std::string fingerprint = Engine::fingerprint_of(flags.model.options());
  return migrate_all(archive, flags, [&](const std::string& collection) {
    return parse_json(archive.plan_migration(fingerprint, collection));
  });
}

int run_migrate(const MigrateFlags& flags) {
  for (const std::string& path : flags.calibrate.texts) read_text_file(path);  // before hours go by
  if (flags.dry_run) return run_migrate_dry(flags);
  // The archive first: a lock or a wrong path shows before the model is loaded.
  Archive archive = flags.archive.open_to_write(/*create=*/false);
  ModelFlags model = flags.model;
  if (!flags.calibrate.texts.empty()) model.profile = "none";
  const Engine engine = model.load();
  const int code = migrate_all(archive, flags, [&](const std::string& collection) {
    return migrate_one(archive, engine, collection, flags);
  });
  if (code != kExitOk || flags.calibrate.texts.empty()) return code;
  const CalibrationDone done = calibrate_model(engine, model, flags.calibrate);
  if (flags.json) {
    print_json({{"event", "calibrated"}, {"output", done.path}, {"profile", done.profile}});
  } else {
    print_calibration(done);
  }
  return kExitOk;
}

}  // namespace

void add_archive_commands(CLI::App& app, Action& action) {
  CLI::App* archive = app.add_subcommand("archive", "Change an archive as a whole");
  archive->require_subcommand(1);
  add_examples(
      *archive,
      "  eidetic archive migrate --archive memory.eid --model model.gguf --adapter tuned/");

  auto flags = std::make_shared<MigrateFlags>();
  CLI::App* c = archive->add_subcommand(
      "migrate", "Have another model, or an adapter, read the collections from their stored text");
  c->add_option("--collection", flags->collections,
                "A collection to migrate; repeat for several; default: all")
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("NAME");
  c->add_flag("--leave-sessions", flags->leave_sessions,
              "Also when sessions recall from a collection: they go on with the model that made "
              "them, without it");
  c->add_option("--calibrate", flags->calibrate.texts,
                "Then find how this model recalls, with needles in these texts, and write its "
                "profile, as `model calibrate` does")
      ->type_name("FILE...");
  c->add_flag("--dry-run", flags->dry_run,
              "Print what would be read; no weights are loaded, nothing is written");
  c->add_option("--commit-seconds", flags->commit_seconds,
                "Longest time between commits; default: 2")
      ->check(CLI::Range(0.0, 3600.0))
      ->type_name("X");
  add_json_flag(*c, flags->json);
  flags->archive.add(*c);
  flags->model.add(*c);
  add_examples(
      *c,
      "  eidetic archive migrate --archive memory.eid --model model.gguf --adapter tuned/\n"
      "  eidetic archive migrate --model tuned.gguf --collection books --dry-run\n"
      "  eidetic archive migrate --model tuned.gguf --calibrate books/*.txt --json\n"
      "\nThe old memory serves until all of a collection is read and swapped at once. Stopped or\n"
      "killed, the same command goes on; with the old model it gives up what was begun. It takes\n"
      "the time of ingesting once more and, until the swap, as much disk again.");
  c->callback([flags, &action] { action = [flags] { return run_migrate(*flags); }; });
}

}  // namespace eidetic::cli
