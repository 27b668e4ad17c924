#include "apps/cli/eval_questions_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <limits>
#include <set>
#include <utility>

#include "apps/cli/ask.h"
#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/common/ingest_settings.h"
#include "apps/eval/questions.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

constexpr const char* kCollection = "books";
// The ordinary way: the best passages by words are read again, in the prompt.
constexpr const char* kPrompt = "prompt";
constexpr int kDefaultPlaces = 3;

struct QuestionsFlags {
  std::string questions, books, results;
  WorkArchiveFlags archive;
  std::vector<std::string> policies = {"attention", "words", "both", kPrompt};
  std::size_t bytes = std::numeric_limits<std::size_t>::max();
  std::size_t limit = std::numeric_limits<std::size_t>::max();
  int answer_tokens = 24;
  bool chat = false, json = false;
  ModelFlags model;
  SpanFlags span;
};

// What an answer depends on, beside question and policy: answers under other settings are not
// mixed.
json settings_of(const QuestionsFlags& flags, const Engine& engine, const eval::QuestionSet& set) {
  json books = json::array();
  for (const eval::Book& book : set.books) books.push_back({book.name, book.text.size()});
  const SessionOptions span = flags.span.session_options(EID_ATTENTION_STREAM);
  const json model = parse_json(engine.info());
  json settings = {span.window,           span.sinks,
                   span.segment,          span.span_blocks,
                   span.candidate_blocks, span.successor_blocks,
                   span.query_offset,     span.word_places,
                   span.span_layers,      span.codec};
  // So that runs of before these were options go on.
  if (span.layer_group != 0) settings.push_back("group " + std::to_string(span.layer_group));
  if (span.linger != 0) settings.push_back("linger " + std::to_string(span.linger));
  return {{"model", model.value("fingerprint", "")},
          {"profile", model.value("retrieval_profile", json::object()).value("hash", "")},
          {"books", books},
          {"chat", flags.chat},
          {"answer_tokens", flags.answer_tokens},
          {"span", std::move(settings)}};
}

// The answers so far.
class QuestionResults {
 public:
  QuestionResults(const std::string& path, const json& settings,
                  const std::vector<std::string>& content)
      : file_(path, settings, content) {
    for_each_result(file_, path,
                    [&](const json& line) { asked_.push_back(eval::asked_from_json(line)); });
  }

  const std::vector<eval::Asked>& all() const { return asked_; }
  bool has(const std::string& id, const std::string& policy) const {
    return std::any_of(asked_.begin(), asked_.end(), [&](const eval::Asked& one) {
      return one.id == id && one.policy == policy;
    });
  }
  void add(const eval::Asked& asked) {
    asked_.push_back(asked);
    file_.add(eval::to_json(asked));
  }

 private:
  ResultsFile file_;
  std::vector<eval::Asked> asked_;
};

eval::QuestionSet load_questions(const QuestionsFlags& flags) {
  eval::QuestionSet set = eval::parse_questions(read_text_file(flags.questions), flags.questions);
  for (eval::Book& book : set.books) {
    book.text = read_text_file((std::filesystem::path(flags.books) / book.file).string());
  }
  eval::locate_passages(set);
  eval::cut_books(set, flags.bytes);
  if (set.questions.size() > flags.limit) set.questions.resize(flags.limit);
  if (set.questions.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no question is answered in the part of the books to read",
                "read more of them: --bytes");
  }
  return set;
}

void ingest_books(const QuestionsFlags& flags, const Engine& engine, Archive& archive,
                  const eval::QuestionSet& set) {
  const SessionOptions session = flags.span.session_options(EID_ATTENTION_STREAM);
  for (const eval::Book& book : set.books) {
    ProgressMeter meter(book.name, "tokens");
    archive.ingest(engine, apps::ingest_as(session, kCollection, book.name, book.text),
                   progress_of(meter));
  }
}

// The request by one policy, and for `prompt` the passages that it reads again.
AskRequest request_of(const QuestionsFlags& flags, Archive& archive, const std::string& question,
                      const std::string& policy, std::vector<Passage>* read_again) {
  AskRequest request;
  request.question = question;
  request.chat = flags.chat;
  request.session = flags.span.session_options(EID_ATTENTION_STREAM);
  request.generate.max_tokens = flags.answer_tokens;
  request.sources = std::numeric_limits<std::size_t>::max();
  if (policy != kPrompt) {
    request.collections = {kCollection};
    request.session.policy = policy_of(policy);
    return request;
  }
  const int places = flags.span.word_places > 0 ? flags.span.word_places : kDefaultPlaces;
  *read_again = archive.search_words(kCollection, question, places);
  for (const Passage& passage : *read_again) request.context += "\n" + passage.text;
  if (flags.chat) request.context += "\n\n";
  request.session.mode = EID_ATTENTION_FULL;
  request.session.policy = EID_RECALL_ATTENTION;
  return request;
}

