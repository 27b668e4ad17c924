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
#include "apps/cli/forget_report.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/name_check.h"
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

// Asks a person; anything but yes is no. Throws EID_CANCELLED for Ctrl-C.
bool confirmed() {
  std::cout << "Forget this for good? [y/N] " << std::flush;
  // Reading would go on waiting after Ctrl-C.
  if (wait_for_input(STDIN_FILENO) == Waited::kInterrupted) {
    throw Error(EID_CANCELLED, "stopped by Ctrl-C: nothing was forgotten");
  }
  std::string answer;
  if (!std::getline(std::cin, answer)) std::cout << "\n";  // Ctrl-D
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
    if (is_empty_receipt(would)) return kExitOk;
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
  // Left empty, a variable that is not set would make more go than was meant.
  collection->type_name("NAME")->check(name_check("a collection's name"));
  CLI::Option* source = c->add_option("--source", flags->source, "One document, all its versions");
  source->type_name("SOURCE")->needs(collection)->check(name_check("a document's name"));
  c->add_option("--bytes", flags->bytes,
                "Only what overlaps these bytes of the file as it was: whole blocks")
      ->type_name("FIRST-END")
      ->check(name_check("a range"))
      ->needs(source);
  CLI::Option* session = c->add_option("--session", flags->session,
                                       "All that a session says, also where forks share it");
  session->type_name("NAME")->excludes(collection)->check(name_check("a session's name"));
  CLI::Option* turn =
      c->add_option("--turn", flags->turn, "Only this turn, in every fork that sees it");
  turn->type_name("N")->needs(session)->check(
      CLI::Range(std::uint64_t{1}, std::numeric_limits<std::uint64_t>::max()));
  c->add_option("--older-than", flags->older_than,
                "Documents ingested and turns read longer ago: 30d, 12h, 8w")
      ->type_name("AGE")
      ->check(name_check("an age"))
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
