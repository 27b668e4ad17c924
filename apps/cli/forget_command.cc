// eidetic memory forget
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <iostream>
#include <limits>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/forget_options.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct ForgetFlags {
  ArchiveFlag archive;
  std::string collection, source, bytes, session, older_than;
  std::uint64_t turn = 0;
  bool dry_run = false, yes = false, verify = false, json = false;
};

std::uint64_t count_of(const json& receipt, const char* key) {
  return receipt.value(key, std::uint64_t{0});
}

std::string counted(std::uint64_t count, const std::string& noun) {
  return with_commas(count) + " " + noun + (count == 1 ? "" : "s");
}

bool is_empty(const json& receipt) {
  return receipt.at("documents").empty() && receipt.at("collections").empty() &&
         receipt.at("sessions").empty();
}

ForgetOptions options_of(const ForgetFlags& flags) {
  ForgetOptions options;
  options.collection = flags.collection;
  options.source = flags.source;
  options.session = flags.session;
  options.turn = flags.turn;
  if (!flags.bytes.empty()) {
    const ByteRange range = parse_bytes(flags.bytes);
    options.byte_begin = range.begin;
    options.byte_end = range.end;
  }
  if (!flags.older_than.empty()) {
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    const std::int64_t age = parse_age(flags.older_than);
    options.before = std::max<std::int64_t>(1, now.count() - age);
  }
  return options;
}

void print_sessions(const json& receipt, const char* go) {
  for (const json& session : receipt.at("sessions")) {
    const std::string name = styled(printable(session.value("name", "")), Style::kBold);
    if (session.value("removed", false)) {
      std::cout << "session " << name << ": " << go << " as a whole\n";
      continue;
    }
    std::cout << "session " << name << ": " << counted(count_of(session, "turns"), "turn") << " "
              << go << "; it stands at turn " << count_of(session, "stands_at");
    const std::uint64_t waiting = count_of(session, "waiting");
    if (waiting > 0) {
      std::cout << ", and reads " << counted(waiting, "later turn")
                << " again when it is opened next";
    }
    std::cout << "\n";
  }
  for (const json& seen : receipt.at("seen")) {
    std::cout << "session " << printable(seen.value("session", ""))
              << " could recall it since turn " << count_of(seen, "turn")
              << ": its state may have seen it, and what it said stays\n";
  }
}

void print_files(const json& files) {
  std::cout << counted(count_of(files, "files"), "file") << " searched, "
            << human_bytes(count_of(files, "bytes")) << ", for "
            << counted(count_of(files, "samples"), "piece");
  const std::uint64_t elsewhere = count_of(files, "elsewhere");
  if (elsewhere > 0) {
    std::cout << " (" << with_commas(elsewhere)
              << " left out: what was not forgotten says them too)";
  }
  if (files.value("clean", false)) {
    std::cout << ": " << styled("nothing is left", Style::kGreen) << "\n";
    return;
  }
  std::cout << "\n";
  for (const json& found : files.at("found")) {
    std::cout << styled("found", Style::kRed) << ": " << printable(found.get<std::string>())
              << "\n";
  }
}

void print_receipt(const json& receipt) {
  const bool dry_run = receipt.value("dry_run", false);
  const char* go = dry_run ? "would go" : "went";
  for (const json& document : receipt.at("documents")) {
    std::cout << printable(document.value("collection", "")) << ": "
              << styled(printable(document.value("source", "")), Style::kBold);
    if (!document.value("whole", true)) {
      std::cout << " bytes " << with_commas(count_of(document, "byte_begin")) << "-"
                << with_commas(count_of(document, "byte_end"));
    }
    std::cout << ", " << counted(count_of(document, "blocks"), "block") << " " << go << "\n";
  }
  for (const json& name : receipt.at("collections")) {
    std::cout << "collection " << printable(name.get<std::string>()) << " " << go << "\n";
  }
  print_sessions(receipt, go);
  if (const std::uint64_t undated = count_of(receipt, "undated"); undated > 0) {
    std::cout << counted(undated, "document") << " of unknown age: left alone\n";
  }
  if (is_empty(receipt)) {
    std::cout << "nothing is that old\n";
    return;
  }
  Table table({dry_run ? "would go" : "gone", ""}, {false, true});
  for (const char* key : {"blocks", "representatives", "turns", "snapshots", "word_entries"}) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', ' ');
    table.add({name, with_commas(count_of(receipt, key))});
  }
  table.add({"text", human_bytes(count_of(receipt, "text_bytes"))});
  std::cout << table.text();
  if (receipt.contains("files")) print_files(receipt.at("files"));
}

