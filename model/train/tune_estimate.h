// What the stages of a run take together.
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_TUNE_ESTIMATE_H_
#define EIDETIC_MODEL_TRAIN_TUNE_ESTIMATE_H_

#include <cstdint>
#include <vector>

#include "model/train/tune_run.h"

namespace eidetic::model {

struct StageEstimate {
  int64_t steps = 0;  // of this stage
  double step_seconds = 0, bytes = 0;
  int64_t measured_tokens = 0;  // of the longest step that was measured
};

// Steps, times, measured tokens and memory of a run of one stage or more; the rest is left as it is
// by default.
TuneEstimate EstimateOf(const std::vector<StageEstimate>& stages);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TUNE_ESTIMATE_H_
