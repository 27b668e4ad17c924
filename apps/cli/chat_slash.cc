#include "apps/cli/chat_slash.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iostream>

#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct Call {
  Conversation& conversation;
  std::string argument;
  bool print;
};

struct SlashCommand {
  const char* name;
  const char* argument;  // as help shows it; in brackets when it may be left out; "": takes none
  const char* text;
  json (*run)(const Call& call);
};

json why(const Call& call);
json sources(const Call& call);
json fork_here(const Call& call);
json rewind_to(const Call& call);
json forget(const Call& call);
json attach(const Call& call);
json stats(const Call& call);
json help(const Call& call);
json quit(const Call& call);

constexpr std::array<SlashCommand, 9> kCommands{{
    {"/why", "[layers]", "the passages behind the last answer, by their share of attention", why},
    {"/sources", "[N]", "the text of these passages; default: the first 5", sources},
    {"/fork", "NAME", "goes on in another session that has read the same", fork_here},
    {"/rewind", "TURN", "goes back to the end of that turn; what came later is gone", rewind_to},
    {"/forget", "TURN", "takes a turn out of this session and its forks, for good", forget},
    {"/attach", "COLLECTION", "recalls from this collection too", attach},
    {"/stats", "", "the size of the conversation, and what the last answer took", stats},
    {"/help", "", "this list", help},
    {"/quit", "", "ends the chat; so does Ctrl-D", quit},
}};

std::string usage(const SlashCommand& command) {
  return std::string(command.name) + (*command.argument ? " " : "") + command.argument;
}

Error wrong(const std::string& message, const std::string& remedy) {
  return {EID_INVALID_ARGUMENT, message, remedy};
}

