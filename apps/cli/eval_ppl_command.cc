#include "apps/cli/eval_ppl_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/eval/needle_report.h"
#include "apps/eval/perplexity.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct PplFlags {
  eval::PerplexityOptions options;
  std::vector<std::string> texts;
  ReportFlags report;
  ModelFlags model;
  SpanFlags span;
  SequenceFlags sequence;
};

json settings_of_run(const PplFlags& flags, const Engine& engine,
                     const std::vector<eval::NamedText>& texts) {
  json sizes = json::array();
  for (const eval::NamedText& text : texts) sizes.push_back({text.name, text.text.size()});
  return {{"evaluation", "ppl"},
          {"model", settings_of(engine)},
          {"texts", sizes},
          {"score", flags.options.score},
          {"session", settings_of(flags.options.session)},
          {"sequence", settings_of(flags.options.sequence)}};
}

std::vector<eval::PieceLoss> measure(const PplFlags& flags, const Engine& engine,
                                     const std::vector<eval::NamedText>& texts) {
  ResultsFile file(flags.report.results, settings_of_run(flags, engine, texts), content_of(texts));
  std::vector<eval::PieceLoss> earlier;
  for_each_result(file, flags.report.results,
                  [&](const json& line) { earlier.push_back(eval::piece_loss_from_json(line)); });
  ProgressMeter meter("eval ppl", "tokens");
  eval::PerplexityCalls calls;
  calls.known = [&](const std::string& text, const std::string& mode, std::uint64_t length,
                    std::uint64_t piece) -> const eval::PieceLoss* {
    const auto found = std::find_if(earlier.begin(), earlier.end(), [&](const auto& one) {
      return one.text == text && one.mode == mode && one.length == length && one.piece == piece;
    });
    return found != earlier.end() ? &*found : nullptr;
  };
  calls.done = [&](const eval::PieceLoss& loss) { file.add(eval::to_json(loss)); };
  calls.progress = [&](const std::string& mode, std::uint64_t done, std::uint64_t total) {
    meter.update("reading", mode, done, total);
    return !interrupted();
  };
  return eval::measure_perplexity(engine, texts, flags.options, calls);
}

// Rows of text and mode, a group of columns for each length.
std::vector<std::vector<std::string>> table_rows(const PplFlags& flags,
                                                 const std::vector<eval::NamedText>& texts,
                                                 const std::vector<eval::Perplexity>& sums) {
  std::vector<std::vector<std::string>> rows = {{"text", "mode"}};
  for (const std::uint64_t length : flags.options.lengths) {
    const std::string name = eval::length_name(length);
    for (const char* what : {" loss", " per token", " per word"}) rows[0].push_back(name + what);
  }
  std::vector<std::string> names;
  for (const eval::NamedText& text : texts) names.push_back(text.name);
  if (texts.size() > 1) names.emplace_back();
  for (const std::string& name : names) {
    for (const std::string& mode : flags.options.modes) {
      std::vector<std::string> row = {name.empty() ? "all" : name, mode};
      for (const std::uint64_t length : flags.options.lengths) {
        const auto sum = std::find_if(sums.begin(), sums.end(), [&](const auto& one) {
          return one.text == name && one.mode == mode && one.length == length;
        });
        const bool there = sum != sums.end();
        row.push_back(there ? fixed(sum->loss(), 4) : "-");
        row.push_back(there ? fixed(sum->token_perplexity(), 2) : "-");
        row.push_back(there ? fixed(sum->word_perplexity(), 2) : "-");
      }
      rows.push_back(row);
    }
  }
  return rows;
}

int run_ppl(PplFlags& flags) {
  check_each_once(flags.options.modes, "--modes");
  const std::vector<eval::NamedText> texts = read_named_texts(flags.texts);
  flags.options.session = flags.span.session_options(EID_ATTENTION_STREAM);
  flags.options.only_known = flags.report.only;
  flags.options.sequence = flags.sequence.options();
  const Engine engine = flags.model.load();
  const std::vector<eval::PieceLoss> losses = measure(flags, engine, texts);
  const std::vector<eval::Perplexity> sums = eval::sum_losses(losses, texts, flags.options);

  json report = {{"parameters", settings_of_run(flags, engine, texts)},
                 {"model", parse_json(engine.info())},
                 {"rows", json::array()}};
  report["parameters"]["lengths"] = flags.options.lengths;
  report["parameters"]["modes"] = flags.options.modes;
  report["parameters"]["pieces"] = flags.options.pieces;
  for (const eval::Perplexity& sum : sums) report["rows"].push_back(eval::to_json(sum));
  const auto rows = table_rows(flags, texts, sums);
  if (flags.report.write(report, markdown_table(rows))) return kExitOk;
  std::vector<bool> numbers(rows[0].size(), true);
  numbers[0] = numbers[1] = false;
  Table table(rows[0], numbers);
  for (std::size_t r = 1; r < rows.size(); ++r) table.add(rows[r]);
  std::cout << "Loss in nats per token; perplexity per token and per word, of "
            << (flags.options.score > 0
                    ? "the last " + with_commas(flags.options.score) + " tokens of every piece"
                    : std::string("all tokens"))
            << "\n"
            << table.text();
  return kExitOk;
}

}  // namespace

void add_eval_ppl_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<PplFlags>();
  CLI::App* c = eval_app.add_subcommand(
      "ppl", "Perplexity of whole books, per token and per word, by length and mode");
  auto& o = flags->options;
  c->add_option("--text", flags->texts, "The books")->required()->type_name("FILE...");
  c->add_option("--lengths", o.lengths, "Tokens of a piece; each is read from a fresh state")
      ->delimiter(',')
      ->check(CLI::Range(16, 1 << 24))
      ->capture_default_str()
      ->type_name("N,N,...");
  add_modes_flag(*c, o.modes, eval::reading_modes(),
                 "Ways to read: full, window, wide-window (a window as large as window and span "
                 "together), stream, random; paper, paper-random, paper-no-memory, "
                 "paper-landmark, se-stream (as stream reads, all at once), s2");
  c->add_option("--score", o.score,
                "Score the last N tokens of every piece, the span on for these alone; default: all")
      ->check(CLI::Range(1, 1 << 24))
      ->type_name("N");
  c->add_option("--pieces", o.pieces, "Read only the first N pieces of each book; default: all")
      ->check(CLI::Range(1, 1 << 24))
      ->type_name("N");
  flags->report.add(*c);
  flags->model.add(*c);
  flags->span.add(*c);
  flags->sequence.add(*c);
  add_examples(*c,
               "  eidetic eval ppl --text books/*.txt --lengths 8192,32768 --device cuda\n"
               "  eidetic eval ppl --text books/*.txt --lengths 8192 --score 2048 --pieces 1 \\\n"
               "      --segment 256 --modes window,wide-window,stream --results ppl.jsonl\n"
               "  eidetic eval ppl --text books/*.txt --modes full,paper,s2 --markdown ppl.md");
  c->callback([flags, &action] { action = [flags] { return run_ppl(*flags); }; });
}

}  // namespace eidetic::cli
