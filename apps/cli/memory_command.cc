// eidetic memory stats | list | search | verify | repair; `forget` is in forget_command.cc
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/name_check.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct MemoryFlags {
  ArchiveFlag archive;
  ModelFlags model;
  std::vector<std::string> collections;
  std::string collection, session, query, policy;
  int limit = 8;
  bool words = false, json = false;
};

std::uint64_t number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<std::uint64_t>() : 0;
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : compact(*found);
}

json array_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : json::array();
}

std::string counted(std::uint64_t count, const std::string& noun) {
  return with_commas(count) + " " + noun + (count == 1 ? "" : "s");
}

int run_stats(const MemoryFlags& flags) {
  const Archive archive = flags.archive.open_to_read();
  const json stats = parse_json(archive.stats());
  if (flags.json) {
    print_json(stats);
    return kExitOk;
  }
  Table table({"archive", text_of(stats, "path")}, {false, true});
  table.add({"on disk", human_bytes(number_of(stats, "bytes_on_disk"))});
  for (const char* key : {"collections", "documents", "incomplete", "tokens", "blocks", "sessions",
                          "session_tokens", "session_blocks"}) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', ' ');
    table.add({name, with_commas(number_of(stats, key))});
  }
  table.add({"text", human_bytes(number_of(stats, "text_bytes"))});
  table.add({"on disk per token", human_bytes(number_of(stats, "bytes_per_token"))});
  const json cache = stats.value("pool", json::object());
  table.add({"cache", human_bytes(number_of(cache, "bytes")) + " of " +
                          human_bytes(number_of(cache, "budget"))});
  table.add({"cache hits", with_commas(number_of(cache, "hits"))});
  table.add({"cache misses", with_commas(number_of(cache, "misses"))});
  std::cout << table.text();
  return kExitOk;
}

std::string state_of(const json& document) {
  if (document.value("complete", true)) return "complete";
  return "interrupted at " + with_commas(number_of(document, "committed_tokens"));
}

void print_list(const json& list, const Archive& archive, bool whole_archive) {
  Table table({"collection", "document", "text", "tokens", "blocks", "state"},
              {false, false, true, true, true, false});
  table.shrink(1);
  std::uint64_t documents = 0, tokens = 0;
  const json collections = array_of(list, "collections");
  for (const json& collection : collections) {
    const json members = array_of(collection, "documents");
    documents += members.size();
    for (const json& d : members) {
      tokens += number_of(d, "tokens");
      table.add({text_of(collection, "name"), text_of(d, "source"),
                 human_bytes(number_of(d, "bytes")), with_commas(number_of(d, "tokens")),
                 with_commas(number_of(d, "blocks")), state_of(d)});
    }
    if (members.empty()) table.add({text_of(collection, "name"), "(none)"});
  }
  if (collections.empty() && array_of(list, "sessions").empty()) {
    std::cout << "the archive is empty\n";
    return;
  }
  if (!collections.empty()) std::cout << table.text() << "\n";
  std::cout << counted(collections.size(), "collection") << ", " << counted(documents, "document")
            << ", " << counted(tokens, "token");
  if (whole_archive) {
    std::cout << ", " << human_bytes(number_of(parse_json(archive.stats()), "bytes_on_disk"))
              << " on disk";
  }
  std::cout << "\n";
  for (const json& session : array_of(list, "sessions")) {
    std::cout << "session " << styled(printable(text_of(session, "name")), Style::kBold) << "\n";
  }
}

int run_list(const MemoryFlags& flags) {
  const Archive archive = flags.archive.open_to_read();
  const json list = parse_json(archive.list(flags.collection));
  if (flags.json) {
    print_json(list);
  } else {
    print_list(list, archive, flags.collection.empty());
  }
  return kExitOk;
}

// Words alone need no model.
std::vector<Passage> search_all(Archive& archive, const std::vector<std::string>& collections,
                                const MemoryFlags& flags, eid_recall_policy policy) {
  std::optional<Engine> engine;
  if (policy != EID_RECALL_WORDS) engine.emplace(flags.model.load());
  std::vector<Passage> passages;
  for (const std::string& name : collections) {
    auto found = engine ? archive.search(*engine, name, flags.query, flags.limit, policy)
                        : archive.search_words(name, flags.query, flags.limit);
    std::move(found.begin(), found.end(), std::back_inserter(passages));
  }
  return passages;
}

