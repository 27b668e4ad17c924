#include "apps/cli/tune_report.h"

#include <cmath>
#include <filesystem>
#include <iostream>

#include "apps/cli/characters.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/results_file.h"
#include "apps/cli/text_file.h"
#include "apps/cli/tune_attention.h"
#include "apps/eval/loss_curves.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

std::string count_of(std::int64_t done, std::int64_t total, const char* unit) {
  const std::string text = with_commas(static_cast<std::uint64_t>(done));
  if (total <= 0) return text + " " + unit;
  return text + "/" + with_commas(static_cast<std::uint64_t>(total)) + " " + unit;
}

std::string tokens_text(const json& data) {
  return with_commas(data.at("tokens").get<std::uint64_t>()) + " tokens in " +
         with_commas(data.at("documents").get<std::uint64_t>()) + " documents";
}

// Lines that could not be used must not go unseen.
void print_bad_lines(const json& data) {
  const auto bad = data.at("bad_lines").get<std::uint64_t>();
  if (bad > 0) print_note("eidetic: " + with_commas(bad) + " lines of JSONL were left out");
}

}  // namespace

std::string tune_figures(const eid_tune_progress& p) {
  const std::string stage = p.stage;
  if (stage == "tokenizing") {
    return "tokenizing  " + human_bytes(static_cast<std::uint64_t>(p.done)) +
           (p.total > 0 ? " of " + human_bytes(static_cast<std::uint64_t>(p.total)) : "");
  }
  if (stage == "loading") return "loading the model";
  if (stage == "measuring") return "measuring " + count_of(p.done, p.total, "steps");
  if (stage == "evaluating") {
    return count_of(p.step, p.steps, "steps") + "  evaluating " +
           count_of(p.done, p.total, "sequences");
  }
  std::string text = count_of(p.step, p.steps, "steps");
  const auto add = [&](double value, const std::string& words) {
    if (std::isfinite(value)) text += "  " + words;
  };
  const std::string objective = p.objective;
  add(p.loss, (objective == "mixers" ? "mixers' distance " : "loss ") + fixed(p.loss, 4));
  add(p.held_out_loss, "held out " + fixed(p.held_out_loss, 4));
  if (std::isfinite(p.tokens_per_second)) {
    text += "  " + with_commas(static_cast<std::uint64_t>(p.tokens_per_second)) + " tokens/s";
  }
  add(p.peak_share, fixed(100 * p.peak_share, 0) + " % of peak");
  add(p.remaining_seconds, "ETA " + human_seconds(p.remaining_seconds));
  if (p.memory_bytes > 0) text += "  " + human_bytes(p.memory_bytes);
  return text;
}

bool TuneMeter::operator()(const eid_tune_progress& progress) {
  const bool of_steps = progress.steps > 0;
  meter_.update(static_cast<std::uint64_t>(of_steps ? progress.step : progress.done),
                static_cast<std::uint64_t>(of_steps ? progress.steps : progress.total),
                tune_figures(progress));
  return !interrupted();
}

void print_tuned(const json& report) {
  print_bad_lines(report.at("data"));
  Table table({"", ""});
  const auto add = [&](const std::string& name, const std::string& text) {
    table.add({name, text});
  };
  add("data", tokens_text(report.at("data")));
  add("trained", report.at("kind").get<std::string>() + ", " +
                     with_commas(report.at("trained_parameters").get<std::uint64_t>()) +
                     " parameters");
  add("steps", count_of(report.at("step"), report.at("steps"), "steps") + ", " +
                   with_commas(report.at("tokens").get<std::uint64_t>()) + " tokens in " +
                   human_seconds(report.at("seconds")));
  const auto rate = report.at("tokens_per_second").get<double>();
  if (rate > 0) add("speed", with_commas(static_cast<std::uint64_t>(rate)) + " tokens/s");
  if (!report.at("peak_share").is_null()) {
    add("share of peak", fixed(100 * report.at("peak_share").get<double>(), 1) + " %");
  }
  add("memory", human_bytes(report.at("peak_memory_bytes")));
  if (!report.at("loss").is_null()) add("loss", fixed(report.at("loss"), 4));
  if (report.contains("held_out_loss")) add("held out", fixed(report.at("held_out_loss"), 4));
  if (report.contains("teacher_held_out_loss")) {
    add("the teacher's", fixed(report.at("teacher_held_out_loss"), 4));
  }
  std::string adapter = report.at("last");
  bool is_worse = false;  // than before
  if (report.contains("best")) {
    const auto step = report.at("best_step").get<std::uint64_t>();
    add("best",
        fixed(report.at("best_loss"), 4) +
            (step == 0 ? " at step 0, before training" : " after step " + with_commas(step)));
    if (step > 0) adapter = report.at("best");
    is_worse = step == 0;
  }
  std::cout << table.text() << "\nwrote " << printable(report.at("folder").get<std::string>())
            << ": use it with --adapter " << printable(adapter) << "\n";
  if (!is_worse) return;
  std::cout << "No step made the loss on what was held out lower than it was before training: "
            << printable(report.at("best").get<std::string>()) << " is what the run began with.\n";
}

void print_tune_estimate(const json& estimate) {
  print_bad_lines(estimate.at("data"));
  Table table({"", ""});
  const auto steps = estimate.at("steps").get<std::uint64_t>();
  table.add({"data", tokens_text(estimate.at("data"))});
  table.add({"a pass", with_commas(estimate.at("windows").get<std::uint64_t>()) + " sequences"});
  table.add({"trained",
             with_commas(estimate.at("trained_parameters").get<std::uint64_t>()) + " parameters"});
  table.add({"a step", human_seconds(estimate.at("step_seconds"))});
  table.add({"all " + with_commas(steps) + " steps", human_seconds(estimate.at("seconds"))});
  const bool is_alone = estimate.at("processes").get<int>() == 1;
  table.add({is_alone ? "memory" : "memory of a process",
             human_bytes(estimate.at("memory_bytes")) + " of " +
                 human_bytes(estimate.at("device_memory_bytes"))});
  table.add({"on disk", human_bytes(estimate.at("checkpoint_bytes"))});
  std::cout << table.text() << "\nMeasured on steps of up to "
            << with_commas(estimate.at("measured_tokens").get<std::uint64_t>())
            << " tokens, and extended by the operations that longer ones take.\n"
               "Nothing was trained.\n";
}

std::string curves_subtitle(const TuneOptions& options) {
  std::string trained = options.kind;
  if (trained.empty()) trained = options.teacher_path.empty() ? "hylora" : "mixers";
  if (!options.adapter_path.empty()) trained = "from " + options.adapter_path;
  return options.folder + ", " + attention_of(options) + ", " + trained;
}

void write_curves(const std::string& folder, const std::string& subtitle) {
  const std::string metrics = folder + "/metrics.jsonl";
  if (!std::filesystem::exists(metrics)) return;
  eval::LossCurves curves = eval::read_loss_curves(read_file(metrics));
  if (curves.training.empty() && curves.held_out.empty()) return;
  curves.subtitle = subtitle;
  write_file(folder + "/curves.svg", eval::to_svg(curves));
}

}  // namespace eidetic::cli
