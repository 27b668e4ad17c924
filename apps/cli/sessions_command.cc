// eidetic sessions list | show | fork | rewind | delete | export
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <iostream>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/name_check.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct SessionsFlags {
  ArchiveFlag archive;
  std::string session, new_name, turn, format = "text";
  bool json = false;
};

constexpr const char* kWaits = "w waits: it is read again when the session is opened next\n";
constexpr std::size_t kExcerpt = 60;  // characters of a turn's text in a list

// The first line of what a turn holds, its roles left out.
std::string excerpt(const json& turn) {
  std::string text;
  for (const json& part : turn.value("parts", json::array())) {
    if (!text.empty()) text += " | ";
    text += part.value("text", "");
  }
  if (turn.value("forgotten", false)) text = "(forgotten)";
  return one_line(text, kExcerpt);
}

// 2026-11-24 12:00:01: what a list has room for
std::string short_time(std::string time) {
  std::replace(time.begin(), time.end(), 'T', ' ');
  return time.substr(0, 19);
}

// A turn by its number, or the last one of a name.
std::uint64_t turn_number(const Archive& archive, const SessionsFlags& flags) {
  std::uint64_t number = 0;
  const char* end = flags.turn.data() + flags.turn.size();
  const auto parsed = std::from_chars(flags.turn.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return number;
  const json told = parse_json(archive.sessions(flags.session));
  for (const json& turn : told.value("turn_list", json::array())) {
    if (turn.value("name", "") == flags.turn) number = turn.value("turn", std::uint64_t{0});
  }
  if (number > 0) return number;
  throw Error(EID_NOT_FOUND,
              "session " + flags.session + " has no turn of the name '" + flags.turn + "'",
              "see: eidetic sessions show " + flags.session);
}

int run_list(const SessionsFlags& flags) {
  const Archive archive = flags.archive.open_to_read();
  const json told = parse_json(archive.sessions());
  if (flags.json) {
    print_json(told);
    return kExitOk;
  }
  Table table({"session", "turns", "tokens", "changed", "forked from"},
              {false, true, true, false, false});
  table.shrink(0);
  const json sessions = told.value("sessions", json::array());
  bool some_wait = false;
  for (const json& session : sessions) {
    const auto waiting = session.value("waiting", std::uint64_t{0});
    some_wait |= waiting > 0;
    std::string turns = with_commas(session.value("turns", std::uint64_t{0}));
    if (waiting > 0) turns += " + " + with_commas(waiting) + " w";
    table.add({session.value("name", ""), turns,
               with_commas(session.value("tokens", std::uint64_t{0})),
               short_time(session.value("changed", "")), session.value("forked_from", "")});
  }
  if (sessions.empty()) {
    std::cout << "no sessions: generate --session NAME begins one\n";
  } else {
    std::cout << table.text();
  }
  if (some_wait) std::cout << kWaits;
  return kExitOk;
}

int run_show(const SessionsFlags& flags) {
  const Archive archive = flags.archive.open_to_read();
  const json told = parse_json(archive.sessions(flags.session));
  if (flags.json) {
    print_json(told);
    return kExitOk;
  }
  const std::uint64_t count = told.value("turns", std::uint64_t{0});
  std::cout << styled(printable(flags.session), Style::kBold) << ": " << with_commas(count)
            << (count == 1 ? " turn, " : " turns, ")
            << with_commas(told.value("tokens", std::uint64_t{0})) << " tokens";
  const std::string origin = told.value("forked_from", "");
  if (!origin.empty()) std::cout << ", forked from " << printable(origin);
  std::cout << "\n";
  if (told.value("turn_list", json::array()).empty()) return kExitOk;
  const json exported = parse_json(archive.export_session(flags.session, EID_EXPORT_JSON));
  Table table({"turn", "name", "tokens", "time (UTC)", "", "text"},
              {true, false, true, false, false, false});
  table.shrink(5);
  bool some_wait = false;
  for (const json& turn : exported.value("turn_list", json::array())) {
    const std::uint64_t begin = turn.value("token_begin", std::uint64_t{0});
    const bool waits = turn.value("waiting", false) && !turn.value("forgotten", false);
    some_wait |= waits;
    table.add({std::to_string(turn.value("turn", std::uint64_t{0})), turn.value("name", ""),
               with_commas(turn.value("token_end", std::uint64_t{0}) - begin),
               short_time(turn.value("time", "")),
               waits                           ? "w"
               : turn.value("snapshot", false) ? "*"
                                               : "",
               excerpt(turn)});
  }
  std::cout << table.text() << "* its state is kept: opening there reads nothing again\n";
  if (some_wait) std::cout << kWaits;
  return kExitOk;
}

// What was done, and how the session stands now.
int report(const Archive& archive, const SessionsFlags& flags, const char* done,
           const std::string& session) {
  const json told = parse_json(archive.sessions(session));
  const std::uint64_t turns = told.value("turns", std::uint64_t{0});
  if (flags.json) {
    print_json({{"done", done},
                {"session", session},
                {"turns", turns},
                {"tokens", told.value("tokens", std::uint64_t{0})}});
  } else {
    std::cout << "session " << printable(session) << " " << done << ": it stands at turn " << turns
              << ", " << with_commas(told.value("tokens", std::uint64_t{0})) << " tokens\n";
  }
  return kExitOk;
}

int run_fork(const SessionsFlags& flags) {
  Archive archive = flags.archive.open_to_write(/*create=*/false);
  const std::uint64_t turn = flags.turn.empty() ? 0 : turn_number(archive, flags);
  archive.fork_session(flags.session, turn, flags.new_name);
  return report(archive, flags, "forked", flags.new_name);
}

int run_rewind(const SessionsFlags& flags) {
  Archive archive = flags.archive.open_to_write(/*create=*/false);
  archive.rewind_session(flags.session, turn_number(archive, flags));
  return report(archive, flags, "rewound", flags.session);
}

int run_delete(const SessionsFlags& flags) {
  Archive archive = flags.archive.open_to_write(/*create=*/false);
  archive.delete_session(flags.session);
  if (flags.json) {
    print_json({{"done", "deleted"}, {"session", flags.session}});
  } else {
    std::cout << "session " << printable(flags.session) << " deleted\n";
  }
  return kExitOk;
}

int run_export(const SessionsFlags& flags) {
  const Archive archive = flags.archive.open_to_read();
  if (flags.json || flags.format == "json") {
    print_json(parse_json(archive.export_session(flags.session, EID_EXPORT_JSON)));
  } else {
    std::cout << model_text(archive.export_session(flags.session)) << std::flush;
  }
  return kExitOk;
}

CLI::App* add_command(CLI::App& parent, Action& action, const char* name, const char* text,
                      int (*run)(const SessionsFlags&), const std::string& examples,
                      const std::function<void(CLI::App&, SessionsFlags&)>& add_options) {
  auto flags = std::make_shared<SessionsFlags>();
  CLI::App* c = parent.add_subcommand(name, text);
  add_options(*c, *flags);
  add_json_flag(*c, flags->json);
  flags->archive.add(*c);
  add_examples(*c, examples);
  c->callback([flags, &action, run] { action = [flags, run] { return run(*flags); }; });
  return c;
}

void add_session(CLI::App& c, SessionsFlags& flags) {
  c.add_option("SESSION", flags.session, "The session's name")
      ->required()
      ->check(name_check("a session's name"));
}

}  // namespace

