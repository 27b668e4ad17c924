// eidetic ingest FILE|DIRECTORY|-... --into COLLECTION
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <optional>
#include <thread>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/ingest_inputs.h"
#include "apps/cli/ingest_plan.h"
#include "apps/cli/ingest_prune.h"
#include "apps/cli/ingest_report.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/ingest/ignore_rules.h"

namespace eidetic::cli {
namespace {

struct IngestFlags {
  std::vector<std::string> files;
  std::string collection, name, format = "auto";
  ingest::WalkOptions walk;
  ModelFlags model;
  ArchiveFlag archive;
  int window = 0, sinks = 0, segment = 0, jobs = 0;
  std::string codec;
  double commit_seconds = 0;
  bool again = false, prune = false, dry_run = false, json = false;
};

// Loads the model when something must be read: what is there already, read by this model, is told
// from its hash.
class Reader {
 public:
  Reader(const IngestFlags& flags, Archive& archive) : flags_(flags), archive_(archive) {}

  // Before a document is read. What it throws is wrong with the model or the archive, and so with
  // every further document.
  void prepare(const IngestOptions& options) {
    if (!engine_ && !is_there(options)) engine_ = flags_.model.load();
  }
  eid_ingest_result ingest(const IngestOptions& options, const Progress& progress) {
    if (engine_) return archive_.ingest(*engine_, options, progress);
    return archive_.ingest_unchanged(options);
  }

 private:
  bool is_there(const IngestOptions& options) {
    if (flags_.again) return false;
    if (!looked_) look();
    const auto hash = hashes_.find(options.source);
    return hash != hashes_.end() && hash->second == text_hash(std::string(options.text));
  }

  // Which documents are there, when this model read them.
  void look() {
    looked_ = true;
    const nlohmann::json list = parse_json(archive_.list());
    for (const nlohmann::json& collection : list.at("collections")) {
      if (collection.at("name") != flags_.collection) continue;
      if (collection.at("fingerprint") != Engine::fingerprint_of(flags_.model.options())) return;
      for (const nlohmann::json& document : collection.at("documents")) {
        if (!document.at("complete")) continue;
        hashes_[document.at("source")] = document.at("content_hash");
      }
    }
  }

  const IngestFlags& flags_;
  Archive& archive_;
  std::optional<Engine> engine_;
  bool looked_ = false;
  std::map<std::string, std::string> hashes_;  // of texts, by source
};

int jobs_of(const IngestFlags& flags) {
  if (flags.jobs > 0) return flags.jobs;
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 4u));
}

void ingest_text(const std::string& source, const ingest::ExtractedText& extracted,
                 const IngestFlags& flags, Reader& reader, Tally& tally) {
  ProgressMeter meter(source, "tokens");
  CommitReporter reporter(source, meter, flags.json);
  IngestOptions options{.collection = flags.collection, .source = source, .text = extracted.text};
  options.codec = flags.codec;
  options.window = flags.window;
  options.sinks = flags.sinks;
  options.segment = flags.segment;
  options.commit_seconds = flags.commit_seconds;
  options.again = flags.again;
  if (extracted.format != "text") options.format = extracted.format;
  if (!extracted.pieces.empty()) {
    options.pieces = &extracted.pieces;
    options.original_bytes = extracted.original_bytes;
  }
  reader.prepare(options);
  if (flags.json) {
    print_json({{"event", "started"},
                {"source", source},
                {"format", extracted.format},
                {"bytes", extracted.original_bytes},
                {"text_bytes", extracted.text.size()}});
  }
  try {
    const eid_ingest_result result = reader.ingest(options, std::ref(reporter));
    meter.clear();
    report_done(source, result, flags.json);
    tally.add(result);
  } catch (const Error& error) {
    meter.clear();
    tally.add_part(reporter.so_far());
    if (error.status() == EID_CANCELLED) {
      const Error stopped(EID_CANCELLED,
                          "stopped in '" + source + "': " + with_commas(reporter.committed()) +
                              " of its tokens are committed and kept",
                          "run the same command again to go on from there");
      report_error(source, stopped, flags.json);
    } else {
      report_error(source, error, flags.json);
    }
    tally.fail(exit_code(error.status()));
  }
}