std::uint64_t number_of(const Call& call, const char* what) {
  std::uint64_t number = 0;
  const char* end = call.argument.data() + call.argument.size();
  const auto parsed = std::from_chars(call.argument.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return number;
  throw wrong("'" + call.argument + "' is no number of " + what, "pass a whole number, such as 3");
}

// --- passages -----------------------------------------------------------------------------------

std::uint64_t turn_of(const Call& call, const Passage& passage) {
  return passage.collection.empty() ? call.conversation.turn_of_token(passage.token_begin) : 0;
}

std::string place_of(const Passage& passage, std::uint64_t turn) {
  if (passage.collection.empty()) {
    return turn > 0 ? "turn " + std::to_string(turn) : std::string("this conversation");
  }
  return passage.collection + ": " + passage.source;
}

std::string percent(double share) {
  return fixed(100 * share, 1) + " %";
}

// Those of the last answer that got attention or were pinned, the most attended first.
std::vector<Passage> passages_by_attention(const Call& call) {
  std::vector<Passage> passages = call.conversation.sources();
  std::stable_sort(passages.begin(), passages.end(),
                   [](const Passage& a, const Passage& b) { return a.attention > b.attention; });
  return passages;
}

json passages_json(const Call& call, const char* event, const std::vector<Passage>& passages) {
  json list = json::array();
  for (const Passage& passage : passages) {
    json one = to_json(passage);
    one["turn"] = turn_of(call, passage);
    list.push_back(std::move(one));
  }
  return {{"event", event}, {"session", call.conversation.session()}, {"passages", list}};
}

void print_no_passage() {
  std::cout << styled("no passage of memory served the last answer of this chat", Style::kDim)
            << "\n";
}

void print_why(const Call& call, const std::vector<Passage>& passages) {
  Table table({"attention", "by", "from", "passage"}, {true, false, false, false});
  double rest = 1;
  for (const Passage& passage : passages) {
    constexpr std::size_t kExcerpt = 60;
    rest -= passage.attention;
    table.add({percent(passage.attention), reason_of(passage),
               place_of(passage, turn_of(call, passage)), one_line(passage.text, kExcerpt)});
  }
  table.add({percent(std::max(0.0, rest)), "", "the last words and the first", ""});
  table.shrink(2);
  std::cout << table.text();
}

// A row for each passage, a column for each layer that recalls.
void print_why_layers(const Call& call, const std::vector<Passage>& passages) {
  std::vector<std::string> headings = {"from"};
  std::vector<bool> numbers = {false};
  for (const eid_layer_share& share : passages.front().layers) {
    headings.push_back("layer " + std::to_string(share.layer));
    numbers.push_back(true);
  }
  Table table(headings, numbers);
  for (const Passage& passage : passages) {
    std::vector<std::string> row = {place_of(passage, turn_of(call, passage)) + ", tokens " +
                                    std::to_string(passage.token_begin) + "-" +
                                    std::to_string(passage.token_end)};
    for (const eid_layer_share& share : passage.layers) row.push_back(percent(share.attention));
    table.add(std::move(row));
  }
  table.shrink(0);
  std::cout << table.text();
}

json why(const Call& call) {
  const bool layers = call.argument == "layers";
  if (!call.argument.empty() && !layers) {
    throw wrong("/why does not take '" + call.argument + "'",
                "/why, or /why layers for the share in each span layer");
  }
  const std::vector<Passage> passages = passages_by_attention(call);
  if (call.print) {
    if (passages.empty()) {
      print_no_passage();
    } else if (layers) {
      print_why_layers(call, passages);
    } else {
      print_why(call, passages);
    }
  }
  return passages_json(call, "why", passages);
}

json sources(const Call& call) {
  constexpr std::uint64_t kDefault = 5;
  const std::uint64_t limit =
      call.argument.empty() ? kDefault : number_of(call, "passages to show");
  std::vector<Passage> passages = call.conversation.sources();
  if (passages.size() > limit) passages.resize(limit);
  if (call.print) {
    if (passages.empty()) print_no_passage();
    for (std::size_t i = 0; i < passages.size(); ++i) {
      const Passage& passage = passages[i];
      print_passage(i + 1, passage, place_of(passage, turn_of(call, passage)),
                    std::string("by ") + reason_of(passage) + ", " + percent(passage.attention) +
                        " of attention");
    }
  }
  return passages_json(call, "sources", passages);
}

// --- the conversation ---------------------------------------------------------------------------

json standing(const Call& call, const char* event) {
  return {{"event", event},
          {"session", call.conversation.session()},
          {"turns", call.conversation.turns()}};
}

void print_standing(const Call& call, const std::string& what) {
  if (!call.print) return;
  const std::uint64_t turns = call.conversation.turns();
  std::cout << styled(what + " '" + printable(call.conversation.session()) + "' after turn " +
                          std::to_string(turns),
                      Style::kDim)
            << "\n";
}

json fork_here(const Call& call) {
  const std::string left = call.conversation.session();
  call.conversation.fork(call.argument);
  print_standing(call, "'" + printable(left) + "' stays as it is; this is");
  json told = standing(call, "forked");
  told["from"] = left;
  return told;
}

json rewind_to(const Call& call) {
  call.conversation.rewind(number_of(call, "a turn"));
  print_standing(call, "this is");
  return standing(call, "rewound");
}

json forget(const Call& call) {
  const std::uint64_t turn = number_of(call, "a turn");
  const json receipt = call.conversation.forget(turn);
  print_standing(
      call, "turn " + std::to_string(turn) + " is forgotten, here and in " + "every fork; this is");
  json told = standing(call, "forgotten");
  told["turn"] = turn;
  told["receipt"] = receipt;
  return told;
}

json attach(const Call& call) {
  call.conversation.attach(call.argument);
  if (call.print) {
    std::cout << styled("recalls from '" + printable(call.argument) + "' too", Style::kDim) << "\n";
  }
  json told = standing(call, "attached");
  told["collection"] = call.argument;
  return told;
}

json stats(const Call& call) {
  const json info = call.conversation.info();
  if (call.print) {
    const std::uint64_t turns = call.conversation.turns();
    std::cout << "session         " << printable(call.conversation.session()) << ", "
              << with_commas(turns) << (turns == 1 ? " turn, " : " turns, ")
              << with_commas(info.at("position").get<std::uint64_t>()) << " tokens\n"
              << "attention       the last "
              << with_commas(info.at("options").at("window").get<std::uint64_t>())
              << " tokens; recall by " << info.at("policy").get<std::string>() << "\n"
              << "own past        " << with_commas(info.at("memory_blocks").get<std::uint64_t>())
              << " blocks\n";
    for (const json& collection : info.at("collections")) {
      std::cout << "collection      " << printable(collection.at("name").get<std::string>()) << ", "
                << with_commas(collection.at("blocks").get<std::uint64_t>()) << " blocks\n";
    }
    std::cout << "in memory       " << human_bytes(info.at("state_bytes").get<std::uint64_t>())
              << " of state\n"
              << "last answer     " << human_seconds(info.at("last_answer").at("recall_seconds"))
              << " of recall, "
              << with_commas(info.at("last_answer").at("pinned_blocks").get<std::uint64_t>())
              << " blocks pinned by words\n";
  }
  return {{"event", "stats"}, {"info", info}};
}

json help(const Call& call) {
  json commands = json::array();
  for (const SlashCommand& command : kCommands) {
    if (call.print) {
      std::string line = "  " + usage(command);
      line.resize(std::max<std::size_t>(line.size() + 1, 22), ' ');
      std::cout << line << command.text << "\n";
    }
    commands.push_back({{"usage", usage(command)}, {"text", command.text}});
  }
  if (call.print) {
    std::cout << "A line that ends in a backslash goes on with the next one. A message that begins "
                 "with a\nslash is written with two. Ctrl-C stops an answer, or drops the line.\n";
  }
  return {{"event", "help"}, {"commands", commands}};
}

json quit(const Call& /*call*/) {
  return json::object();
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(" \t\n"), text.size());
  const std::size_t end = text.find_last_not_of(" \t\n");
  return text.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin);
}

}  // namespace

bool is_slash_command(std::string_view line) {
  return line.size() >= 1 && line[0] == '/' && line.substr(0, 2) != "//";
}

std::string unprotected(const std::string& message) {
  return message.rfind("//", 0) == 0 ? message.substr(1) : message;
}

json run_slash_command(Conversation& conversation, const std::string& line, bool print) {
  const std::size_t end = std::min(line.find_first_of(" \t\n"), line.size());
  const std::string name = line.substr(0, end);
  const std::string argument(trimmed(std::string_view(line).substr(end)));
  const auto* command = std::find_if(kCommands.begin(), kCommands.end(),
                                     [&](const SlashCommand& one) { return one.name == name; });
  if (command == kCommands.end()) {
    throw wrong("there is no command '" + name + "'",
                "/help lists them; a message that begins with a slash is written with two");
  }
  const bool takes = *command->argument != '\0', needs = takes && *command->argument != '[';
  if ((needs && argument.empty()) || (!takes && !argument.empty())) {
    throw wrong(
        name + (needs ? " needs a value" : " takes nothing, and there is '" + argument + "'"),
        "write: " + usage(*command));
  }
  return command->run({conversation, argument, print});
}

}  // namespace eidetic::cli
