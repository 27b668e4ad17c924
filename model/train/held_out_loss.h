// The loss of a model on what a run has held out.
#ifndef EIDETIC_MODEL_TRAIN_HELD_OUT_LOSS_H_
#define EIDETIC_MODEL_TRAIN_HELD_OUT_LOSS_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "model/train/differentiable_model.h"
#include "model/train/tune_options.h"
#include "model/train/tune_subject.h"

namespace eidetic::model {

// A mean over the predicted tokens of data.held_out_windows, dropout off. `tell` is called before
// each of these, and says whether to go on; nothing when it did not. Throws Error as MeanLoss does,
// and OutOfMemoryError with what to lower.
std::optional<double> HeldOutLoss(const TuneOptions& options, const TuneData& data,
                                  const DifferentiableModel& model,
                                  const TrainForwardOptions& forward,
                                  const std::function<bool(int64_t done, int64_t total)>& tell);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_HELD_OUT_LOSS_H_
