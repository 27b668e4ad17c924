#include "apps/cli/eval_needle_command.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <tuple>

#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/eval/needle.h"
#include "apps/eval/needle_report.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

// Tokens of an answer: a number is nine or so, and a model may begin its sentence again for the
// next.
constexpr int kAnswerTokens = 16, kTokensOfAnotherValue = 40;

struct NeedleFlags {
  eval::NeedleOptions options;
  std::vector<std::string> texts, limits;
  std::string via = "session", form, svg_file, html_file;
  ReportFlags report;
  ModelFlags model;
  SpanFlags span;
  SequenceFlags sequence;
};

void check_flags(const NeedleFlags& flags) {
  const auto& o = flags.options;
  if (flags.texts.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no text was named to hide needles in",
                "pass --text FILE..., for example the books in bench/data/books.tar.xz");
  }
  check_each_once(o.modes, "--modes");
  for (const std::string& mode : o.modes) {
    const bool sequence = eval::reads_a_sequence(mode);
    if (flags.via == "archive" && (sequence || mode == "full")) {
      throw Error(EID_INVALID_ARGUMENT,
                  "mode " + mode + " cannot ask an archive: it attends to its own text only",
                  "leave " + mode + " out of --modes, or use --via session");
    }
    if (sequence && (o.values > 1 || o.form.chat)) {
      throw Error(EID_INVALID_ARGUMENT,
                  "mode " + mode + " answers with one number, behind a text to go on from",
                  "leave " + mode + " out of --modes, or use neither --values nor the form chat");
    }
  }
}

// What a sample depends on beside mode, length and index.
json settings_of_run(const NeedleFlags& flags, const Engine& engine, const eval::Corpus& corpus) {
  const auto& o = flags.options;
  return {{"evaluation", "needle"},
          {"model", settings_of(engine)},
          {"corpus", {corpus.pieces().size(), corpus.tokens()}},
          {"needle", {o.keys, o.values, o.depths, o.seed, flags.via, o.form.text, o.answer_tokens}},
          {"session", settings_of(o.session)},
          {"sequence", settings_of(o.sequence)}};
}

void print_tables(const eval::NeedleOptions& options, const eval::NeedleTables& tables) {
  std::cout << "Accuracy: share of answers with the whole number, and its 95 % interval, "
            << options.samples << " samples a cell\n"
            << text_table(tables.accuracy);
  if (!tables.found.empty()) {
    std::cout << "\nFound: share of the numbers that were asked for\n" << text_table(tables.found);
  }
  std::cout << "\nSpan recall: how often the needle's block was in the span, of needles outside "
               "window and sinks\n"
            << text_table(tables.recall) << "\nReading, tokens/s\n"
            << text_table(tables.speed);
}

std::vector<eval::NeedleSample> run(const NeedleFlags& flags, const Engine& engine,
                                    const eval::Corpus& corpus,
                                    const std::vector<std::string>& content) {
  ResultsFile file(flags.report.results, settings_of_run(flags, engine, corpus), content);
  std::map<std::tuple<std::string, std::uint64_t, std::uint64_t>, eval::NeedleSample> earlier;
  for_each_result(file, flags.report.results, [&](const json& line) {
    const eval::NeedleSample sample = eval::needle_sample_from_json(line);
    earlier.insert_or_assign({sample.mode, sample.length, sample.index}, sample);
  });
  ProgressMeter meter("eval needle", "tokens");
  eval::NeedleCalls calls;
  calls.known = [&](const std::string& mode, std::uint64_t length,
                    std::uint64_t index) -> const eval::NeedleSample* {
    const auto found = earlier.find({mode, length, index});
    return found != earlier.end() ? &found->second : nullptr;
  };
  calls.done = [&](const eval::NeedleSample& sample) { file.add(eval::to_json(sample)); };
  calls.progress = [&](const eval::NeedleSample& at, std::uint64_t done, std::uint64_t total) {
    meter.update("reading", at.mode, done, total);
    return !interrupted();
  };
  return eval::run_needle(engine, corpus, flags.options, calls);
}