eval::Asked ask_by(const QuestionsFlags& flags, const Engine& engine, Archive& archive,
                   const eval::Question& question, const std::string& policy) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Passage> passages;
  const AskRequest request = request_of(flags, archive, question.question, policy, &passages);
  const double searched =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const AskReply reply = ask(engine, archive, request);
  if (policy != kPrompt) passages = reply.sources;
  std::vector<eval::Source> sources;
  for (const Passage& p : passages) sources.push_back({p.source, p.byte_begin, p.byte_end});
  eval::Asked asked;
  asked.id = question.id;
  asked.policy = policy;
  asked.answer = reply.answer.text;
  asked.rank = eval::rank_of(question, question.book, sources);
  asked.right = eval::is_right(reply.answer.text, question.answers);
  asked.first_token_seconds = searched + reply.first_text_seconds;
  asked.seconds = searched + reply.seconds;
  return asked;
}

void report(const QuestionsFlags& flags, const eval::QuestionSet& set, const json& settings,
            const std::vector<eval::Asked>& answers) {
  // Answers of an earlier run to questions that are not asked now do not count.
  std::set<std::string> ids;
  for (const eval::Question& question : set.questions) ids.insert(question.id);
  std::vector<eval::Asked> asked = answers;
  std::erase_if(asked, [&](const eval::Asked& one) { return !ids.contains(one.id); });
  json scores = json::array();
  Table table(
      {"policy", "questions", "source at 1", "at 3", "at 5", "right answers", "first token, s"},
      {false, true, true, true, true, true, true});
  for (const std::string& policy : flags.policies) {
    const eval::PolicyScore score = eval::score_of(policy, asked);
    scores.push_back(eval::to_json(score));
    const auto share = [&](int part) {
      return score.questions > 0 ? fixed(static_cast<double>(part) / score.questions, 2) : "-";
    };
    table.add({policy, std::to_string(score.questions), share(score.at_1), share(score.at_3),
               share(score.at_5), share(score.right), fixed(score.first_token_seconds, 3)});
  }
  if (!flags.json) {
    std::cout << table.text();
    return;
  }
  json items = json::array();
  for (const eval::Asked& one : asked) items.push_back(eval::to_json(one));
  print_json({{"settings", settings}, {"policies", scores}, {"asked", items}});
}

int run_questions(const QuestionsFlags& flags) {
  const eval::QuestionSet set = load_questions(flags);
  const Engine engine = flags.model.load();
  const json settings = settings_of(flags, engine, set);
  std::vector<std::string> content = {content_hash(read_text_file(flags.questions))};
  for (const eval::Book& book : set.books) content.push_back(content_hash(book.text));
  QuestionResults results(flags.results, settings, content);
  WorkArchive work(flags.archive);
  Archive& archive = work.archive();
  ingest_books(flags, engine, archive, set);
  // Keeps the index that all sessions share.
  Session holder(engine, {.forget_own_past = true});
  holder.attach(archive, kCollection);
  if (!flags.chat) read_preface(engine, flags.span.session_options(EID_ATTENTION_STREAM));
  ProgressMeter meter("eval questions", "answers");
  const std::uint64_t total = set.questions.size() * flags.policies.size();
  std::uint64_t done = 0;
  for (const eval::Question& question : set.questions) {
    for (const std::string& policy : flags.policies) {
      stop_if_interrupted();
      if (!results.has(question.id, policy)) {
        results.add(ask_by(flags, engine, archive, question, policy));
      }
      meter.update("asking", question.id, ++done, total);
    }
  }
  meter.clear();
  report(flags, set, settings, results.all());
  return kExitOk;
}

}  // namespace

void add_eval_questions_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<QuestionsFlags>();
  CLI::App* c = eval_app.add_subcommand(
      "questions", "Ask natural questions on books, by attention, by words, by both, by prompt");
  c->add_option("--questions", flags->questions, "The question file, bench/data/questions.json")
      ->required()
      ->type_name("FILE");
  c->add_option("--books", flags->books, "The folder of its books, from bench/data/books.tar.xz")
      ->required()
      ->type_name("DIR");
  c->add_option("--policies", flags->policies,
                "Ways to ask: attention, words, both; prompt: the best passages by words are read "
                "again")
      ->delimiter(',')
      ->check(CLI::IsMember({"attention", "words", "both", kPrompt}))
      ->type_name("NAME,...");
  c->add_option("--bytes", flags->bytes, "Read only the first N bytes of each book; default: all")
      ->check(CLI::Range(1000, 1 << 30))
      ->type_name("N");
  c->add_option("--limit", flags->limit, "Ask only the first N questions; default: all")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  c->add_option("--answer-tokens", flags->answer_tokens, "Most tokens of an answer")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->type_name("N");
  c->add_flag("--chat", flags->chat, "Ask by the model's chat template");
  c->add_option("--results", flags->results,
                "Keep every answer in this file; a run that was stopped goes on after its last")
      ->type_name("FILE");
  flags->archive.add(*c);
  add_json_flag(*c, flags->json);
  flags->model.add(*c);
  flags->span.add(*c);
  c->remove_option(c->get_option("--policy"));
  add_examples(
      *c,
      "  tar -xf bench/data/books.tar.xz -C /tmp\n"
      "  eidetic eval questions --questions bench/data/questions.json --books /tmp/valid \\\n"
      "      --device cuda --results answers.jsonl\n"
      "  eidetic eval questions --questions bench/data/questions.json --books /tmp/valid \\\n"
      "      --bytes 30000 --policies words,prompt --json");
  c->callback([flags, &action] { action = [flags] { return run_questions(*flags); }; });
}

}  // namespace eidetic::cli
