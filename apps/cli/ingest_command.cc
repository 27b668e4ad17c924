// eidetic ingest FILE... --into COLLECTION
#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

struct IngestFlags {
  std::vector<std::string> files;
  std::string collection, name;
  ModelFlags model;
  ArchiveFlag archive;
  int window = 0, sinks = 0, segment = 0;
  std::string codec;
  double commit_seconds = 0;
  bool again = false, json = false;
};

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

// Failures that every further file would meet as well.
bool is_final(int code) {
  return code == kExitInterrupted || code == kExitNoSpace || code == kExitWrongModel;
}

// What all files came to. A final failure gives its code, others of different kinds the general
// one.
struct Tally {
  std::uint64_t files = 0, failed = 0, not_tried = 0, unchanged = 0, tokens = 0, tokens_read = 0,
                blocks = 0, bytes = 0;
  double seconds = 0;
  int code = kExitOk;

  void add(const eid_ingest_result& result) {
    unchanged += result.outcome == EID_INGEST_UNCHANGED;
    tokens += result.tokens;
    tokens_read += result.tokens_read;
    blocks += result.blocks;
    bytes += result.bytes;
    seconds += result.seconds;
  }
  void fail(int with) {
    ++failed;
    code =
        code == kExitOk || is_final(with) || code == with ? with : static_cast<int>(kExitRuntime);
  }
};

// Reports what a kill can no longer lose: one line per commit, flushed, so that a reader may take
// it for an acknowledgement (rule 2).
class CommitReporter {
 public:
  CommitReporter(std::string source, ProgressMeter& meter, bool json)
      : source_(std::move(source)), meter_(meter), json_(json) {}

  bool operator()(const eid_progress& progress) {
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
  std::uint64_t committed() const { return committed_; }
  // What was done before a failure.
  eid_ingest_result so_far() const {
    eid_ingest_result result{};
    if (last_) {
      result.tokens_read = last_->done - first_done_;
      result.blocks = last_->blocks;
      result.bytes = last_->bytes;
      result.seconds = last_->seconds;
    }
    return result;
  }

 private:
  std::string source_;
  ProgressMeter& meter_;
  bool json_;
  std::uint64_t committed_ = 0, first_done_ = 0;
  std::optional<eid_progress> last_;
};

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

// The file's text, or nothing after a report of why there is none.
std::optional<std::string> read_or_report(const std::string& path, const std::string& source,
                                          const IngestFlags& flags, Tally& tally) {
  try {
    return read_text_file(path);
  } catch (const Error& error) {
    report_error(source, error, flags.json);
    tally.fail(exit_code(error.status()));
    return std::nullopt;
  }
}

void ingest_text(const std::string& source, const std::string& text, const IngestFlags& flags,
                 const Engine& engine, Archive& archive, Tally& tally) {
  ProgressMeter meter(source, "tokens");
  CommitReporter reporter(source, meter, flags.json);
  if (flags.json) print_json({{"event", "started"}, {"source", source}, {"bytes", text.size()}});
  IngestOptions options{.collection = flags.collection, .source = source, .text = text};
  options.codec = flags.codec;
  options.window = flags.window;
  options.sinks = flags.sinks;
  options.segment = flags.segment;
  options.commit_seconds = flags.commit_seconds;
  options.again = flags.again;
  try {
    const eid_ingest_result result = archive.ingest(engine, options, std::ref(reporter));
    meter.clear();
    report_done(source, result, flags.json);
    tally.add(result);
  } catch (const Error& error) {
    meter.clear();
    tally.add(reporter.so_far());
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

void report_summary(const Tally& tally, bool json) {
  if (json) {
    print_json({{"event", "summary"},
                {"files", tally.files},
                {"failed", tally.failed},
                {"not_tried", tally.not_tried},
                {"unchanged", tally.unchanged},
                {"tokens", tally.tokens},
                {"tokens_read", tally.tokens_read},
                {"blocks", tally.blocks},
                {"bytes", tally.bytes},
                {"seconds", tally.seconds},
                {"exit_code", tally.code}});
    return;
  }
  if (tally.files < 2) return;
  std::cout << tally.files << " files: " << tally.files - tally.failed - tally.not_tried
            << " in the archive (" << tally.unchanged << " unchanged), " << tally.failed
            << " failed";
  if (tally.not_tried > 0) std::cout << ", " << tally.not_tried << " not tried";
  std::cout << "; " << with_commas(tally.tokens_read) << " tokens read, "
            << human_bytes(tally.bytes) << " written, " << human_seconds(tally.seconds)
            << std::endl;
}

int run_ingest(const IngestFlags& flags) {
  if (!flags.name.empty() && flags.files.size() > 1) {
    throw Error(
        EID_INVALID_ARGUMENT,
        "--name '" + flags.name + "' cannot name " + std::to_string(flags.files.size()) + " files",
        "a document's name is unique in its collection: ingest the files one by one");
  }
  Tally tally;
  // The archive first: a lock or a wrong path shows before the model is loaded.
  Archive archive = flags.archive.open_to_write(/*create=*/true);
  std::optional<Engine> engine;
  tally.files = tally.not_tried = flags.files.size();
  for (const std::string& file : flags.files) {
    const std::string source = flags.name.empty() ? file : flags.name;
    if (interrupted()) {
      report_error(source, Error(EID_CANCELLED, "stopped before '" + source + "'"), flags.json);
      tally.code = kExitInterrupted;
      break;
    }
    --tally.not_tried;
    const std::optional<std::string> text = read_or_report(file, source, flags, tally);
    if (!text) continue;
    // Loaded for the first file that can be read: a wrong path shows at once.
    if (!engine) engine = flags.model.load();
    ingest_text(source, *text, flags, *engine, archive, tally);
    if (is_final(tally.code)) break;
  }
  report_summary(tally, flags.json);
  return tally.code;
}

}  // namespace

void add_ingest_command(CLI::App& app, Action& action) {
  auto flags = std::make_shared<IngestFlags>();
  CLI::App* c = app.add_subcommand("ingest", "Read text files into a collection of memory");
  c->add_option("FILE", flags->files, "UTF-8 text files")->required();
  c->add_option("--into,--collection", flags->collection, "The collection; made when it is new")
      ->required()
      ->type_name("NAME");
  c->add_option("--name", flags->name, "The document's name; default: the path as given")
      ->type_name("NAME");
  c->add_flag("--again", flags->again, "Also read files that did not change");
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
      "\nA file that did not change is skipped, or with --again read once more; a changed one\n"
      "replaces its old version; an interrupted one goes on from its last commit. A file that "
      "cannot be read is reported\n"
      "and the others are ingested all the same.");
  c->callback([flags, &action] { action = [flags] { return run_ingest(*flags); }; });
}

}  // namespace eidetic::cli
