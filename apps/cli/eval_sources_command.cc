#include "apps/cli/eval_sources_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <limits>
#include <set>

#include "apps/cli/ask.h"
#include "apps/cli/characters.h"
#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/common/ingest_settings.h"
#include "apps/eval/haystack.h"
#include "apps/eval/question_form.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct SourcesFlags {
  std::vector<std::string> texts;
  std::size_t needles = 1, rounds = 5, bytes = 333'000, sources = 3;
  std::uint64_t seed = 1;
  std::string form = "ask";
  WorkArchiveFlags archive;
  int answer_tokens = 24;
  bool json = false;
  ModelFlags model;
  SpanFlags span;
};

struct Document {
  std::string name, text;
  std::vector<eval::Needle> needles;
};

struct Asked {
  std::size_t round = 0;
  std::string document, key, number, answer;
  bool right = false;
  int rank = 0;  // of the needle's passage among the sources, from 1; 0: not there
  double attention = 0, seconds = 0;
  json first = json::array();  // the sources that were named first
};

std::string document_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

// Documents are told apart by name.
void check_names(const std::vector<std::string>& paths) {
  std::set<std::string> names;
  for (const std::string& path : paths) {
    if (names.insert(document_name(path)).second) continue;
    throw Error(EID_INVALID_ARGUMENT, "two of the books are named '" + document_name(path) + "'",
                "give every file once, or rename one of them");
  }
}

// Every round hides other needles in the same books and is a collection of its own.
std::string collection_of(std::size_t round) {
  return "round-" + std::to_string(round + 1);
}

std::vector<Document> make_documents(const SourcesFlags& flags, std::size_t round) {
  // Apart from the rounds of other seeds.
  eval::Random random(flags.seed * 0x100000001B3ull + round);
  // Drawn for all documents at once: no key stands in two of them.
  const auto all = eval::draw_needles(random, flags.needles * flags.texts.size());
  std::vector<Document> documents;
  for (std::size_t i = 0; i < flags.texts.size(); ++i) {
    Document d;
    d.name = document_name(flags.texts[i]);
    d.needles.assign(all.begin() + static_cast<std::ptrdiff_t>(i * flags.needles),
                     all.begin() + static_cast<std::ptrdiff_t>((i + 1) * flags.needles));
    d.text = eval::hide_needles(read_text_file(flags.texts[i]), flags.bytes, random, d.needles);
    documents.push_back(std::move(d));
  }
  return documents;
}

void ingest_documents(const SourcesFlags& flags, const Engine& engine, Archive& archive,
                      const std::string& collection, const std::vector<Document>& documents) {
  const SessionOptions session = flags.span.session_options(EID_ATTENTION_STREAM);
  for (const Document& d : documents) {
    ProgressMeter meter(d.name, "tokens");
    archive.ingest(engine, apps::ingest_as(session, collection, d.name, d.text),
                   progress_of(meter));
  }
}

Asked ask_for(const SourcesFlags& flags, const Engine& engine, const Archive& archive,
              std::size_t round, const Document& document, const eval::Needle& needle) {
  const bool as_ask = flags.form == "ask";
  AskRequest request;
  request.collections = {collection_of(round)};
  request.session = flags.span.session_options(EID_ATTENTION_STREAM);
  request.generate.max_tokens = flags.answer_tokens;
  request.sources = std::numeric_limits<std::size_t>::max();
  if (as_ask) {
    request.question = "What is the special magic number for " + needle.key + "?";
  } else {
    const eval::QuestionForm form = eval::question_form(flags.form);
    request.chat = form.chat;
    (form.chat ? request.question : request.prompt) = form.ask_for(needle.key);
  }
  const auto begin = std::chrono::steady_clock::now();
  const AskReply reply = ask(engine, archive, request);
  Asked asked{round + 1, document.name, needle.key, needle.number, reply.answer.text};
  asked.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  asked.right = reply.answer.text.find(needle.number) != std::string::npos;
  for (std::size_t i = 0; i < reply.sources.size(); ++i) {
    const Passage& p = reply.sources[i];
    if (i < flags.sources) {
      asked.first.push_back({{"document", p.source},
                             {"byte_begin", p.byte_begin},
                             {"byte_end", p.byte_end},
                             {"attention", p.attention},
                             {"focus", p.focus},
                             {"focus_layer", p.focus_layer},
                             {"text", one_line(p.text, 160)}});
    }
    if (asked.rank == 0 && p.source == document.name &&
        needle.bytes.overlaps(p.byte_begin, p.byte_end)) {
      asked.rank = static_cast<int>(i) + 1;
      asked.attention = p.attention;
    }
  }
  return asked;
}