// A file that gave no text: named, it is a failure; found in a directory, it is skipped.
void count_unread(const IngestInput& input, const ingest::ReadDocument& document,
                  const IngestFlags& flags, Tally& tally) {
  const Error& error = *document.error;
  const bool refused = !document.refusal.empty();
  if (!input.named && error.status() != EID_CANCELLED) {
    --tally.files;
    ++tally.skipped[refused ? document.refusal : "unreadable"];
    report_skipped(input.source, refused ? document.refusal : "unreadable", error.what(),
                   flags.json);
    if (refused) return;
    print_error(error.what(), error.remedy());
    if (tally.code == kExitOk) tally.code = kExitRuntime;
    return;
  }
  report_error(input.source, error, flags.json);
  tally.fail(exit_code(error.status()));
}

void count_skipped(const IngestInputs& inputs, const IngestFlags& flags, Tally& tally) {
  tally.left_out = inputs.left_out;
  for (const ingest::SkippedEntry& entry : inputs.skipped) {
    ++tally.skipped[entry.reason];
    report_skipped(entry.path, entry.reason, entry.detail, flags.json);
    if (entry.reason != "unreadable") continue;
    print_error("'" + entry.path + "' cannot be read: " + entry.detail, "check its permissions");
    tally.code = kExitRuntime;
  }
}

// Counts the documents whose files are not there any more, and forgets them when that is wanted.
void see_to_gone(const IngestInputs& inputs, std::set<std::string> named, const IngestFlags& flags,
                 Archive& archive, Tally& tally) {
  std::set<std::string> gone = std::move(named);
  if (!inputs.folders.empty()) {
    gone.merge(gone_from_folders(inputs, sources_in(archive, flags.collection)));
  }
  tally.gone = gone.size();
  if (!flags.prune || is_final(tally.code)) return;
  prune(inputs, gone, {flags.collection, /*dry_run=*/false, flags.json}, archive, tally);
}

int run_dry(const IngestInputs& inputs, const IngestFlags& flags) {
  std::optional<Archive> archive;
  try {
    archive.emplace(flags.archive.open_to_read());
  } catch (const Error& error) {
    if (error.status() != EID_NOT_FOUND) throw;  // else it would be made
  }
  PlanOptions options{flags.collection, flags.format, flags.again,
                      flags.prune,      flags.json,   jobs_of(flags)};
  return print_plan(inputs, options, archive);
}

int run_ingest(const IngestFlags& flags) {
  IngestInputs list = list_inputs(flags.files, flags.name, flags.walk);
  for (const std::string& pattern : list.unused) {
    print_note("no file fits --include '" + pattern + "'");
  }
  if (flags.dry_run) return run_dry(list, flags);
  Tally tally;
  // The archive first: a lock or a wrong path shows before the model is loaded.
  Archive archive = flags.archive.open_to_write(/*create=*/true);
  Reader reader(flags, archive);
  std::set<std::string> gone;
  if (flags.prune) gone = take_named_gone(list, sources_in(archive, flags.collection));
  count_skipped(list, flags, tally);
  tally.files = tally.not_tried = list.inputs.size();
  ingest::Prefetch ahead(list.inputs.size(), jobs_of(flags), [&](std::size_t i) {
    const IngestInput& input = list.inputs[i];
    return input.regular ? read_input(input, flags.format) : ingest::ReadDocument{};
  });
  for (const IngestInput& input : list.inputs) {
    if (interrupted()) {
      report_error(input.source, Error(EID_CANCELLED, "stopped before '" + input.source + "'"),
                   flags.json);
      tally.code = kExitInterrupted;
      break;
    }
    --tally.not_tried;
    ingest::ReadDocument document = ahead.next();
    if (!input.regular) document = read_input(input, flags.format);
    if (document.error) {
      count_unread(input, document, flags, tally);
    } else {
      ingest_text(input.source, document.text, flags, reader, tally);
    }
    if (is_final(tally.code)) break;
  }
  see_to_gone(list, std::move(gone), flags, archive, tally);
  report_summary(tally, flags.json);
  return tally.code;
}

}  // namespace

