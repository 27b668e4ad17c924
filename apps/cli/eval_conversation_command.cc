#include "apps/cli/eval_conversation_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/eval/long_conversation.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct ConversationFlags {
  ModelFlags model;
  SpanFlags span;
  eval::LongConversationOptions options;
  std::vector<std::string> texts, memory = {"on", "off"};
  std::string form = "protocol", results;
  bool json = false;
};

// The conversations that are over.
class ConversationResults {
 public:
  ConversationResults(const std::string& path, const json& settings,
                      const std::vector<std::string>& content)
      : file_(path, settings, content) {
    for_each_result(file_, path, [&](const json& line) {
      done_.push_back(eval::long_conversation_from_json(line));
    });
  }

  const std::vector<eval::LongConversation>& all() const { return done_; }
  bool has(std::uint64_t index, bool memory) const {
    return std::any_of(done_.begin(), done_.end(), [&](const eval::LongConversation& one) {
      return one.index == index && one.memory == memory;
    });
  }
  void add(const eval::LongConversation& one) {
    done_.push_back(one);
    file_.add(eval::to_json(one));
  }

 private:
  ResultsFile file_;
  std::vector<eval::LongConversation> done_;
};

// What conversations depend on, but for how many there are.
json settings_of(const ConversationFlags& flags, const Engine& engine, const eval::Corpus& corpus) {
  const eval::LongConversationOptions& o = flags.options;
  const json info = parse_json(engine.info());
  json settings = {{"fingerprint", info.value("fingerprint", "")},
                   {"profile", info.value("retrieval_profile", json()).value("hash", "")},
                   {"text_tokens", corpus.tokens()},
                   {"turns", o.turns},
                   {"fact_turn", o.fact_turn},
                   {"restarts", o.restarts},
                   {"message_tokens", o.message_tokens},
                   {"reply_tokens", o.reply_tokens},
                   {"answer_tokens", o.answer_tokens},
                   {"seed", o.seed},
                   {"question_form", o.form.name},
                   {"question", o.form.text},
                   {"policy", flags.span.policy},
                   {"word_places", flags.span.word_places},
                   {"window", flags.span.window},
                   {"sinks", flags.span.sinks},
                   {"segment", flags.span.segment},
                   {"span_blocks", flags.span.span_blocks},
                   {"candidates", flags.span.candidates},
                   {"successors", flags.span.successors},
                   {"query_offset", flags.span.query_offset},
                   {"span_layers", flags.span.span_layers},
                   {"codec", flags.span.codec}};
  // So that runs of before these were options go on.
  if (flags.span.layer_group != 0) settings["layer_group"] = flags.span.layer_group;
  if (flags.span.linger != 0) settings["linger"] = flags.span.linger;
  return settings;
}

struct Score {
  int conversations = 0, hits = 0;
  double presence = 0, seconds = 0, slowest_commit = 0, commits = 0;
  std::uint64_t tokens = 0, turns = 0, bytes = 0;
};

Score score_of(const std::vector<eval::LongConversation>& all, bool memory, std::size_t count) {
  Score score;
  for (const eval::LongConversation& one : all) {
    if (one.memory != memory || one.index >= count) continue;
    ++score.conversations;
    score.hits += one.hit;
    score.presence += one.presence;
    score.seconds += one.seconds;
    score.commits += one.commit_seconds;
    score.slowest_commit = std::max(score.slowest_commit, one.slowest_commit_seconds);
    score.tokens += one.tokens;
    score.turns += one.turns;
    score.bytes += one.commit_bytes;
  }
  return score;
}

void report(const ConversationFlags& flags, const json& settings,
            const std::vector<eval::LongConversation>& all) {
  const std::size_t count = flags.options.conversations;
  json scores = json::array(), held = json::array();
  Table table({"memory", "recalled", "of", "in the span", "tokens each", "commit, ms", "tokens/s"},
              {false, true, true, true, true, true, true});
  for (const std::string& name : flags.memory) {
    const Score score = score_of(all, name == "on", count);
    const auto per = [](double sum, double whole) { return whole > 0 ? sum / whole : 0; };
    const double commit = per(score.commits, static_cast<double>(score.turns));
    const double speed = per(static_cast<double>(score.tokens), score.seconds);
    table.add({name, std::to_string(score.hits), std::to_string(score.conversations),
               fixed(per(score.presence, score.conversations), 2),
               with_commas(score.tokens / std::max<std::uint64_t>(1, score.conversations)),
               fixed(1000 * commit, 1), fixed(speed, 0)});
    scores.push_back({{"memory", name == "on"},
                      {"conversations", score.conversations},
                      {"recalled", score.hits},
                      {"presence", per(score.presence, score.conversations)},
                      {"tokens", score.tokens},
                      {"tokens_per_second", speed},
                      {"commit_seconds", commit},
                      {"slowest_commit_seconds", score.slowest_commit},
                      {"commit_bytes",
                       per(static_cast<double>(score.bytes), static_cast<double>(score.turns))}});
  }
  if (!flags.json) {
    std::cout << table.text();
    return;
  }
  for (const eval::LongConversation& one : all) {
    if (one.index < count) held.push_back(eval::to_json(one));
  }
  print_json({{"settings", settings}, {"scores", scores}, {"conversations", held}});
}

