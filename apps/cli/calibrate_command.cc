// eidetic model calibrate
#include "apps/cli/calibrate_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>

#include "apps/cli/characters.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

// A GPU waits for the processor most of the time, layer after layer.
constexpr std::size_t kGpuJobs = 4;

// The standard error of a comparison is not there for one: any difference would count.
constexpr int kLeastSamples = 2;

struct CalibrateFlags {
  ModelFlags model;
  CalibrateRequest request;
  bool json = false;
};

// One bar a stage; a stage that is done leaves its line.
class StageMeter {
 public:
  bool update(const std::string& stage, std::uint64_t done, std::uint64_t total) {
    if (stage != stage_) {
      stage_ = stage;
      meter_.emplace("calibrate: " + stage, "samples");
    }
    meter_->update("measuring", stage_, done, total);
    return !interrupted();
  }

 private:
  std::string stage_;
  std::optional<ProgressMeter> meter_;
};

// Where the engine looks for it: beside the adapter, else beside the model.
std::string profile_beside(const ModelFlags& flags) {
  std::string path = flags.adapter.empty() ? flags.model : flags.adapter;
  while (path.size() > 1 && path.back() == '/') path.pop_back();  // of a folder
  return path + ".profile.json";
}

// Written beside its place and renamed into it: a profile is there whole or not at all.
void write_profile(const std::string& path, const nlohmann::json& profile) {
  const std::string partial = path + ".partial";
  {
    std::ofstream file(partial, std::ios::binary);
    file << profile.dump(2) << "\n" << std::flush;
    if (!file) {
      throw Error(EID_IO_ERROR, "the retrieval profile '" + path + "' could not be written",
                  "check the folder and the disk, or name another file with --output");
    }
  }
  std::error_code failed;
  std::filesystem::rename(partial, path, failed);
  if (failed) {
    throw Error(EID_IO_ERROR, "'" + path + "' could not be replaced: " + failed.message(),
                "name another file with --output");
  }
}

std::string listed(const std::vector<std::int32_t>& layers) {
  std::string text;
  for (const std::int32_t layer : layers) {
    text += (text.empty() ? "" : ",") + std::to_string(layer);
  }
  return text;
}

// Of running text; "-" where none was measured.
std::string loss_text(double loss, int digits) {
  return std::isnan(loss) ? "-" : fixed(loss, digits);
}

void print_report(const eval::Calibration& c) {
  Table layers(
      {"layer", "cost to answers", "cost to text", "kept", "rank of the passage", "its share"},
      {true, true, true, false, true, true});
  const auto& chosen = c.chosen.span_layers;
  for (const auto& [layer, look] : c.looks) {
    const bool kept = std::find(chosen.begin(), chosen.end(), layer) != chosen.end();
    const bool measured = c.cost.count(layer) > 0;
    layers.add({std::to_string(layer), measured ? fixed(c.cost.at(layer), 3) : "-",
                measured ? loss_text(c.text_cost.at(layer), 4) : "-",
                !kept                    ? ""
                : layer == c.focus_layer ? "yes, looks things up"
                                         : "yes",
                fixed(look.rank, 2), fixed(look.share, 3)});
  }
  std::cout << layers.text()
            << "\nCost of dropping a layer: nats per token (-: attention ruled it out). Rank of "
               "the right\n"
               "passage by the layer's attention: mean of 1/rank; its share of that attention.\n\n";
  Table scores({"", "all layers", "as found"}, {false, true, true});
  const auto hits = [](const eval::RecallScore& score) {
    return std::to_string(score.hits) + " of " + std::to_string(score.samples);
  };
  scores.add({"span layers", std::to_string(c.all.span_layers.size()),
              std::to_string(c.chosen.span_layers.size())});
  scores.add(
      {"span blocks", std::to_string(c.all.span_blocks), std::to_string(c.chosen.span_blocks)});
  scores.add(
      {"query offset", std::to_string(c.all.query_offset), std::to_string(c.chosen.query_offset)});
  scores.add({"layers that share a choice", std::to_string(c.all.layer_group),
              std::to_string(c.chosen.layer_group)});
  scores.add({"needles", hits(c.all_score), hits(c.chosen_score)});
  scores.add({"their loss", fixed(c.all_score.loss, 3), fixed(c.chosen_score.loss, 3)});
  scores.add({"held out, four keys", hits(c.all_held_out), hits(c.chosen_held_out)});
  scores.add({"loss of running text", loss_text(c.all_score.text_loss, 3),
              loss_text(c.chosen_score.text_loss, 3)});
  Table groups({"one choice for", "needles in its own past", "their loss", "time of choosing"},
               {false, true, true, true});
  for (const eval::GroupTrial& trial : c.groups) {
    groups.add({trial.layers == 1 ? "each layer" : std::to_string(trial.layers) + " layers",
                hits(trial.score), fixed(trial.score.loss, 3),
                fixed(1e3 * trial.score.recall_seconds, 0) + " ms"});
  }
  if (!c.groups.empty()) std::cout << groups.text() << "\n";
  std::cout << scores.text()
            << "\nLoss of running text without memory: " << loss_text(c.text_loss_without_memory, 3)
            << "\nSpan layers: " << listed(c.chosen.span_layers) << "\n";
  for (const eval::Trial& trial : c.trials) {
    if (!trial.refused_held_out) continue;
    std::cout << "Given up, for it lost held-out needles: " << trial.what
              << ". More samples tell more: --samples 16 --tokens 4096\n";
  }
}

