#include "apps/eval/long_conversation.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>

#include "apps/common/temporary_directory.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr const char* kSession = "conversation";

// FNV-1a, over the tokens' bytes.
class Digest {
 public:
  void add(std::int32_t token) {
    for (int i = 0; i < 4; ++i) {
      value_ =
          (value_ ^ ((static_cast<std::uint32_t>(token) >> (8 * i)) & 0xFF)) * 0x100000001B3ull;
    }
  }
  std::string text() const {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value_));
    return text;
  }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325ull;
};

// At least `tokens` of running text that begins and ends with sentences; `fact` (may be empty)
// stands in its middle.
std::string message_text(const Corpus& corpus, std::size_t& piece, std::size_t tokens,
                         const std::string& fact) {
  std::string text;
  bool told = fact.empty();
  for (std::size_t count = 0;; piece = (piece + 1) % corpus.pieces().size()) {
    const Corpus::Piece& next = corpus.pieces()[piece];
    if (next.sentence && !told && count * 2 >= tokens) {
      text += fact;
      told = true;
    }
    if (next.sentence && told && count >= tokens) break;
    text += next.text;
    count += next.tokens.size();
  }
  return text.substr(std::min(text.find_first_not_of(" \n"), text.size()));
}

// A session that is closed and opened again.
class Run {
 public:
  Run(const Engine& engine, const LongConversationOptions& options, std::uint64_t index,
      bool memory)
      : engine_(engine), directory_(options.work_dir), session_options_(options.session) {
    session_options_.mode = memory ? EID_ATTENTION_STREAM : EID_ATTENTION_WINDOW;
    if (!memory) session_options_.policy = EID_RECALL_ATTENTION;
    session_options_.forget_own_past = !memory;
    session_options_.seed = options.seed + index;
    told_.index = index;
    told_.memory = memory;
    archive_.emplace(ArchiveOptions{.path = directory_ / "archive", .create = true});
    session_.emplace(engine_, session_options_, *archive_, kSession);
  }

  void restart() {
    session_.reset();
    archive_.reset();
    archive_.emplace(ArchiveOptions{.path = directory_ / "archive"});
    session_ = Session::open(engine_, *archive_, kSession);
    ++told_.restarts;
  }

  void commit() {
    const eid_commit_result turn = session_->commit();
    told_.turns = turn.turn;
    told_.commit_bytes += turn.bytes;
    told_.commit_seconds += turn.seconds;
    told_.slowest_commit_seconds = std::max(told_.slowest_commit_seconds, turn.seconds);
  }

  void say(const std::string& message, int reply_tokens) {
    session_->append(message, {.use_span = true, .role = "user", .words = message});
    session_->generate({.max_tokens = reply_tokens, .assistant_turn = true});
    commit();
  }

  void ask(const LongConversationOptions& options, const Needle& fact) {
    const std::string question = options.form.ask_for(fact.key);
    session_->append(
        question, {.use_span = true, .role = options.form.chat ? "user" : "", .words = question});
    const Answer answer = session_->generate(
        {.max_tokens = options.answer_tokens, .assistant_turn = options.form.chat});
    told_.key = fact.key;
    told_.number = fact.number;
    told_.answer = answer.text;
    told_.hit = answer.text.find(fact.number) != std::string::npos;
    for (const Passage& passage : session_->sources()) {
      if (passage.text.find(fact.number) == std::string::npos) continue;
      told_.presence = std::max(told_.presence, passage.presence);
    }
    commit();
  }

  LongConversation end() {
    session_.reset();
    Digest digest;
    const json exported = json::parse(archive_->export_session(kSession, EID_EXPORT_JSON));
    for (const json& turn : exported.at("turn_list")) {
      for (const json& token : turn.at("tokens")) {
        digest.add(token.get<std::int32_t>());
        ++told_.tokens;
      }
    }
    told_.digest = digest.text();
    return told_;
  }

 private:
  const Engine& engine_;
  apps::TemporaryDirectory directory_;
  SessionOptions session_options_;
  std::optional<Archive> archive_;
  std::optional<Session> session_;
  LongConversation told_;
};

}  // namespace

Script conversation_script(const Corpus& corpus, const LongConversationOptions& options,
                           std::uint64_t index) {
  Random random(options.seed * 0x100000001B3ull + index);
  Script script;
  script.fact = draw_needles(random, 1)[0];
  std::size_t piece = random.below(corpus.pieces().size());
  while (!corpus.pieces()[piece].sentence) piece = (piece + 1) % corpus.pieces().size();
  for (std::size_t turn = 1; turn < options.turns; ++turn) {
    script.messages.push_back(
        message_text(corpus, piece, options.message_tokens,
                     turn == options.fact_turn ? script.fact.sentence() : std::string()));
  }
  return script;
}

LongConversation run_conversation(const Engine& engine, const Corpus& corpus,
                                  const LongConversationOptions& options, std::uint64_t index,
                                  bool memory, const TurnProgress& progress) {
  const auto begin = Clock::now();
  const Script script = conversation_script(corpus, options, index);
  Run run(engine, options, index, memory);
  std::size_t restarts = 0;
  for (std::size_t turn = 1; turn <= options.turns; ++turn) {
    if (turn == options.turns) {
      run.ask(options, script.fact);
    } else {
      run.say(script.messages[turn - 1], options.reply_tokens);
    }
    if (progress && !progress(turn)) {
      throw Error(EID_CANCELLED, "the conversation was stopped after turn " + std::to_string(turn));
    }
    // The i-th of r restarts stands behind i of r + 1 equal parts.
    if (restarts < options.restarts &&
        turn * (options.restarts + 1) >= (restarts + 1) * options.turns && turn < options.turns) {
      run.restart();
      ++restarts;
    }
  }
  LongConversation told = run.end();
  told.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return told;
}

json to_json(const LongConversation& one) {
  return {{"index", one.index},
          {"memory", one.memory},
          {"key", one.key},
          {"number", one.number},
          {"answer", one.answer},
          {"hit", one.hit},
          {"presence", one.presence},
          {"turns", one.turns},
          {"tokens", one.tokens},
          {"restarts", one.restarts},
          {"digest", one.digest},
          {"seconds", one.seconds},
          {"commit_seconds", one.commit_seconds},
          {"slowest_commit_seconds", one.slowest_commit_seconds},
          {"commit_bytes", one.commit_bytes}};
}

LongConversation long_conversation_from_json(const json& from) {
  LongConversation one;
  from.at("index").get_to(one.index);
  from.at("memory").get_to(one.memory);
  from.at("key").get_to(one.key);
  from.at("number").get_to(one.number);
  from.at("answer").get_to(one.answer);
  from.at("hit").get_to(one.hit);
  from.at("presence").get_to(one.presence);
  from.at("turns").get_to(one.turns);
  from.at("tokens").get_to(one.tokens);
  from.at("restarts").get_to(one.restarts);
  from.at("digest").get_to(one.digest);
  from.at("seconds").get_to(one.seconds);
  from.at("commit_seconds").get_to(one.commit_seconds);
  from.at("slowest_commit_seconds").get_to(one.slowest_commit_seconds);
  from.at("commit_bytes").get_to(one.commit_bytes);
  return one;
}

}  // namespace eidetic::eval
