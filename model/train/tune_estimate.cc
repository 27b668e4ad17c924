#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "model/checkpoint.h"
#include "model/error.h"
#include "model/train/device_meter.h"
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

struct MeasuredStep {
  double tokens = 0, flops = 0, seconds = 0, bytes = 0;
};

// Gradients of one sequence, and a step of rate 0.
MeasuredStep Measure(const TuneOptions& options, const TokenCache& data, int64_t tokens,
                     TuneSubject* subject, AdamW* optimizer) {
  const MemoryMeter memory(subject->device());
  memory.Reset();
  TrainStepOptions step;
  step.rate = 0;
  step.forward = ForwardOptionsOf(options);
  step.loss =
      subject->LossFor(options.teacher.empty() ? TuneObjective::kText : TuneObjective::kTeacher);
  const Clock::time_point begin = Clock::now();
  TrainSequence sequence = data.Sequence(0, tokens);
  sequence.predicted.clear();  // whatever it begins with
  WithMemoryAdvice(options, "a step of " + std::to_string(tokens) + " tokens",
                   [&] { TrainStep(subject->model(), {sequence}, step, optimizer); });
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return {static_cast<double>(tokens), FlopsOf(options, *subject, tokens), seconds,
          static_cast<double>(memory.Peak())};
}

// The line through two points, at `x`; never below the second.
double Extended(double x1, double y1, double x2, double y2, double x) {
  if (x2 <= x1 || x <= x2) return y2 * (x2 > 0 ? x / x2 : 1);
  return y2 + std::max(y2 - y1, 0.0) / (x2 - x1) * (x - x2);
}

}  // namespace

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
  TuneEstimate estimate;
  estimate.data = data.train_report;
  estimate.held_out = data.held_out_report;
  estimate.windows =
      static_cast<int64_t>(data.train->Epoch(options.length, options.seed, 0).size());
  estimate.steps =
      options.steps > 0 ? options.steps : (estimate.windows + options.batch - 1) / options.batch;

  tell(TuneStage::kLoading, 0, 0);
  TuneSubject subject(options, *checkpoint, nullptr);
  AdamW optimizer(subject.adapter().trained(), AdamWOptionsOf(options));
  const int64_t most = subject.device().is_cpu() ? kMeasuredOnCpu : kMeasuredOnGpu;
  const int64_t longer = std::min(options.length, most), shorter = std::max<int64_t>(longer / 2, 2);
  Measure(options, *data.train, shorter, &subject, &optimizer);  // libraries are loaded in it
  tell(TuneStage::kMeasuring, 1, 3);
  const MeasuredStep first = Measure(options, *data.train, shorter, &subject, &optimizer);
  tell(TuneStage::kMeasuring, 2, 3);
  const MeasuredStep second = Measure(options, *data.train, longer, &subject, &optimizer);
  tell(TuneStage::kMeasuring, 3, 3);

  const auto length = static_cast<double>(options.length);
  const double flops = FlopsOf(options, subject, options.length);
  estimate.measured_tokens = longer;
  estimate.step_seconds = static_cast<double>(options.batch / options.processes) *
                          Extended(first.flops, first.seconds, second.flops, second.seconds, flops);
  estimate.seconds = estimate.step_seconds * static_cast<double>(estimate.steps);
  const auto at_once = static_cast<double>(std::min(options.micro_batch, options.batch));
  const double bytes =
      Extended(first.tokens, first.bytes, second.tokens, second.bytes, at_once * length);
  estimate.memory_bytes = static_cast<uint64_t>(std::max(bytes, second.bytes));
  estimate.device_memory_bytes = MemoryMeter(subject.device()).Total();
  estimate.trained_numbers = subject.adapter().TrainedNumbers();
  // Numbers and two moments of `last`, numbers of `best`, four bytes each.
  const int64_t copies = options.held_out.empty() ? 3 : 4;
  estimate.checkpoint_bytes = static_cast<uint64_t>(4 * copies * estimate.trained_numbers);
  return estimate;
}

}  // namespace eidetic::model