int run_calibrate(const CalibrateFlags& flags) {
  ModelFlags model = flags.model;
  model.profile = "none";  // what is there already must not bias what is found
  const CalibrationDone done = calibrate_model(model.load(), model, flags.request);
  if (flags.json) {
    nlohmann::json report = eval::calibration_report(done.found);
    report["output"] = done.path;
    report["profile"] = done.profile;
    print_json(report);
    return kExitOk;
  }
  print_calibration(done);
  return kExitOk;
}

}  // namespace

CalibrationDone calibrate_model(const Engine& engine, const ModelFlags& flags,
                                const CalibrateRequest& request) {
  std::vector<std::string> texts;
  for (const std::string& path : request.texts) texts.push_back(read_text_file(path));
  eval::CalibrateOptions options = request.options;
  if (options.probe.jobs == 0) options.probe.jobs = flags.device == "cpu" ? 1 : kGpuJobs;
  const eval::Corpus corpus(engine, texts);
  StageMeter meter;
  CalibrationDone done;
  done.found =
      eval::calibrate(engine, corpus, options,
                      [&](const std::string& stage, std::uint64_t count, std::uint64_t total) {
                        return meter.update(stage, count, total);
                      });
  const nlohmann::json info = parse_json(engine.info());
  done.profile = eval::profile_of(done.found, info.at("fingerprint"));
  done.path = request.output.empty() ? profile_beside(flags) : request.output;
  write_profile(done.path, done.profile);
  return done;
}

void print_calibration(const CalibrationDone& done) {
  print_report(done.found);
  std::cout << "wrote " << printable(done.path) << "\n";
}

void add_calibrate_command(CLI::App& model, Action& action) {
  auto flags = std::make_shared<CalibrateFlags>();
  eval::CalibrateOptions& o = flags->request.options;
  CLI::App* c = model.add_subcommand(
      "calibrate", "Find which layers recall, and how; write the model's retrieval profile");
  c->add_option("--text", flags->request.texts, "Running text to hide needles in")
      ->required()
      ->type_name("FILE...");
  c->add_option("-o,--output", flags->request.output,
                "The profile; default: MODEL.profile.json, or ADAPTER.profile.json")
      ->type_name("FILE");
  c->add_option("--samples", o.probe.samples,
                "Documents with a needle, each asked for; 2 or more, by whose differences noise is "
                "told from what a setting does")
      ->check(CLI::Range(kLeastSamples, 1000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--tokens", o.probe.tokens, "Tokens in a document")
      ->check(CLI::Range(256, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--held-out", o.probe.held_out,
                "Documents with four needles, for the check; 0: none")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--continuation", o.probe.continuation,
                "Tokens of running text whose loss is compared, four times; 0: none")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--keep", o.keep, "Share of the accuracy with all layers that must stay")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->type_name("SHARE");
  c->add_option("--keep-text", o.keep_text,
                "Share of what memory gains on running text that must stay")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->type_name("SHARE");
  c->add_option("--slack", o.slack, "Nats per token of the answer that a smaller setting may cost")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str()
      ->type_name("NATS");
  c->add_option("--least", o.least, "Share of the layers that stay whatever is measured")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->type_name("SHARE");
  c->add_option("--group-tokens", o.group_tokens,
                "Tokens that a session reads itself for each number of layers that may share a "
                "choice; 0: none may")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--seed", o.probe.seed, "The same seed hides the same needles")
      ->type_name("N")
      ->capture_default_str();
  c->add_option("--jobs", o.probe.jobs,
                "Samples at a time; default: 1 on the CPU, whose cores one keeps busy, 4 on a GPU")
      ->check(CLI::Range(1, 64))
      ->type_name("N");
  c->add_option("--work-dir", o.probe.work_dir, "Where the temporary archive is made")
      ->type_name("DIR");
  add_json_flag(*c, flags->json);
  flags->model.add(*c);
  add_examples(*c,
               "  eidetic model calibrate --model model.gguf --text books/*.txt\n"
               "  eidetic model calibrate --model model.gguf --text books/*.txt --device cuda \\\n"
               "      --samples 32 -o model.gguf.profile.json --json");
  c->callback([flags, &action] { action = [flags] { return run_calibrate(*flags); }; });
}

}  // namespace eidetic::cli
