#include "apps/cli/eval_ruler_command.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <map>
#include <tuple>

#include "apps/cli/evaluation.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/eval/reading_mode.h"
#include "apps/eval/ruler.h"
#include "apps/eval/ruler_report.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct RulerFlags {
  eval::RulerOptions options;
  std::vector<std::string> texts, tasks = {"ruler-11"}, limits;
  std::string questions, html_file;
  ReportFlags report;
  ModelFlags model;
  SpanFlags span;
};

std::vector<std::string> session_modes() {
  std::vector<std::string> modes = eval::reading_modes();
  std::erase_if(modes, eval::reads_a_sequence);
  return modes;
}

bool asks_questions(const eval::RulerOptions& options) {
  return std::any_of(options.tasks.begin(), options.tasks.end(),
                     [](const eval::RulerTask& task) { return !task.in_ruler_11(); });
}

// The question file, with its books out of the texts, by the names of their files.
eval::RulerQuestions questions_on(const RulerFlags& flags,
                                  const std::map<std::string, std::string>& texts) {
  eval::QuestionSet set = eval::parse_questions(read_text_file(flags.questions), flags.questions);
  for (eval::Book& book : set.books) {
    const auto found = texts.find(book.file);
    if (found == texts.end()) {
      throw Error(EID_INVALID_ARGUMENT,
                  "the questions in '" + flags.questions + "' are about '" + book.file +
                      "', which is not among the texts",
                  "name it with --text too: its questions and its documents are taken from there");
    }
    book.text = found->second;
  }
  eval::locate_passages(set);
  return eval::RulerQuestions(set);
}

// `content`: hashes of what they are made of, as a results file has them.
eval::RulerTexts texts_of(const RulerFlags& flags, std::vector<std::string>& content) {
  if (flags.texts.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no text was named to hide needles in",
                "pass --text FILE..., for example the books in bench/data/books.tar.xz");
  }
  std::vector<std::string> texts;
  std::map<std::string, std::string> by_file;
  for (const std::string& path : flags.texts) {
    texts.push_back(read_text_file(path));
    content.push_back(content_hash(texts.back()));
    by_file[std::filesystem::path(path).filename().string()] = texts.back();
  }
  if (!asks_questions(flags.options)) return eval::RulerTexts(texts);
  if (flags.questions.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "the tasks qa_1 and qa_2 have no questions to ask",
                "name them with --questions bench/data/questions.json, or leave these tasks out: "
                "--tasks ruler-11");
  }
  content.push_back(content_hash(read_text_file(flags.questions)));
  return eval::RulerTexts(texts, questions_on(flags, by_file));
}

// What a sample depends on beside task, mode, length and index.
json settings_of_run(const RulerFlags& flags, const Engine& engine, const eval::RulerTexts& texts) {
  json settings = {
      {"evaluation", "ruler"},
      {"model", cli::settings_of(engine)},
      {"corpus", {texts.text.words(), texts.vocabulary.size()}},
      {"questions", {texts.questions.questions().size(), texts.questions.documents().size()}},
      {"seed", flags.options.seed},
      {"session", cli::settings_of(flags.options.session)}};
  if (flags.options.chat) settings["chat"] = true;
  return settings;
}

std::vector<eval::RulerSample> run(const RulerFlags& flags, const Engine& engine,
                                   const eval::RulerTexts& texts,
                                   const std::vector<std::string>& content) {
  ResultsFile file(flags.report.results, settings_of_run(flags, engine, texts), content);
  std::map<std::tuple<std::string, std::string, std::uint64_t, std::uint64_t>, eval::RulerSample>
      earlier;
  for_each_result(file, flags.report.results, [&](const json& line) {
    const eval::RulerSample sample = eval::ruler_sample_from_json(line);
    earlier.insert_or_assign({sample.mode, sample.task, sample.length, sample.index}, sample);
  });
  ProgressMeter meter("eval ruler", "tokens");
  eval::RulerCalls calls;
  calls.known = [&](const std::string& mode, const std::string& task, std::uint64_t length,
                    std::uint64_t index) -> const eval::RulerSample* {
    const auto found = earlier.find({mode, task, length, index});
    return found != earlier.end() ? &found->second : nullptr;
  };
  calls.done = [&](const eval::RulerSample& sample) { file.add(eval::to_json(sample)); };
  calls.progress = [&](const eval::RulerSample& at, std::uint64_t done, std::uint64_t total) {
    meter.update(at.task, at.mode, done, total);
    return !interrupted();
  };
  std::vector<eval::RulerSample> samples = eval::run_ruler(engine, texts, flags.options, calls);
  meter.clear();
  return samples;
}