// What a saved session would recall if this were said to it now, from its past and from its
// collections. The archive was opened to read: nothing of it is kept.
std::vector<Passage> search_session(const Archive& archive, const MemoryFlags& flags) {
  const Engine engine = flags.model.load();
  Session session = Session::open(engine, archive, flags.session);
  const std::uint64_t before = number_of(parse_json(session.info()), "position");
  session.append(flags.query, {.use_span = true});
  const json info = parse_json(session.info());
  const std::uint64_t tokens = number_of(info, "position") - before;
  const std::uint64_t window = number_of(info.at("options"), "window");
  if (tokens > window) {  // it would find itself
    throw Error(EID_INVALID_ARGUMENT,
                "the text has " + std::to_string(tokens) + " tokens, the window of session " +
                    flags.session + " " + std::to_string(window),
                "search with a shorter text");
  }
  return session.sources();
}

// What was searched, and where each passage is.
struct Searched {
  const MemoryFlags& flags;
  std::vector<std::string> collections;
  json session;  // as Archive::sessions tells of it

  // The first turn that a passage is of and the last; zeros: of a collection.
  std::pair<std::uint64_t, std::uint64_t> turns_of(const Passage& p) const {
    if (!p.collection.empty() || p.token_end == 0) return {0, 0};
    return {turn_of_token(session, p.token_begin), turn_of_token(session, p.token_end - 1)};
  }
  std::string place_of(const Passage& p) const {
    if (!p.collection.empty()) return p.collection + ": " + p.source;
    const auto [first, last] = turns_of(p);
    return flags.session +
           (first == last ? ", turn " + std::to_string(first)
                          : ", turns " + std::to_string(first) + " to " + std::to_string(last));
  }
  json as_json(const std::vector<Passage>& passages) const {
    json items = json::array();
    for (const Passage& p : passages) {
      items.push_back(to_json(p));
      if (flags.session.empty()) continue;
      std::tie(items.back()["turn"], items.back()["last_turn"]) = turns_of(p);
    }
    json told = {{"query", flags.query}, {"collections", collections}, {"passages", items}};
    if (!flags.session.empty()) told["session"] = flags.session;
    return told;
  }
};

// By what it was found, and how well.
std::string found_by(const Passage& passage) {
  std::string text = std::string("by ") + reason_of(passage);
  if (passage.reasons & EID_BY_WORDS) text += ", words " + fixed(passage.word_score, 1);
  if (passage.reasons & EID_BY_ATTENTION) text += ", score " + fixed(100 * passage.score, 1) + " %";
  return text;
}

int run_search(const MemoryFlags& flags) {
  check_text(flags.query, "the query");
  Archive archive = flags.archive.open_to_read();
  Searched searched{flags, {}, {}};
  std::vector<Passage> passages;
  if (flags.session.empty()) {
    searched.collections = collections_to_ask(archive, flags.collections);
    const eid_recall_policy policy = flags.words ? EID_RECALL_WORDS : policy_of(flags.policy);
    passages = search_all(archive, searched.collections, flags, policy);
  } else {
    searched.session = parse_json(archive.sessions(flags.session));
    passages = search_session(archive, flags);
  }
  std::stable_sort(passages.begin(), passages.end(), [](const Passage& a, const Passage& b) {
    return std::tie(a.word_score, a.score) > std::tie(b.word_score, b.score);
  });
  if (passages.size() > static_cast<std::size_t>(flags.limit)) passages.resize(flags.limit);
  if (flags.json) {
    print_json(searched.as_json(passages));
    return kExitOk;
  }
  for (std::size_t i = 0; i < passages.size(); ++i) {
    const Passage& p = passages[i];
    print_passage(i + 1, p, searched.place_of(p), found_by(p));
  }
  if (passages.empty()) std::cout << "nothing was found\n";
  return kExitOk;
}

void print_verification(const json& report) {
  Table table({"collection", "documents", "blocks", "digest"}, {false, true, true, false});
  for (const json& c : array_of(report, "collections")) {
    table.add({text_of(c, "name"), with_commas(number_of(c, "documents")),
               with_commas(number_of(c, "blocks")), text_of(c, "digest")});
  }
  std::cout << table.text();
  const json damaged = array_of(report, "damaged");
  for (const json& d : damaged) {
    std::cout << styled("damaged", Style::kRed) << ": " << printable(text_of(d, "what"));
    if (!text_of(d, "document").empty()) std::cout << ", document " << text_of(d, "document");
    if (!text_of(d, "block").empty()) std::cout << ", block " << text_of(d, "block");
    std::cout << "\n";
  }
  std::cout << with_commas(number_of(report, "records")) << " records checked: "
            << (damaged.empty() ? styled("clean", Style::kGreen)
                                : styled(with_commas(damaged.size()) + " damaged", Style::kRed))
            << "\n";
}

