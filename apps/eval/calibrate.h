// Finds how a model recalls best: which layers need a span, the rotary distance of scoring queries,
// the size of the span, and the layer that looks things up. Needles in archived text are asked for
// by fresh sessions, as `ask` does; nothing is read again between two settings.
#ifndef EIDETIC_APPS_EVAL_CALIBRATE_H_
#define EIDETIC_APPS_EVAL_CALIBRATE_H_

#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/haystack.h"
#include "apps/eval/recall_probe.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct CalibrateOptions {
  ProbeOptions probe;
  double keep = 0.95;  // share of the accuracy with all layers that must stay
  // Share of what memory gains on running text with all layers that must stay.
  double keep_text = 0.8;
  // Nats per token of the answer that a smaller setting may cost.
  double slack = 0.1;
  // Share of the layers that stay whatever is measured: needles and a few texts do not show all
  // that a layer recalls.
  double least = 0.25;
  // Tokens that a session reads itself for each size of a group of layers that is tried; 0: layers
  // are not grouped.
  std::uint64_t group_tokens = 8192;
};

// A setting that was judged by all needles and texts: answers read in one pass.
struct Trial {
  std::string what;
  RecallSettings settings;
  RecallScore score;
  bool taken = false;
  bool refused_held_out = false;  // it was taken, and the held-out needles did not bear it out
};

// Layers that share one choice of blocks, asked in a session of its own past.
struct GroupTrial {
  int layers = 1;  // in a row
  RecallScore score;
  bool taken = false;
};

struct Calibration {
  std::vector<Trial> trials;            // in order, the one with all layers first
  RecallSettings all;                   // every attention layer, the defaults
  RecallSettings chosen;                // what was found
  std::vector<GroupTrial> groups;       // each layer on its own first; empty: not tried
  int focus_layer = -1;                 // -1: no layer names the right passage in most cases
  RecallScore all_score, chosen_score;  // hits and loss as an answer is given, token by token
  // What dropping one layer costs, of those that attention did not rule out: nats per token of the
  // answer, and of running text.
  std::map<std::int32_t, double> cost, text_cost;
  // Of every layer: among the chosen ones when it is one, else among all.
  std::map<std::int32_t, LayerLook> looks;
  // On other needles, four in a document. They choose nothing; a setting that loses more of them
  // than may be lost is given up for the one taken before it.
  RecallScore all_held_out, chosen_held_out;
  double text_loss_without_memory = std::numeric_limits<double>::quiet_NaN();
};

// Nats per token of running text that a smaller setting may lose where memory gains `gain` and the
// share `keep_text` of it must stay; what is noise may always be lost. `gain` NaN: no text was
// measured.
double text_slack_of(double keep_text, double gain);

// `engine` may have a profile: it is not used. Throws Error.
Calibration calibrate(const Engine& engine, const Corpus& corpus, const CalibrateOptions& options,
                      const CalibrateProgress& progress);

// The retrieval profile's file (docs/formats/retrieval-profile.md).
nlohmann::json profile_of(const Calibration& calibration, const std::string& fingerprint);
// Everything that was measured.
nlohmann::json calibration_report(const Calibration& calibration);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_CALIBRATE_H_
