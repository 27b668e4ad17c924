// eidetic eval needle
#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <set>

#include "apps/cli/command.h"
#include "apps/cli/eval_conversation_command.h"
#include "apps/cli/eval_questions_command.h"
#include "apps/cli/eval_sources_command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/common/attention_mode.h"
#include "apps/eval/needle.h"

namespace eidetic::cli {
namespace {

struct NeedleFlags {
  eval::NeedleOptions options;
  std::vector<std::string> texts;
  std::string via = "session", form = "protocol", json_file, svg_file;
  CLI::Option* json_given = nullptr;
  ModelFlags model;
  SpanFlags span;
};

void check_flags(const NeedleFlags& flags) {
  const auto& o = flags.options;
  if (flags.texts.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no text was named to hide needles in",
                "pass --text FILE..., for example the books in bench/data/books.tar.xz");
  }
  if (std::set<std::string>(o.modes.begin(), o.modes.end()).size() != o.modes.size()) {
    throw Error(EID_INVALID_ARGUMENT, "a mode is named twice in --modes", "name each once");
  }
  for (const std::string& mode : o.modes) {
    if (apps::parse_mode(mode) == EID_ATTENTION_FULL && flags.via == "archive") {
      throw Error(EID_INVALID_ARGUMENT,
                  "mode full cannot ask an archive: it attends to its own session only",
                  "leave full out of --modes, or use --via session");
    }
  }
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (!file) {
    throw Error(EID_IO_ERROR, "'" + path + "' could not be written", "check the path and the disk");
  }
}

std::string share(int part, int whole) {
  return whole > 0 ? fixed(static_cast<double>(part) / whole, 2) : "-";
}

void print_tables(const eval::NeedleOptions& options, const std::vector<eval::NeedleCell>& cells) {
  std::vector<std::string> headings = {"mode"};
  for (const std::uint64_t length : options.lengths) headings.push_back(eval::length_name(length));
  std::vector<bool> numbers(headings.size(), true);
  numbers[0] = false;
  Table accuracy(headings, numbers), recall(headings, numbers), speed(headings, numbers);
  for (std::size_t m = 0; m < options.modes.size(); ++m) {
    std::vector<std::string> hits = {options.modes[m]}, spans = hits, rates = hits;
    for (std::size_t l = 0; l < options.lengths.size(); ++l) {
      const eval::NeedleCell& cell = cells[m * options.lengths.size() + l];
      const bool has_span = cell.mode == "stream" || cell.mode == "random";
      hits.push_back(share(cell.hits, cell.samples));
      spans.push_back(has_span && cell.recallable > 0 ? fixed(cell.presence / cell.recallable, 2)
                                                      : "-");
      rates.push_back(with_commas(static_cast<std::uint64_t>(cell.tokens_per_second)));
    }
    accuracy.add(hits);
    recall.add(spans);
    speed.add(rates);
  }
  std::cout << "Accuracy: share of answers with the whole number, " << options.samples
            << " samples a cell\n"
            << accuracy.text()
            << "\nSpan recall: how often the needle's block was in the span, of needles outside "
               "window and sinks\n"
            << recall.text() << "\nReading, tokens/s\n"
            << speed.text();
}

std::vector<eval::NeedleSample> run(const Engine& engine, const eval::Corpus& corpus,
                                    const eval::NeedleOptions& options) {
  ProgressMeter meter("eval needle", "tokens");
  const auto begin = std::chrono::steady_clock::now();
  return eval::run_needle(
      engine, corpus, options,
      [&](const eval::NeedleSample& at, std::uint64_t done, std::uint64_t total) {
        eid_progress progress{};
        progress.stage = "reading";
        progress.item = at.mode.c_str();
        progress.done = done;
        progress.total = total;
        progress.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        meter.update(progress);
        return !interrupted();
      });
}

int run_needle_command(NeedleFlags& flags) {
  check_flags(flags);
  eval::NeedleOptions& options = flags.options;
  options.via = flags.via == "archive" ? eval::Via::kArchive : eval::Via::kSession;
  options.form = eval::question_form(flags.form);
  options.session = flags.span.session_options(EID_ATTENTION_STREAM);

  std::vector<std::string> texts;
  for (const std::string& path : flags.texts) texts.push_back(read_text_file(path));
  const Engine engine = flags.model.load();
  const eval::Corpus corpus(engine, texts);
  const std::vector<eval::NeedleSample> samples = run(engine, corpus, options);

  nlohmann::json report = eval::needle_report(options, samples);
  report["model"] = parse_json(engine.info());
  const auto cells = eval::needle_cells(options, samples);
  if (!flags.svg_file.empty()) {
    const std::string name = report["model"].value("name", std::string("model"));
    write_file(flags.svg_file, eval::to_svg(eval::needle_heat_map(options, cells, name)));
  }
  if (flags.json_given->count() == 0) {
    print_tables(options, cells);
  } else if (flags.json_file.empty()) {
    print_json(report);
  } else {
    write_file(flags.json_file, compact(report) + "\n");
    print_tables(options, cells);
  }
  return kExitOk;
}

void add_needle_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<NeedleFlags>();
  CLI::App* c =
      eval_app.add_subcommand("needle", "Hide numbers in running text and ask for one of them");
  auto& o = flags->options;
  c->add_option("--text", flags->texts, "Texts to hide needles in")->type_name("FILE...");
  c->add_option("--lengths", o.lengths, "Tokens in a prompt")
      ->delimiter(',')
      ->check(CLI::Range(256, 1 << 24))
      ->capture_default_str()
      ->type_name("N,N,...");
  c->add_option("--modes", o.modes, "stream, window, full, random")
      ->delimiter(',')
      ->check(CLI::IsMember(apps::attention_mode_names()))
      ->type_name("NAME,...");
  c->add_option("--samples", o.samples, "Prompts per length; the same for every mode")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--keys", o.keys, "Needles in a prompt; one of them is asked for")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--depths", o.depths, "Equal parts of the text that take the needle in turn")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--seed", o.seed, "The same seed gives the same prompts")
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--via", flags->via,
                "session: the session that read the text is asked; archive: a fresh one is")
      ->check(CLI::IsMember({"session", "archive"}))
      ->capture_default_str()
      ->type_name("NAME");
  c->add_option("--question-form", flags->form,
                "protocol, question, statement, repeat, answer, answer-statement, chat, or a text "
                "with {key} in it")
      ->capture_default_str()
      ->type_name("FORM");
  c->add_option("--answer-tokens", o.answer_tokens, "Most tokens of an answer")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->type_name("N");
  flags->json_given = c->add_option("--json", flags->json_file,
                                    "Write JSON to FILE, or to standard output without one")
                          ->expected(0, 1)
                          ->type_name("[FILE]");
  c->add_option("--svg", flags->svg_file, "Write a heat map of length and depth")
      ->type_name("FILE");
  c->add_option("--work-dir", o.work_dir, "Where --via archive makes its archives")
      ->type_name("DIR");
  flags->model.add(*c);
  flags->span.add(*c);
  add_examples(*c,
               "  eidetic eval needle --text books/*.txt --lengths 4096,8192 --samples 8\n"
               "  eidetic eval needle --text books/*.txt --modes stream,window,full,random \\\n"
               "      --json needle.json --svg needle.svg\n"
               "  eidetic eval needle --text books/*.txt --keys 4 --via archive --device cuda");
  c->callback([flags, &action] { action = [flags] { return run_needle_command(*flags); }; });
}

}  // namespace

void add_eval_commands(CLI::App& app, Action& action) {
  CLI::App* eval_app = app.add_subcommand("eval", "Measure how well memory is recalled");
  eval_app->require_subcommand(1);
  add_examples(*eval_app,
               "  eidetic eval needle --text books/*.txt --lengths 4096,8192\n"
               "  eidetic eval sources --text books/*.txt --needles 5");
  add_needle_command(*eval_app, action);
  add_eval_sources_command(*eval_app, action);
  add_eval_questions_command(*eval_app, action);
  add_eval_conversation_command(*eval_app, action);
}

}  // namespace eidetic::cli