int run_ruler_command(RulerFlags& flags) {
  eval::RulerOptions& options = flags.options;
  options.tasks = eval::ruler_tasks_of(flags.tasks);
  check_each_once(options.modes, "--modes");
  options.limits = parse_limits(flags.limits);
  options.session = flags.span.session_options(EID_ATTENTION_STREAM);
  options.only_known = flags.report.only;
  std::vector<std::string> content;
  const eval::RulerTexts texts = texts_of(flags, content);
  const Engine engine = flags.model.load();
  const std::vector<eval::RulerSample> samples = run(flags, engine, texts, content);

  json report = eval::ruler_report(options, samples);
  report["model"] = parse_json(engine.info());
  const auto cells = eval::ruler_cells(options, samples);
  if (!flags.html_file.empty()) {
    const std::string name = report["model"].value("name", std::string("model"));
    write_file(flags.html_file, eval::ruler_page(options, cells, name));
  }
  std::string markdown, text;
  for (const eval::RulerTable& table : eval::ruler_report_tables(options, cells)) {
    if (!markdown.empty()) markdown += "\n";
    markdown += table.title + ". " + table.note + "\n\n" + markdown_table(table.rows);
    if (!text.empty()) text += "\n";
    text += table.title + ": " + table.note + "\n" + text_table(table.rows);
  }
  if (!flags.report.write(report, markdown)) std::cout << text;
  return kExitOk;
}

}  // namespace

void add_eval_ruler_command(CLI::App& eval_app, Action& action) {
  auto flags = std::make_shared<RulerFlags>();
  CLI::App* c = eval_app.add_subcommand("ruler", "RULER's thirteen tasks on long prompts");
  auto& o = flags->options;
  c->add_option("--text", flags->texts, "Texts to hide needles in; the books of --questions")
      ->type_name("FILE...");
  c->add_option("--questions", flags->questions,
                "The questions of qa_1 and qa_2: bench/data/questions.json")
      ->type_name("FILE");
  c->add_option("--tasks", flags->tasks,
                "niah_single_1 to 3, niah_multikey_1 to 3, niah_multivalue, niah_multiquery, vt, "
                "cwe, fwe, qa_1, qa_2; all; ruler-11 (default): all without qa_1 and qa_2")
      ->delimiter(',')
      ->type_name("NAME,...");
  c->add_flag(
      "--chat", o.chat,
      "Ask by the model's chat template: the prompt is the user's turn, the beginning of the "
      "answer the assistant's");
  add_modes_flag(*c, o.modes, session_modes(),
                 "Ways to read: stream, window, wide-window (a window as large as window and span "
                 "together), full, random");
  add_prompt_flags(*c, o, flags->limits, "Tokens in a prompt with its answer",
                   "Prompts per task and length; the same for every mode");
  flags->report.add(*c);
  c->add_option("--html", flags->html_file, "Write the tables as one page")->type_name("FILE");
  flags->model.add(*c);
  flags->span.add(*c);
  add_examples(
      *c,
      "  tar -xf bench/data/books.tar.xz -C /tmp\n"
      "  eidetic eval ruler --text /tmp/valid/*.txt --lengths 4096,8192\n"
      "  eidetic eval ruler --text /tmp/valid/*.txt --tasks niah_single_2,vt --samples 4 --chat\n"
      "  eidetic eval ruler --text /tmp/valid/*.txt --questions bench/data/questions.json \\\n"
      "      --tasks all --modes full,window,stream --limit full=32768 --device cuda \\\n"
      "      --results ruler.jsonl --html ruler.html");
  c->callback([flags, &action] { action = [flags] { return run_ruler_command(*flags); }; });
}

}  // namespace eidetic::cli