int run_needle_command(NeedleFlags& flags) {
  eval::NeedleOptions& options = flags.options;
  options.via = flags.via == "archive" ? eval::Via::kArchive : eval::Via::kSession;
  if (flags.form.empty()) flags.form = options.values > 1 ? "values" : "protocol";
  options.form = eval::question_form(flags.form);
  options.session = flags.span.session_options(EID_ATTENTION_STREAM);
  options.only_known = flags.report.only;
  options.sequence = flags.sequence.options();
  if (options.answer_tokens == 0) {
    options.answer_tokens =
        kAnswerTokens + kTokensOfAnotherValue * static_cast<int>(options.values - 1);
  }
  options.limits = parse_limits(flags.limits);
  check_flags(flags);

  std::vector<std::string> texts;
  for (const std::string& path : flags.texts) texts.push_back(read_text_file(path));
  const Engine engine = flags.model.load();
  const eval::Corpus corpus(engine, texts);
  const std::vector<eval::NeedleSample> samples = run(flags, engine, corpus, content_of(texts));

  json report = eval::needle_report(options, samples);
  report["model"] = parse_json(engine.info());
  const auto cells = eval::needle_cells(options, samples);
  const std::string name = report["model"].value("name", std::string("model"));
  if (!flags.svg_file.empty()) {
    write_file(flags.svg_file, eval::to_svg(eval::needle_heat_map(options, cells, name)));
  }
  if (!flags.html_file.empty()) {
    write_file(flags.html_file, eval::needle_page(options, cells, name));
  }
  const eval::NeedleTables tables = eval::needle_tables(options, cells);
  const std::string markdown =
      "Accuracy (95 % interval)\n\n" + markdown_table(tables.accuracy) +
      (tables.found.empty() ? "" : "\nFound\n\n" + markdown_table(tables.found)) +
      "\nSpan recall\n\n" + markdown_table(tables.recall) + "\nReading, tokens/s\n\n" +
      markdown_table(tables.speed);
  if (!flags.report.write(report, markdown)) print_tables(options, tables);
  return kExitOk;
}

}  // namespace

void add_eval_needle_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<NeedleFlags>();
  CLI::App* c =
      eval_app.add_subcommand("needle", "Hide numbers in running text and ask for one of them");
  auto& o = flags->options;
  o.answer_tokens = 0;
  c->add_option("--text", flags->texts, "Texts to hide needles in")->type_name("FILE...");
  add_modes_flag(*c, o.modes, eval::reading_modes(),
                 "Ways to read: stream, window, wide-window (a window as large as window and span "
                 "together), full, random; paper, paper-random, paper-no-memory, "
                 "paper-landmark, se-stream, s2");
  add_prompt_flags(*c, o, flags->limits, "Tokens in a prompt",
                   "Prompts per length; the same for every mode");
  c->add_option("--keys", o.keys, "Keys in a prompt; one of them is asked for")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--values", o.values, "Needles of each key; an answer must hold all of its numbers")
      ->check(CLI::Range(1, 16))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--depths", o.depths, "Equal parts of the text that take the needle in turn")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--via", flags->via,
                "session: the session that read the text is asked; archive: a fresh one is")
      ->check(CLI::IsMember({"session", "archive"}))
      ->capture_default_str()
      ->type_name("NAME");
  c->add_option("--question-form", flags->form,
                "protocol (default), question, statement, repeat, answer, answer-statement, values "
                "(default with --values), chat, or a text with {key} in it")
      ->type_name("FORM");
  c->add_option("--answer-tokens", o.answer_tokens,
                "Most tokens of an answer; default: 16, and 40 for each further value")
      ->check(CLI::Range(1, 4096))
      ->type_name("N");
  flags->report.add(*c);
  c->add_option("--svg", flags->svg_file, "Write a heat map of length and depth")
      ->type_name("FILE");
  c->add_option("--html", flags->html_file, "Write tables and heat maps as one page")
      ->type_name("FILE");
  c->add_option("--work-dir", o.work_dir, "Where --via archive makes its archives")
      ->type_name("DIR");
  flags->model.add(*c);
  flags->span.add(*c);
  flags->sequence.add(*c);
  add_examples(
      *c,
      "  eidetic eval needle --text books/*.txt --lengths 4096,8192 --samples 8\n"
      "  eidetic eval needle --text books/*.txt --modes full,window,random,paper,stream \\\n"
      "      --limit full=32768 --results needle.jsonl --html needle.html\n"
      "  eidetic eval needle --text books/*.txt --keys 4 --via archive --device cuda\n"
      "  eidetic eval needle --text books/*.txt --keys 2 --values 2 --json needle.json");
  c->callback([flags, &action] { action = [flags] { return run_needle_command(*flags); }; });
}

}  // namespace eidetic::cli
