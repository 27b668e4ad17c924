// Finds how a model recalls best: which layers need a span, the rotary distance of scoring queries,
// the size of the span, and the layer that looks things up. Needles in archived text are asked for
// by fresh sessions, as `ask` does; nothing is read again between two settings.
#ifndef EIDETIC_APPS_EVAL_CALIBRATE_H_
#define EIDETIC_APPS_EVAL_CALIBRATE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/haystack.h"
#include "apps/eval/question_form.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct CalibrateOptions {
  std::size_t samples = 8;           // documents with a needle, each asked for
  std::uint64_t tokens = 2048;       // of one document
  std::size_t held_out = 8;          // documents with four needles, for the check
  std::uint64_t continuation = 256;  // tokens whose loss is compared, of each of four documents
  double keep = 0.95;                // share of the accuracy with all layers that must stay
  // Share of what memory gains on running text with all layers that must stay.
  double keep_text = 0.8;
  // Nats per token of the answer that a smaller setting may cost.
  double slack = 0.05;
  std::uint64_t seed = 1;
  std::string work_dir;
};

// What a session recalls with. Written to the profile as it is.
struct RecallSettings {
  std::vector<std::int32_t> span_layers;  // ascending
  int span_blocks = 16;
  int candidate_blocks = 128;
  int query_offset = 1024;
};

// How well a setting recalls.
struct RecallScore {
  double loss = 0;  // nats per token of the right answer, the mean over samples
  int hits = 0;     // samples whose right answer is the greedy one
  int samples = 0;
  // Nats per token of running text that goes on from archived beginnings; NaN: not measured.
  double text_loss = std::numeric_limits<double>::quiet_NaN();
  double accuracy() const { return samples > 0 ? static_cast<double>(hits) / samples : 0; }
};

struct Calibration {
  RecallSettings all;     // every attention layer, the defaults
  RecallSettings chosen;  // what was found
  int focus_layer = -1;   // -1: no layer names the right passage in most cases
  RecallScore all_score, chosen_score;
  // What dropping one of all layers costs: nats per token of the answer, and of running text.
  std::map<std::int32_t, double> cost, text_cost;
  std::map<std::int32_t, double> rank;  // mean reciprocal rank of the right passage, by layer
  // On other needles, four in a document.
  RecallScore all_held_out, chosen_held_out;
  double text_loss_without_memory = std::numeric_limits<double>::quiet_NaN();
};

// Returns false to stop. `done` and `total` count samples of the stage.
using CalibrateProgress =
    std::function<bool(const std::string& stage, std::uint64_t done, std::uint64_t total)>;

// `engine` may have a profile: it is not used. Throws Error.
Calibration calibrate(const Engine& engine, const Corpus& corpus, const CalibrateOptions& options,
                      const CalibrateProgress& progress);

// The retrieval profile's file (docs/formats/retrieval-profile.md).
nlohmann::json profile_of(const Calibration& calibration, const std::string& fingerprint);
// Everything that was measured.
nlohmann::json calibration_report(const Calibration& calibration);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_CALIBRATE_H_