int verify_and_print(const Archive& archive, const MemoryFlags& flags) {
  ProgressMeter meter("verify", "records");
  const Verification result = archive.verify(progress_of(meter));
  meter.clear();
  const json report = parse_json(result.report);
  if (flags.json) {
    print_json(report);
  } else {
    print_verification(report);
  }
  if (result.clean) return kExitOk;
  print_error("the archive '" + flags.archive.path + "' is damaged",
              "ingest the damaged documents again: their records are rewritten from the text");
  return kExitCorruption;
}

int run_verify(const MemoryFlags& flags) {
  return verify_and_print(flags.archive.open_to_read(), flags);
}

// Goes back to what was committed before the log's damage, and verifies what is then there.
int run_repair(const MemoryFlags& flags) {
  const bool damaged = !log_damage(flags.archive.open_to_read()).empty();
  if (!damaged) print_note("the log is not damaged: there is nothing to repair");
  const Archive archive = damaged ? flags.archive.open_to_repair() : flags.archive.open_to_read();
  return verify_and_print(archive, flags);
}

void add_command(CLI::App* c, Action& action, const std::shared_ptr<MemoryFlags>& flags,
                 int (*run)(const MemoryFlags&), const std::string& examples) {
  add_json_flag(*c, flags->json);
  flags->archive.add(*c);
  add_examples(*c, examples);
  c->callback([flags, &action, run] { action = [flags, run] { return run(*flags); }; });
}

}  // namespace

void add_memory_commands(CLI::App& app, Action& action) {
  CLI::App* memory = app.add_subcommand("memory", "Look into an archive, and forget what is in it");
  memory->require_subcommand(1);
  add_examples(*memory,
               "  eidetic memory list --archive memory.eid\n"
               "  eidetic memory search \"the red-headed league\" --from books\n"
               "  eidetic memory verify");

  auto stats = std::make_shared<MemoryFlags>();
  add_command(memory->add_subcommand("stats", "Sizes, counts and cache hits"), action, stats,
              run_stats,
              "  eidetic memory stats --archive memory.eid\n"
              "  eidetic memory stats --json | jq .bytes_per_token");

  auto list = std::make_shared<MemoryFlags>();
  CLI::App* c = memory->add_subcommand("list", "Collections, documents and sessions");
  c->add_option("COLLECTION", list->collection, "Only this collection");
  add_command(c, action, list, run_list,
              "  eidetic memory list --archive memory.eid\n"
              "  eidetic memory list books --json");

  auto search = std::make_shared<MemoryFlags>();
  c = memory->add_subcommand("search", "The passages the model would recall for a text");
  c->add_option("QUERY", search->query, "The text to search with")->required();
  add_collections_flag(
      *c, search->collections,
      "A collection to search; repeat for several; default: the archive's only one");
  c->add_option(
       "--session", search->session,
       "What this saved session would recall by its own policy if the text were said to it "
       "now: of what left its window, and of its collections; nothing is kept")
      ->type_name("NAME")
      ->check(name_check("a session's name"))
      ->excludes("--from");
  c->add_option("--limit", search->limit, "Most passages to show")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  CLI::Option* words =
      c->add_flag("--words", search->words,
                  "Search by words alone; no model is loaded: the same as --policy words");
  add_policy_flag(*c, search->policy, "By what to search; default: attention");
  words->excludes("--policy");
  for (const char* other : {"--words", "--policy"}) {
    c->get_option("--session")->excludes(other);
  }
  search->model.add(*c);
  add_command(c, action, search, run_search,
              "  eidetic memory search \"the red-headed league\" --from books --limit 3\n"
              "  eidetic memory search \"the red-headed league\" --words\n"
              "  eidetic memory search \"what did I say of the boat\" --session diary");

  auto verify = std::make_shared<MemoryFlags>();
  add_command(memory->add_subcommand("verify", "Read every record and check it"), action, verify,
              run_verify,
              "  eidetic memory verify --archive memory.eid\n"
              "  eidetic memory verify --json | jq '.collections[].digest'");

  add_forget_command(*memory, action);

  auto repair = std::make_shared<MemoryFlags>();
  add_command(memory->add_subcommand("repair", "Give up what a damaged log lost, and go on"),
              action, repair, run_repair,
              "  eidetic memory repair --archive memory.eid\n"
              "\nA log is damaged when `verify` says so. What was committed after the damage is "
              "lost;\ningest those documents again. Copy the archive first where you can.");
}

}  // namespace eidetic::cli
