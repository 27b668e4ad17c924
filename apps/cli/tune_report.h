// What `tune` tells: a bar while it trains, what came of it, what it would take, and its curves.
#ifndef EIDETIC_APPS_CLI_TUNE_REPORT_H_
#define EIDETIC_APPS_CLI_TUNE_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "apps/cli/terminal.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

// One bar a stage. False once the user has asked to stop.
class TuneMeter {
 public:
  explicit TuneMeter(const std::string& folder, bool quiet = false)
      : meter_("tune " + folder, "steps", quiet) {}
  bool operator()(const eid_tune_progress& progress);
  void clear() { meter_.clear(); }

 private:
  ProgressMeter meter_;
};

// "12/1,000 steps  loss 3.214  held out 3.190  8,192 tokens/s  41 % of peak  ETA 3:20  5.1 GB"
std::string tune_figures(const eid_tune_progress& progress);

void print_tuned(const nlohmann::json& report);
void print_tune_estimate(const nlohmann::json& estimate);

// Of the curves: the run's folder, its attention, and what is trained or what that goes on from.
std::string curves_subtitle(const TuneOptions& options);

// Draws the folder's metrics.jsonl as curves.svg. Nothing when there are none yet.
void write_curves(const std::string& folder, const std::string& subtitle);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_TUNE_REPORT_H_