void add_sessions_commands(CLI::App& app, Action& action) {
  CLI::App* sessions = app.add_subcommand("sessions", "Kept sessions: list, fork, rewind, delete");
  sessions->require_subcommand(1);
  add_examples(*sessions,
               "  eidetic sessions list --archive memory.eid\n"
               "  eidetic sessions show diary\n"
               "  eidetic sessions fork diary --turn 3 --to what-if");

  add_command(*sessions, action, "list", "All sessions of an archive", run_list,
              "  eidetic sessions list --archive memory.eid\n"
              "  eidetic sessions list --json | jq -r '.sessions[].name'",
              [](CLI::App&, SessionsFlags&) {});
  add_command(*sessions, action, "show", "A session's turns", run_show,
              "  eidetic sessions show diary --archive memory.eid\n"
              "  eidetic sessions show diary --json | jq .turn_list",
              add_session);
  add_command(*sessions, action, "fork", "Begin another session at a turn of this one", run_fork,
              "  eidetic sessions fork diary --to what-if\n"
              "  eidetic sessions fork diary --turn 3 --to what-if\n"
              "  eidetic sessions fork diary --turn arrival --to what-if",
              [](CLI::App& c, SessionsFlags& flags) {
                add_session(c, flags);
                c.add_option(
                     "--turn", flags.turn,
                     "The turn after which they part: its number or name; default: the last")
                    ->type_name("TURN");
                c.add_option("--to", flags.new_name, "The new session's name")
                    ->required()
                    ->check(name_check("a session's name"))
                    ->type_name("NAME");
              });
  add_command(*sessions, action, "rewind",
              "Take a session back to a turn; what came later is gone, but for its forks",
              run_rewind,
              "  eidetic sessions rewind diary --turn 3\n"
              "  eidetic sessions rewind diary --turn arrival --archive memory.eid",
              [](CLI::App& c, SessionsFlags& flags) {
                add_session(c, flags);
                c.add_option("--turn", flags.turn, "The last turn to keep: its number or name")
                    ->required()
                    ->type_name("TURN");
              });
  add_command(*sessions, action, "delete",
              "Remove a session, and all that no other session sees of it", run_delete,
              "  eidetic sessions delete what-if --archive memory.eid", add_session);
  add_command(*sessions, action, "export", "All that a session read and answered", run_export,
              "  eidetic sessions export diary --archive memory.eid > diary.txt\n"
              "  eidetic sessions export diary --format json | jq '.turn_list[].parts'",
              [](CLI::App& c, SessionsFlags& flags) {
                add_session(c, flags);
                c.add_option("--format", flags.format, "text or json")
                    ->check(CLI::IsMember({"text", "json"}))
                    ->capture_default_str()
                    ->type_name("NAME");
              });
}

}  // namespace eidetic::cli
