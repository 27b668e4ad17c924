#include "apps/cli/conversation.h"

#include <algorithm>
#include <utility>

#include "apps/cli/command.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {

using nlohmann::json;

Conversation::Conversation(const Engine& engine, Archive& archive, ConversationOptions options)
    : engine_(engine), archive_(archive), options_(std::move(options)) {
  open();
}

void Conversation::open() {
  live_.reset();
  try {
    tell_of_waiting();
    ProgressMeter meter("opening " + options_.session, "tokens");
    live_ = Session::open(engine_, archive_, options_.session, progress_of(meter));
  } catch (const Error& error) {
    if (error.status() != EID_NOT_FOUND) throw;
    live_.emplace(engine_, options_.attention, archive_, options_.session);
  }
  for (const std::string& collection : options_.collections) live_->attach(archive_, collection);
  turns_ = info().value("turns", std::uint64_t{0});
}

void Conversation::tell_of_waiting() const {
  if (!options_.on_reading_again) return;
  std::uint64_t turns = 0, tokens = 0;
  const json session = json::parse(archive_.sessions(options_.session));
  for (const json& turn : session.value("turn_list", json::array())) {
    if (!turn.value("waiting", false) || turn.value("forgotten", false)) continue;
    ++turns;
    tokens +=
        turn.value("token_end", std::uint64_t{0}) - turn.value("token_begin", std::uint64_t{0});
  }
  if (turns > 0) options_.on_reading_again(turns, tokens);
}

template <class Change>
void Conversation::changed_by(Change change) {
  live_.reset();
  try {
    change();
  } catch (...) {
    open();
    throw;
  }
  open();
}

Exchange Conversation::say(const std::string& text, const OnText& on_text,
                           const Progress& progress) {
  Exchange exchange;
  try {
    const bool first = info().value("position", std::uint64_t{0}) == 0;
    if (first && !options_.system.empty()) {
      live_->append(options_.system, {.use_span = false, .role = "system"}, progress);
    }
    live_->append(text, {.use_span = !options_.memory_off, .role = "user", .words = text},
                  progress);
    GenerateOptions generate = options_.generate;
    generate.assistant_turn = true;
    generate.memory_off = options_.memory_off;
    exchange.answer = live_->generate(generate, on_text);
    exchange.turn = live_->commit();
  } catch (...) {
    open();
    throw;
  }
  turns_ = exchange.turn.turn;
  return exchange;
}

void Conversation::fork(const std::string& name) {
  if (turns_ == 0) {
    throw Error(EID_NOT_FOUND, "nothing has been said yet: there is no turn to fork from",
                "say something first");
  }
  if (name == options_.session) {
    throw Error(EID_ALREADY_EXISTS, "this session is '" + name + "'", "choose another name");
  }
  archive_.fork_session(options_.session, /*turn=*/0, name);
  const std::string left = std::exchange(options_.session, name);
  try {
    open();
  } catch (...) {
    options_.session = left;
    open();
    throw;
  }
}

void Conversation::check_turn(std::uint64_t turn, const char* what) const {
  if (turn > 0 && turn <= turns_) return;
  throw Error(EID_NOT_FOUND, "there is no turn " + std::to_string(turn) + " to " + what,
              turns_ == 0 ? "say something first"
                          : "the conversation has turns 1 to " + std::to_string(turns_));
}

void Conversation::rewind(std::uint64_t turn) {
  check_turn(turn, "go back to");
  changed_by([&] { archive_.rewind_session(options_.session, turn); });
}

json Conversation::forget(std::uint64_t turn) {
  check_turn(turn, "forget");
  json receipt;
  changed_by([&] {
    const Forgotten gone = archive_.forget({.session = options_.session, .turn = turn});
    receipt = json::parse(gone.receipt);
  });
  return receipt;
}

void Conversation::attach(const std::string& collection) {
  auto& names = options_.collections;
  live_->attach(archive_, collection);
  if (std::find(names.begin(), names.end(), collection) == names.end()) names.push_back(collection);
}

json Conversation::info() const {
  return json::parse(live_->info());
}

std::vector<Passage> Conversation::sources() const {
  return live_->sources();
}

json Conversation::kept() const {
  if (turns_ == 0) return json::object();
  return json::parse(archive_.sessions(options_.session));
}

std::uint64_t Conversation::turn_of_token(std::uint64_t token) const {
  return cli::turn_of_token(kept(), token);
}

}  // namespace eidetic::cli