// Asks a person; anything but yes is no.
bool confirmed() {
  std::cout << "Forget this for good? [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

int run_forget(const ForgetFlags& flags) {
  ForgetOptions options = options_of(flags);
  if (flags.dry_run) {
    options.dry_run = true;
    Archive archive = flags.archive.open_to_read();
    const json receipt = parse_json(archive.forget(options).receipt);
    flags.json ? print_json(receipt) : print_receipt(receipt);
    return kExitOk;
  }
  const bool may_ask = ::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO) && !flags.json;
  if (!flags.yes && !may_ask) {
    throw Error(EID_INVALID_ARGUMENT, "forgetting is for good, and nobody can be asked here",
                "add --yes, or --dry-run to see what would go");
  }
  Archive archive = flags.archive.open_to_write(/*create=*/false);
  if (!flags.yes) {
    options.dry_run = true;
    const json would = parse_json(archive.forget(options).receipt);
    print_receipt(would);
    if (is_empty(would)) return kExitOk;
    if (!confirmed()) {
      std::cout << "nothing was forgotten\n";
      return kExitOk;
    }
    options.dry_run = false;
  }
  options.verify_files = flags.verify;
  const Forgotten forgotten = archive.forget(options);
  const json receipt = parse_json(forgotten.receipt);
  flags.json ? print_json(receipt) : print_receipt(receipt);
  if (forgotten.clean) return kExitOk;
  print_error("what was forgotten is still in files of '" + flags.archive.path + "'",
              "remove those that are not the archive's own; otherwise run `eidetic memory verify`");
  return kExitCorruption;
}

}  // namespace

void add_forget_command(CLI::App& memory, Action& action) {
  auto flags = std::make_shared<ForgetFlags>();
  CLI::App* c = memory.add_subcommand(
      "forget", "Remove something for good: from memory, indexes, files and every fork");
  CLI::Option* collection = c->add_option("--collection", flags->collection,
                                          "All of a collection, or, with --source, where it is");
  collection->type_name("NAME");
  CLI::Option* source = c->add_option("--source", flags->source, "One document, all its versions");
  source->type_name("SOURCE")->needs(collection);
  c->add_option("--bytes", flags->bytes,
                "Only what overlaps these bytes of the document's text: whole blocks")
      ->type_name("FIRST-END")
      ->needs(source);
  CLI::Option* session = c->add_option("--session", flags->session,
                                       "All that a session says, also where forks share it");
  session->type_name("NAME")->excludes(collection);
  CLI::Option* turn =
      c->add_option("--turn", flags->turn, "Only this turn, in every fork that sees it");
  turn->type_name("N")->needs(session)->check(
      CLI::Range(std::uint64_t{1}, std::numeric_limits<std::uint64_t>::max()));
  c->add_option("--older-than", flags->older_than,
                "Documents ingested and turns read longer ago: 30d, 12h, 8w")
      ->type_name("AGE")
      ->excludes(source)
      ->excludes(turn);
  c->add_flag("--dry-run", flags->dry_run, "Tell what would go, and change nothing");
  c->add_flag("--yes", flags->yes, "Do not ask");
  c->add_flag("--verify", flags->verify,
              "Rewrite all tables, and search every file of the archive for what went");
  add_json_flag(*c, flags->json);
  flags->archive.add(*c);
  add_examples(*c,
               "  eidetic memory forget --collection letters --source 1998.txt --verify\n"
               "  eidetic memory forget --collection letters --source 1998.txt --bytes 1200-1350\n"
               "  eidetic memory forget --session diary --turn 4\n"
               "  eidetic memory forget --older-than 30d --dry-run");
  c->callback([flags, &action] { action = [flags] { return run_forget(*flags); }; });
}

}  // namespace eidetic::cli