void check(const ConversationFlags& flags) {
  const eval::LongConversationOptions& o = flags.options;
  if (flags.texts.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no text was named: messages are made of running text",
                "pass --text FILE, for example a book");
  }
  if (o.fact_turn >= o.turns) {
    throw Error(EID_INVALID_ARGUMENT,
                "the fact is told in turn " + std::to_string(o.fact_turn) +
                    ", the conversation has " + std::to_string(o.turns) +
                    " turns, and the last one asks for it",
                "lower --fact-turn or raise --turns");
  }
  if (o.restarts >= o.turns) {
    throw Error(EID_INVALID_ARGUMENT,
                std::to_string(o.restarts) + " restarts do not fit between " +
                    std::to_string(o.turns) + " turns",
                "lower --restarts or raise --turns");
  }
}

int run_eval_conversation(ConversationFlags& flags) {
  check(flags);
  eval::LongConversationOptions& options = flags.options;
  options.form = eval::question_form(flags.form);
  options.session = flags.span.session_options(EID_ATTENTION_STREAM);
  // As `chat` does.
  if (options.session.policy == EID_RECALL_DEFAULT) options.session.policy = EID_RECALL_BOTH;
  std::vector<std::string> texts;
  for (const std::string& path : flags.texts) texts.push_back(read_text_file(path));
  const Engine engine = flags.model.load();
  const eval::Corpus corpus(engine, texts);
  const json settings = settings_of(flags, engine, corpus);
  ConversationResults results(flags.results, settings, content_of(texts));

  ProgressMeter meter("eval conversation", "turns");
  std::uint64_t done = 0;
  std::uint64_t total = options.conversations * flags.memory.size() * options.turns;
  for (std::uint64_t index = 0; index < options.conversations; ++index) {
    for (const std::string& memory : flags.memory) {
      if (results.has(index, memory == "on")) {
        total -= options.turns;
        continue;
      }
      const std::string item = std::to_string(index) + ", memory " + memory;
      results.add(eval::run_conversation(engine, corpus, options, index, memory == "on",
                                         [&](std::uint64_t) {
                                           meter.update("talking", item, ++done, total);
                                           return !interrupted();
                                         }));
    }
  }
  meter.clear();
  report(flags, settings, results.all());
  return kExitOk;
}

}  // namespace

void add_eval_conversation_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<ConversationFlags>();
  CLI::App* c = eval_app.add_subcommand("conversation",
                                        "Tell a fact, talk on for many turns, and ask for it");
  auto& o = flags->options;
  const auto number = [&](const char* name, auto& value, const char* text, int least, int most) {
    c->add_option(name, value, text)
        ->check(CLI::Range(least, most))
        ->capture_default_str()
        ->type_name("N");
  };
  c->add_option("--text", flags->texts, "Texts that the messages are made of")
      ->type_name("FILE...");
  number("--turns", o.turns, "Turns of a conversation; the last one asks for the fact", 2, 100000);
  number("--conversations", o.conversations, "How many, each of its own text and fact", 1, 100000);
  number("--restarts", o.restarts, "How often archive and session are closed and opened again", 0,
         100000);
  number("--fact-turn", o.fact_turn, "The turn that tells the fact", 1, 100000);
  number("--message-tokens", o.message_tokens, "Tokens of a message, at least", 1, 1 << 20);
  number("--reply-tokens", o.reply_tokens, "Most tokens of an answer to running text", 1, 4096);
  number("--answer-tokens", o.answer_tokens, "Most tokens of the answer to the question", 1, 4096);
  c->add_option("--seed", o.seed, "The same seed gives the same conversations")
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--memory", flags->memory,
                "on, off: with its memory, and with the attention window alone; default: both")
      ->delimiter(',')
      ->check(CLI::IsMember({"on", "off"}))
      ->type_name("NAME,...");
  c->add_option("--question-form", flags->form,
                "protocol, question, statement, repeat, answer, answer-statement, chat, or a text "
                "with {key} in it")
      ->capture_default_str()
      ->type_name("FORM");
  c->add_option("--results", flags->results,
                "Keep every conversation in this file; a run that was stopped goes on after its "
                "last")
      ->type_name("FILE");
  c->add_option("--work-dir", o.work_dir, "Where the temporary archives are made")
      ->type_name("DIR");
  add_json_flag(*c, flags->json);
  flags->model.add(*c);
  flags->span.add(*c);
  add_examples(*c,
               "  eidetic eval conversation --text books/*.txt --turns 20 --message-tokens 60\n"
               "  eidetic eval conversation --text books/*.txt --turns 200 --conversations 20 \\\n"
               "      --restarts 10 --device cuda --results conversations.jsonl --json");
  c->callback([flags, &action] { action = [flags] { return run_eval_conversation(*flags); }; });
}

}  // namespace eidetic::cli
