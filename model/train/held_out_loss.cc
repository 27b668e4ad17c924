#include "model/train/held_out_loss.h"

#include "model/train/train_step.h"

namespace eidetic::model {

std::optional<double> HeldOutLoss(const TuneOptions& options, const TuneData& data,
                                  const DifferentiableModel& model,
                                  const TrainForwardOptions& forward,
                                  const std::function<bool(int64_t done, int64_t total)>& tell) {
  const std::vector<int64_t>& windows = data.held_out_windows;
  double sum = 0;
  int64_t predicted = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    if (!tell(static_cast<int64_t>(i), static_cast<int64_t>(windows.size()))) return std::nullopt;
    const int64_t count = data.held_out->PredictedTokens(windows[i], data.held_out_length);
    const TrainSequence sequence = data.held_out->Sequence(windows[i], data.held_out_length);
    sum += static_cast<double>(count) * WithMemoryAdvice(options, "the evaluation", [&] {
             return MeanLoss(model, {sequence}, forward);
           });
    predicted += count;
  }
  return sum / static_cast<double>(predicted);
}

}  // namespace eidetic::model
