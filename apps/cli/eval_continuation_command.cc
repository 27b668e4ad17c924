#include "apps/cli/eval_continuation_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/eval/continuation.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct ContinuationFlags {
  eval::ContinuationOptions options;
  std::vector<std::string> texts;
  ReportFlags report;
  ModelFlags model;
  SpanFlags span;
};

json settings_of_run(const ContinuationFlags& flags, const Engine& engine,
                     const std::vector<eval::NamedText>& texts) {
  json sizes = json::array();
  for (const eval::NamedText& text : texts) sizes.push_back({text.name, text.text.size()});
  const auto& o = flags.options;
  return {{"evaluation", "continuation"},
          {"model", settings_of(engine)},
          {"texts", sizes},
          {"score", o.score},
          {"beginning", o.beginning},
          {"lead", o.lead},
          {"session", settings_of(o.session)}};
}

std::vector<eval::Continuation> measure(const ContinuationFlags& flags, const Engine& engine,
                                        const std::vector<eval::NamedText>& texts) {
  ResultsFile file(flags.report.results, settings_of_run(flags, engine, texts), content_of(texts));
  std::vector<eval::Continuation> earlier, results;
  for_each_result(file, flags.report.results,
                  [&](const json& line) { earlier.push_back(eval::continuation_from_json(line)); });
  for (const eval::NamedText& text : texts) {
    stop_if_interrupted();
    const auto known = std::find_if(earlier.begin(), earlier.end(),
                                    [&](const auto& one) { return one.text == text.name; });
    if (known != earlier.end()) {
      results.push_back(*known);
    } else if (!flags.report.only) {
      ProgressMeter meter(text.name, "tokens");
      results.push_back(
          eval::measure_continuation(engine, text, flags.options, progress_of(meter)));
      file.add(eval::to_json(results.back()));
    }
  }
  return results;
}

int run_continuation(ContinuationFlags& flags) {
  const std::vector<eval::NamedText> texts = read_named_texts(flags.texts);
  flags.options.session = flags.span.session_options(EID_ATTENTION_STREAM);
  const Engine engine = flags.model.load();
  json report = {{"parameters", settings_of_run(flags, engine, texts)},
                 {"model", parse_json(engine.info())},
                 {"rows", json::array()}};
  std::vector<std::vector<std::string>> rows = {
      {"text", "archived", "scored", "without memory", "with memory", "random blocks", "gain"}};
  for (const eval::Continuation& one : measure(flags, engine, texts)) {
    report["rows"].push_back(eval::to_json(one));
    rows.push_back({one.text, std::to_string(one.archived), std::to_string(one.tokens),
                    fixed(one.without, 4), fixed(one.with_memory, 4), fixed(one.at_random, 4),
                    fixed(one.without - one.with_memory, 4)});
  }
  if (flags.report.write(report, markdown_table(rows))) return kExitOk;
  Table table(rows[0], {false, true, true, true, true, true, true});
  for (std::size_t r = 1; r < rows.size(); ++r) table.add(rows[r]);
  std::cout << "Loss of the last tokens of each text, in nats per token\n" << table.text();
  return kExitOk;
}

}  // namespace

void add_eval_continuation_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<ContinuationFlags>();
  CLI::App* c = eval_app.add_subcommand(
      "continuation", "Loss on the end of a book, with and without the memory of its beginning");
  auto& o = flags->options;
  const auto option = [&](const char* name, std::uint64_t& value, int least, const char* text) {
    return c->add_option(name, value, text)->check(CLI::Range(least, 1 << 24))->type_name("N");
  };
  c->add_option("--text", flags->texts, "The books")->required()->type_name("FILE...");
  option("--score", o.score, 2, "Tokens at the end whose loss is measured")->capture_default_str();
  option("--beginning", o.beginning, 32,
         "Tokens before the end that are remembered; default: all of them");
  option("--lead", o.lead, 0, "Tokens between, read without memory by every session")
      ->capture_default_str();
  flags->report.add(*c);
  c->add_option("--work-dir", o.work_dir, "Where the temporary archives are made")
      ->type_name("DIR");
  flags->model.add(*c);
  flags->span.add(*c);
  add_examples(*c,
               "  eidetic eval continuation --text books/*.txt --device cuda\n"
               "  eidetic eval continuation --text books/*.txt --beginning 8192 --score 1024 \\\n"
               "      --segment 64 --results continuation.jsonl --markdown continuation.md");
  c->callback([flags, &action] { action = [flags] { return run_continuation(*flags); }; });
}

}  // namespace eidetic::cli