void add_ingest_command(CLI::App& app, Action& action) {
  auto flags = std::make_shared<IngestFlags>();
  CLI::App* c = app.add_subcommand("ingest", "Read files of text into a collection of memory");
  c->add_option("FILE", flags->files,
                "Text, Markdown, HTML or source code in UTF-8; a directory: the files in it; -: "
                "standard input")
      ->required();
  c->add_option("--into,--collection", flags->collection, "The collection; made when it is new")
      ->required()
      ->type_name("NAME");
  CLI::Option* name = c->add_option("--name,--source", flags->name,
                                    "The document's name; default: the path as given");
  name->type_name("NAME");
  c->add_option("--format", flags->format,
                "auto (by the file's name), text, markdown, code or html (its text without markup)")
      ->check(CLI::IsMember({"auto", "text", "markdown", "code", "html"}))
      ->capture_default_str()
      ->type_name("NAME");
  c->add_flag("--again", flags->again, "Also read files that did not change");
  c->add_flag("--prune", flags->prune,
              "Forget for good the documents of these directories and files that are not there any "
              "more")
      ->excludes(name);
  c->add_flag(
      "--dry-run", flags->dry_run,
      "Print what would be read, replaced, skipped and forgotten; no model, nothing is written");
  c->add_option("--jobs", flags->jobs,
                "Files that are read ahead of the model at a time; default: one per core, up to 4")
      ->check(CLI::Range(0, 64))
      ->type_name("N");
  const auto patterns = [&](const char* name, auto& value, const char* text) {
    c->add_option(name, value, text)
        ->type_name("GLOB")
        ->take_all()
        ->allow_extra_args(false)
        ->check(CLI::Validator(
            [](std::string& pattern) {
              if (pattern.empty()) return std::string("a pattern cannot be empty");
              const std::string fault = ingest::fault_of(pattern);
              return fault.empty() ? fault : "'" + pattern + "' can fit nothing: " + fault;
            },
            ""))
        ->group("Directories");
  };
  patterns("--include", flags->walk.include,
           "Only files that fit, such as '*.md' or 'docs/**'; may be repeated");
  patterns("--exclude", flags->walk.exclude, "Not what fits, such as 'drafts/'; may be repeated");
  c->add_flag("--hidden", flags->walk.hidden, "Also entries whose name begins with a dot")
      ->group("Directories");
  c->add_flag("--no-ignore", flags->walk.no_ignore,
              "Also what .gitignore and .eideticignore leave out")
      ->group("Directories");
  c->add_flag("--follow", flags->walk.follow, "Also what symbolic links lead to")
      ->group("Directories");
  add_json_flag(*c, flags->json);
  flags->archive.add(*c);
  flags->model.add(*c);
  const auto size = [&](const char* name, auto& value, const char* text, int least) {
    c->add_option(name, value, text)
        ->check(CLI::Range(least, 1 << 24))
        ->type_name("N")
        ->group("Reading");
  };
  // Left open, they are the collection's own.
  size("--window", flags->window, "Tokens of the attention window; new collection: 1024", 0);
  size("--sinks", flags->sinks, "First tokens always attended to, -1: none; new collection: 32",
       -1);
  size("--segment", flags->segment, "Tokens in one forward pass; new collection: 512", 0);
  c->add_option("--codec", flags->codec, "int8 or fp16; new collection: int8")
      ->check(CLI::IsMember({"int8", "fp16"}))
      ->type_name("NAME")
      ->group("Reading");
  c->add_option("--commit-seconds", flags->commit_seconds,
                "Longest time between commits; default: 2")
      ->check(CLI::Range(0.0, 3600.0))
      ->type_name("X")
      ->group("Reading");
  add_examples(
      *c,
      "  eidetic ingest holmes.txt --into books\n"
      "  eidetic ingest notes/*.txt --into notes --archive memory.eid --model model.gguf\n"
      "  eidetic ingest holmes.txt --into books --json   # one line per commit\n"
      "  eidetic ingest handbook --into work --include '*.md' --include '*.html' --dry-run\n"
      "  eidetic ingest handbook --into work --prune   # and forget what was deleted there\n"
      "  eidetic ingest - --source talk --into notes   # standard input\n"
      "\nA file that did not change is skipped, or with --again read once more; a changed one\n"
      "replaces its old version; an interrupted one goes on from its last commit. A file that "
      "cannot be read is reported\n"
      "and the others are ingested all the same;\n"
      "in a directory, what is no text is skipped.");
  c->callback([flags, &action] { action = [flags] { return run_ingest(*flags); }; });
}

}  // namespace eidetic::cli