void report(const SourcesFlags& flags, const std::vector<Asked>& asked) {
  const auto first = [&](const Asked& a) {
    return a.rank > 0 && a.rank <= static_cast<int>(flags.sources);
  };
  const auto count = [&](const std::string& name, auto holds) {
    return std::count_if(asked.begin(), asked.end(), [&](const Asked& a) {
      return (name.empty() || a.document == name) && holds(a);
    });
  };
  const auto right = [](const Asked& a) { return a.right; };
  const auto there = [](const Asked& a) { return a.rank > 0; };
  if (flags.json) {
    json items = json::array();
    for (const Asked& a : asked) {
      items.push_back({{"round", a.round},
                       {"document", a.document},
                       {"key", a.key},
                       {"number", a.number},
                       {"answer", a.answer},
                       {"right", a.right},
                       {"rank", a.rank},
                       {"attention", a.attention},
                       {"first_sources", a.first},
                       {"seconds", a.seconds}});
    }
    print_json({{"needles", asked.size()},
                {"documents", flags.texts.size()},
                {"needles_in_each", flags.needles},
                {"rounds", flags.rounds},
                {"question_form", flags.form},
                {"seed", flags.seed},
                {"sources", flags.sources},
                {"among_first_sources", count("", first)},
                {"in_span", count("", there)},
                {"right_answers", count("", right)},
                {"asked", items}});
    return;
  }
  Table table({"document", "needles", "among first " + std::to_string(flags.sources), "in the span",
               "right answers"},
              {false, true, true, true, true});
  table.shrink(0);
  for (const std::string& path : flags.texts) {
    const std::string name = document_name(path);
    table.add({name, std::to_string(flags.rounds * flags.needles),
               std::to_string(count(name, first)), std::to_string(count(name, there)),
               std::to_string(count(name, right))});
  }
  table.add({"all", std::to_string(asked.size()), std::to_string(count("", first)),
             std::to_string(count("", there)), std::to_string(count("", right))});
  std::cout << table.text();
}

int run_sources(const SourcesFlags& flags) {
  if (flags.form != "ask") eval::question_form(flags.form);
  check_names(flags.texts);
  const Engine engine = flags.model.load();
  WorkArchive work(flags.archive);
  Archive& archive = work.archive();
  std::vector<Asked> asked;
  for (std::size_t round = 0; round < flags.rounds; ++round) {
    const std::vector<Document> documents = make_documents(flags, round);
    ingest_documents(flags, engine, archive, collection_of(round), documents);
    for (const Document& d : documents) {
      for (const eval::Needle& needle : d.needles) {
        stop_if_interrupted();
        asked.push_back(ask_for(flags, engine, archive, round, d, needle));
      }
    }
  }
  report(flags, asked);
  return kExitOk;
}

}  // namespace

void add_eval_sources_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<SourcesFlags>();
  CLI::App* c = eval_app.add_subcommand(
      "sources", "Hide needles in several books, ask for each, see whether the passage is named");
  c->add_option("--text", flags->texts, "The books")->required()->type_name("FILE...");
  c->add_option("--needles", flags->needles, "Needles in each book")
      ->check(CLI::Range(1, 100))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--rounds", flags->rounds, "Read the books so many times, with other needles each")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--bytes", flags->bytes, "Bytes of each book to read")
      ->check(CLI::Range(1000, 1 << 30))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--sources", flags->sources, "The passage must be among the first N")
      ->check(CLI::Range(1, 100))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--seed", flags->seed, "The same seed hides the same needles")
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--question-form", flags->form,
                "ask: as `eidetic ask` does; else a form of `eval needle`, or a text with {key}")
      ->capture_default_str()
      ->type_name("FORM");
  c->add_option("--answer-tokens", flags->answer_tokens, "Most tokens of an answer")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->type_name("N");
  flags->archive.add(*c);
  add_json_flag(*c, flags->json);
  flags->model.add(*c);
  flags->span.add(*c);
  add_examples(*c,
               "  eidetic eval sources --text books/*.txt --device cuda\n"
               "  eidetic eval sources --text books/*.txt --bytes 40000 --rounds 1 --json");
  c->callback([flags, &action] { action = [flags] { return run_sources(*flags); }; });
}

}  // namespace eidetic::cli
