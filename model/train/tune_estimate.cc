#include "model/train/tune_estimate.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/error.h"
#include "model/train/adapter_folder.h"
#include "model/train/device_meter.h"
#include "model/train/train_checkpoint.h"
#include "model/train/train_step.h"
#include "model/train/tune_run.h"
#include "model/train/tune_subject.h"

namespace eidetic::model {
namespace {

using Clock = std::chrono::steady_clock;

// Of the longer of the two sequences that are measured.
constexpr int64_t kMeasuredOnCpu = 512, kMeasuredOnGpu = 4096;

class ScratchFolder {
 public:
  ScratchFolder() {
    path_ = (std::filesystem::temp_directory_path() / "eidetic-tune-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) {
      throw Error(ErrorCode::kIo, "no folder can be made at " + path_,
                  "set TMPDIR to a folder that can be written");
    }
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Sequences of a step that a process reads, and those of them that it reads at once.
int64_t OwnBatch(const TuneOptions& options) {
  return options.batch / options.processes;
}
int64_t AtOnce(const TuneOptions& options) {
  return std::min(options.micro_batch, OwnBatch(options));
}

struct MeasuredStep {
  double tokens = 0, flops = 0, seconds = 0, bytes = 0;
};

// Gradients of the sequences that are read at once, and a step of rate 0.
MeasuredStep Measure(const TuneOptions& options, TuneObjective objective, const TokenCache& data,
                     int64_t length, TuneSubject* subject, AdamW* optimizer) {
  const MemoryMeter memory(subject->device());
  memory.Reset();
  TrainStepOptions step;
  step.rate = 0;
  step.forward = ForwardOptionsOf(options);
  step.loss = subject->LossFor(objective);
  step.micro_batch = AtOnce(options);
  const Clock::time_point begin = Clock::now();
  TrainSequence sequence = data.Sequence(0, length);
  sequence.predicted.clear();  // whatever it begins with
  const std::vector<TrainSequence> sequences(static_cast<size_t>(step.micro_batch), sequence);
  const std::string what = "a step of " + std::to_string(step.micro_batch) + " sequences of " +
                           std::to_string(length) + " tokens";
  WithMemoryAdvice(options, what, [&] { TrainStep(subject->model(), sequences, step, optimizer); });
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto count = static_cast<double>(step.micro_batch);
  return {count * static_cast<double>(length),
          count * FlopsOf(options, *subject, objective, length), seconds,
          static_cast<double>(memory.Peak())};
}

// The line through two points, at `x`; never below the second.
double Extended(double x1, double y1, double x2, double y2, double x) {
  if (x2 <= x1 || x <= x2) return y2 * (x2 > 0 ? x / x2 : 1);
  return y2 + std::max(y2 - y1, 0.0) / (x2 - x1) * (x - x2);
}

// Those of the run that make a stage.
struct Stage {
  TuneObjective objective;
  int64_t steps;
};

std::vector<Stage> StagesOf(const TuneOptions& options) {
  const int64_t steps = options.steps;
  if (options.teacher.empty()) return {{TuneObjective::kText, steps}};
  const int64_t of_mixers = std::min(options.mixer_steps, steps);
  std::vector<Stage> stages;
  if (of_mixers > 0) stages.push_back({TuneObjective::kMixers, of_mixers});
  if (steps > of_mixers) stages.push_back({TuneObjective::kTeacher, steps - of_mixers});
  return stages;
}

// `tell`: that another one has been measured.
StageEstimate EstimateStage(const TuneOptions& options, const Stage& stage, const TokenCache& data,
                            TuneSubject* subject, AdamW* optimizer,
                            const std::function<void()>& tell) {
  const TuneObjective objective = stage.objective;
  const int64_t most = subject->device().is_cpu() ? kMeasuredOnCpu : kMeasuredOnGpu;
  const int64_t longer = std::min(options.length, most), shorter = std::max<int64_t>(longer / 2, 2);
  const auto measure = [&](int64_t length) {
    const MeasuredStep step = Measure(options, objective, data, length, subject, optimizer);
    tell();
    return step;
  };
  measure(shorter);  // libraries are loaded in it
  const MeasuredStep first = measure(shorter), second = measure(longer);
  const auto at_once = static_cast<double>(AtOnce(options));
  const double flops = at_once * FlopsOf(options, *subject, objective, options.length);
  const double tokens = at_once * static_cast<double>(options.length);
  StageEstimate estimate;
  estimate.steps = stage.steps;
  estimate.measured_tokens = static_cast<int64_t>(second.tokens);
  estimate.step_seconds = static_cast<double>(OwnBatch(options)) / at_once *
                          Extended(first.flops, first.seconds, second.flops, second.seconds, flops);
  estimate.bytes = std::max(
      Extended(first.tokens, first.bytes, second.tokens, second.bytes, tokens), second.bytes);
  return estimate;
}

// A run that is in the folder keeps what it was begun with, as Tune does it. What was read is
// forgotten before memory is measured.
void SettleAsTheRun(TuneOptions* options) {
  std::optional<TrainCheckpoint> last;
  if (!options->folder.empty()) last = ReadTrainCheckpoint(options->folder + "/last");
  SettleStages(last ? &last->settings : nullptr, options);
}

}  // namespace

TuneEstimate EstimateOf(const std::vector<StageEstimate>& stages) {
  TuneEstimate estimate;
  double bytes = 0;
  for (const StageEstimate& stage : stages) {
    estimate.steps += stage.steps;
    estimate.seconds += stage.step_seconds * static_cast<double>(stage.steps);
    estimate.measured_tokens = std::max(estimate.measured_tokens, stage.measured_tokens);
    bytes = std::max(bytes, stage.bytes);
  }
  estimate.step_seconds = estimate.seconds / static_cast<double>(estimate.steps);
  estimate.memory_bytes = static_cast<uint64_t>(bytes);
  return estimate;
}

TuneEstimate EstimateTune(const TuneOptions& options, const TuneCallback& callback) {
  CheckTuneOptions(options);
  const ScratchFolder scratch;
  const auto tell = [&](TuneStage stage, int64_t done, int64_t total) {
    TuneProgress progress;
    progress.stage = stage;
    progress.done = done;
    progress.total = total;
    if (!callback || callback(progress)) return true;
    throw Error(ErrorCode::kCancelled, "stopped before anything was measured");
  };
  const auto checkpoint = Checkpoint::Open(options.model);
  const TuneData data = ReadTuneData(
      options, *checkpoint->ReadTokenizer(), scratch.path(), [&](uint64_t done, uint64_t total) {
        return tell(TuneStage::kTokenizing, static_cast<int64_t>(done),
                    static_cast<int64_t>(total));
      });
  const auto windows =
      static_cast<int64_t>(data.train->Epoch(options.length, options.seed, 0).size());
  TuneOptions settled = options;
  if (settled.steps == 0) settled.steps = (windows + options.batch - 1) / options.batch;
  SettleAsTheRun(&settled);
  const std::vector<Stage> stages = StagesOf(settled);
  tell(TuneStage::kLoading, 0, 0);
  TuneSubject subject(settled, *checkpoint, nullptr);
  AdamW optimizer(subject.adapter().trained(), AdamWOptionsOf(settled));
  int64_t measured = 0;
  std::vector<StageEstimate> estimates;
  for (const Stage& stage : stages) {
    estimates.push_back(EstimateStage(settled, stage, *data.train, &subject, &optimizer, [&] {
      tell(TuneStage::kMeasuring, ++measured, 3 * static_cast<int64_t>(stages.size()));
    }));
  }
  TuneEstimate estimate = EstimateOf(estimates);
  estimate.windows = windows;
  estimate.data = data.train_report;
  estimate.held_out = data.held_out_report;
  estimate.device_memory_bytes = MemoryMeter(subject.device()).Total();
  estimate.trained_numbers = subject.adapter().TrainedNumbers();
  // Adapters of `last` and `best`, two moments of `last`; four bytes a number.
  const int64_t adapters = options.held_out.empty() ? 1 : 2;
  const int64_t saved = SavedNumbers(subject.adapter(), subject.model());
  estimate.checkpoint_bytes =
      static_cast<uint64_t>(4 * (adapters * saved + 2 * estimate.trained_numbers));
  return estimate;
}

}  // namespace eidetic::model
