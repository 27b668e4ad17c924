#include "model/train/tune_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "model/checkpoint.h"
#include "model/error.h"
#include "model/train/device_meter.h"
#include "model/train/distill.h"
#include "model/train/finite_check.h"
#include "model/train/held_out_loss.h"
#include "model/train/metrics_file.h"
#include "model/train/run_folder.h"
#include "model/train/train_checkpoint.h"
#include "model/train/train_group.h"
#include "model/train/train_step.h"
#include "model/train/tune_subject.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class TuneRun {
 public:
  TuneRun(const TuneOptions& options, const TuneCallback& callback);
  TuneReport Run();

 private:
  using Windows = std::vector<int64_t>;  // their first tokens

  void Begin();
  void CheckIsTheSame(const TrainCheckpoint& checkpoint) const;
  void Resume(const TrainCheckpoint& checkpoint);
  void GoOn();
  void Step();
  void Evaluate();
  void Save();
  void SaveBest();
  Windows NextWindows();
  void Tell(TuneStage stage, int64_t done, int64_t total);
  void CheckFinite(const char* what, double number, const Windows& windows) const;
  double StepsLeft() const;
  std::string LastCheckpoint() const;
  std::string Folder(const char* name) const { return options_.folder + "/" + name; }
  MetricsFile& Metrics() { return folder_->metrics(); }  // of the first process
  bool EvaluationIsDue() const;
  // Whether any process was told to stop; the same in all of them.
  bool AgreeToStop();
  // Whether it evaluates, saves and tells: one of all processes does.
  bool IsFirst() const { return options_.process == 0; }

  TuneOptions options_;
  TuneCallback callback_;
  std::unique_ptr<TrainGroup> group_;  // null: this process is alone
  std::unique_ptr<RunFolder> folder_;  // of the first process
  TuneData data_;
  TrainSettings settings_;
  std::unique_ptr<TuneSubject> subject_;
  std::unique_ptr<AdamW> optimizer_;
  MemoryMeter memory_{c10::Device(c10::kCPU)};
  TrainState state_;
  TuneProgress progress_;
  TuneReport report_;
  Windows epoch_;                           // of state_.epoch
  std::optional<int64_t> epoch_in_memory_;  // whose windows these are
  int64_t saved_ = -1;                      // the step of `last`
  int64_t saved_evaluation_ = -1;           // and of the last evaluation that it knows of
  double peak_ = 0;                         // operations of the device a second
  double call_seconds_ = 0;                 // of steps of this call
  int64_t call_tokens_ = 0;
  int64_t stage_steps_ = 0;   // of this call
  double usual_seconds_ = 0;  // of a step, lately
  bool stopping_ = false;
};

// Not for a name that was mistyped.
std::unique_ptr<RunFolder> FolderOf(const TuneOptions& options) {
  CheckTuneOptions(options);
  for (const auto* files : {&options.inputs, &options.held_out}) {
    for (const std::string& file : *files) {
      if (fs::exists(file)) continue;
      throw Error(ErrorCode::kNotFound, "there is no file '" + file + "'", "check its name");
    }
  }
  return std::make_unique<RunFolder>(options.folder);
}

std::unique_ptr<TrainGroup> GroupOf(const TuneOptions& options) {
  CheckTuneOptions(options);
  if (options.processes == 1) return nullptr;
  return std::make_unique<TrainGroup>(options.process, options.processes, options.meeting);
}

TuneRun::TuneRun(const TuneOptions& options, const TuneCallback& callback)
    : options_(options), callback_(callback), group_(GroupOf(options)) {
  if (IsFirst()) folder_ = FolderOf(options);
}

void TuneRun::Tell(TuneStage stage, int64_t done, int64_t total) {
  progress_.stage = stage;
  progress_.done = done;
  progress_.total = total;
  if (callback_ && !callback_(progress_)) stopping_ = true;
}

// Everything up to the first step.
void TuneRun::Begin() {
  if (!IsFirst()) group_->Wait();  // until the first one has put the folder in order
  const auto checkpoint = Checkpoint::Open(options_.model);
  data_ = ReadTuneData(
      options_, *checkpoint->ReadTokenizer(), options_.folder, [&](uint64_t done, uint64_t total) {
        Tell(TuneStage::kTokenizing, static_cast<int64_t>(done), static_cast<int64_t>(total));
        return !stopping_;
      });
  report_.windows =
      static_cast<int64_t>(data_.train->Epoch(options_.length, options_.seed, 0).size());
  if (options_.steps == 0) {
    options_.steps = (report_.windows + options_.batch - 1) / options_.batch;
  }
  const auto last = ReadTrainCheckpoint(Folder("last"));
  SettleStages(last ? &last->settings : nullptr, &options_);
  settings_ = SettingsOf(options_);
  settings_[kTrainTexts] = data_.train->digest();
  settings_[kHeldOutTexts] = data_.held_out ? data_.held_out->digest() : "";
  if (last) CheckIsTheSame(*last);
  if (last && last->rotary_scaling) options_.rotary_scaling = last->rotary_scaling;
  if (group_ != nullptr && IsFirst()) group_->Wait();
  Tell(TuneStage::kLoading, 0, 0);
  WithMemoryAdvice(options_, "the model", [&] {
    subject_ =
        std::make_unique<TuneSubject>(options_, *checkpoint, last ? &last->adapter : nullptr);
    optimizer_ = std::make_unique<AdamW>(subject_->adapter().trained(), AdamWOptionsOf(options_));
  });
  if (last) Resume(*last);
  if (IsFirst() && !last) folder_->BeginAnew();
  memory_ = MemoryMeter(subject_->device());
  report_.device_name = DeviceName(subject_->device());
  peak_ = PeakFlops(report_.device_name, options_.bf16 ? c10::kBFloat16 : c10::kFloat) *
          options_.processes;
}

void TuneRun::CheckIsTheSame(const TrainCheckpoint& checkpoint) const {
  const std::string differences =
      DifferencesOf(checkpoint.settings, checkpoint.texts, settings_, data_.texts);
  if (differences.empty()) return;
  throw Error(ErrorCode::kInvalidArgument,
              "the run in " + options_.folder + " was begun otherwise: " + differences,
              "give the same options and files to go on, or name another folder");
}

void TuneRun::Resume(const TrainCheckpoint& checkpoint) {
  subject_->adapter().Import(checkpoint.trained);
  const int64_t mixer_steps = options_.teacher.empty() ? 0 : options_.mixer_steps;
  const int64_t step = checkpoint.state.step;
  optimizer_->Import(checkpoint.moments, step, step > mixer_steps ? mixer_steps : 0);
  state_ = checkpoint.state;
  saved_ = report_.resumed_from = state_.step;
  saved_evaluation_ = state_.evaluated;
  if (state_.step > 0) progress_.loss = state_.loss;
  progress_.objective = ObjectiveOf(options_, std::max<int64_t>(state_.step - 1, 0));
  if (state_.evaluated >= 0) progress_.held_out_loss = state_.held_out_loss;
  if (!IsFirst()) return;
  folder_->Keep();
  Metrics().CutBack(state_.step, state_.evaluated);
}

TuneReport TuneRun::Run() {
  Begin();
  progress_.steps = options_.steps;
  GoOn();
  report_.state = state_;
  report_.steps = options_.steps;
  report_.kind = AdapterKindName(subject_->adapter().config().kind);
  report_.trained_numbers = subject_->adapter().TrainedNumbers();
  report_.data = data_.train_report;
  report_.held_out = data_.held_out_report;
  report_.peak_memory_bytes = memory_.Peak();
  report_.tokens_per_second =
      call_seconds_ > 0 ? static_cast<double>(call_tokens_) / call_seconds_ : 0;
  report_.peak_share = progress_.peak_share;
  return report_;
}

bool TuneRun::EvaluationIsDue() const {
  if (!data_.held_out || state_.evaluated == state_.step) return false;
  return state_.step % options_.evaluate_every == 0 || state_.step >= options_.steps;
}

bool TuneRun::AgreeToStop() {
  if (group_ != nullptr) stopping_ = group_->AnyOf(stopping_);
  return stopping_;
}

// Whatever a run was stopped at, the next one finds here what is to be done.
void TuneRun::GoOn() {
  for (;;) {
    progress_.step = state_.step;
    progress_.tokens = state_.tokens;
    progress_.seconds = state_.seconds;
    Tell(TuneStage::kTraining, state_.step, options_.steps);
    if (IsFirst() && !stopping_ && EvaluationIsDue()) Evaluate();
    const bool finished = state_.step >= options_.steps;
    const bool is_due = state_.step > 0 && state_.step % options_.checkpoint_every == 0;
    const bool is_new = saved_ != state_.step || saved_evaluation_ != state_.evaluated;
    const bool is_wanted = AgreeToStop() || is_due || finished;
    if (IsFirst() && is_new && is_wanted) Save();
    // It may have been told so while it saved: then too all of them stop, or none.
    if (AgreeToStop() && (!finished || (IsFirst() && EvaluationIsDue()))) {
      throw Error(ErrorCode::kCancelled,
                  "stopped after step " + std::to_string(state_.step) + " of " +
                      std::to_string(options_.steps) + "; " + Folder("last") + " is of that step",
                  "run the same command again to go on from there");
    }
    if (finished) return;
    Step();
  }
}

TuneRun::Windows TuneRun::NextWindows() {
  Windows windows;
  while (windows.size() < static_cast<size_t>(options_.batch)) {
    if (epoch_in_memory_ != state_.epoch) {
      epoch_ = data_.train->Epoch(options_.length, options_.seed, state_.epoch);
      epoch_in_memory_ = state_.epoch;
    }
    if (static_cast<size_t>(state_.window) < epoch_.size()) {
      windows.push_back(epoch_[static_cast<size_t>(state_.window++)]);
    } else {
      ++state_.epoch;
      state_.window = 0;
    }
  }
  return windows;
}

void TuneRun::Step() {
  const Clock::time_point begin = Clock::now();
  const Windows windows = NextWindows();
  std::vector<TrainSequence> sequences;
  for (const int64_t first : windows) {
    sequences.push_back(data_.train->Sequence(first, options_.length));
  }
  TrainStepOptions options;
  options.rate = RateOf(options_, state_.step, options_.steps);
  options.largest_norm = options_.largest_norm;
  options.forward = ForwardOptionsOf(options_);
  options.seed = options_.seed;
  options.micro_batch = options_.micro_batch;
  options.group = group_.get();
  const TuneObjective objective = ObjectiveOf(options_, state_.step);
  if (objective != progress_.objective) stage_steps_ = 0;
  progress_.objective = objective;
  if (!options_.teacher.empty() && state_.step == options_.mixer_steps) optimizer_->Restart();
  options.loss = subject_->LossFor(progress_.objective);
  const std::string name = "step " + std::to_string(state_.step + 1);
  const TrainStepResult result = WithMemoryAdvice(options_, name, [&] {
    return TrainStep(subject_->model(), sequences, options, optimizer_.get());
  });
  CheckFinite("loss", result.loss, windows);
  CheckFinite("gradient", result.gradient_norm, windows);
  const double seconds = SecondsSince(begin);
  const int64_t tokens = options_.batch * options_.length;
  ++state_.step;
  state_.tokens += tokens;
  state_.seconds += seconds;
  state_.loss = result.loss;
  call_seconds_ += seconds;
  call_tokens_ += tokens;
  // The first step of a call or a stage is no measure: libraries are loaded in it.
  usual_seconds_ = ++stage_steps_ <= 2 ? seconds : 0.9 * usual_seconds_ + 0.1 * seconds;
  progress_.loss = result.loss;
  progress_.rate = options.rate;
  progress_.gradient_norm = result.gradient_norm;
  progress_.tokens_per_second = static_cast<double>(tokens) / seconds;
  progress_.remaining_seconds = usual_seconds_ * StepsLeft();
  if (peak_ > 0) {
    const double flops = static_cast<double>(options_.batch) *
                         FlopsOf(options_, *subject_, progress_.objective, options_.length);
    progress_.peak_share = flops / usual_seconds_ / peak_;
  }
  progress_.memory_bytes = memory_.Peak();
  if (!IsFirst()) return;
  Metrics().Add(StepMetrics{state_.step, TuneObjectiveName(progress_.objective), result.loss,
                            options.rate, result.gradient_norm, state_.tokens,
                            progress_.tokens_per_second, state_.seconds, progress_.memory_bytes});
  folder_->Keep();
}

// In steps like the one just taken: those of all together count by their operations.
double TuneRun::StepsLeft() const {
  const int64_t left = options_.steps - state_.step;
  if (progress_.objective != TuneObjective::kMixers) return static_cast<double>(left);
  const int64_t together = options_.steps - std::min(options_.mixer_steps, options_.steps);
  const auto flops = [&](TuneObjective objective) {
    return FlopsOf(options_, *subject_, objective, options_.length);
  };
  return static_cast<double>(left - together) + static_cast<double>(together) *
                                                    flops(TuneObjective::kTeacher) /
                                                    flops(TuneObjective::kMixers);
}

std::string TuneRun::LastCheckpoint() const {
  if (saved_ < 0) return "there is no checkpoint yet";
  return "the last good checkpoint is " + Folder("last") + ", of step " + std::to_string(saved_);
}

void TuneRun::CheckFinite(const char* what, double number, const Windows& windows) const {
  if (std::isfinite(number)) return;
  const SequencesRead read{data_.train.get(), windows, options_.length};
  const std::string when = "step " + std::to_string(state_.step + 1);
  const std::string then = "that step was not taken, and " + LastCheckpoint();
  if (subject_->teacher() != nullptr) {
    CheckTeacherIsFinite(*subject_->teacher(), read, when, "the data", then);
  }
  throw Error(ErrorCode::kInvalidArgument,
              std::string("the ") + what + " of " + when + " is " + std::to_string(number) +
                  ", on the batch of tokens " + PlacesOf(read) + " of the data; " + then,
              "go on from a checkpoint in another folder, with --adapter, a lower --rate, more "
              "--warm-up or a smaller --clip");
}

void TuneRun::Evaluate() {
  const Clock::time_point begin = Clock::now();
  const TrainForwardOptions forward = ForwardOptionsOf(options_);
  const auto tell = [&](int64_t done, int64_t total) {
    Tell(TuneStage::kEvaluating, done, total);
    return !stopping_;  // the next run begins it anew
  };
  if (subject_->teacher() != nullptr && !state_.teacher_loss) {
    state_.teacher_loss =
        HeldOutLoss(options_, data_, *subject_->teacher(), TeacherOptions(forward), tell);
    if (!state_.teacher_loss) return;
    if (!std::isfinite(*state_.teacher_loss)) {
      CheckTeacherIsFinite(*subject_->teacher(),
                           {data_.held_out.get(), data_.held_out_windows, data_.held_out_length},
                           "the evaluation after step " + std::to_string(state_.step),
                           "what was held out", LastCheckpoint());
    }
  }
  const std::optional<double> measured =
      HeldOutLoss(options_, data_, subject_->model(), forward, tell);
  if (!measured) return;
  const double loss = *measured;
  if (!std::isfinite(loss)) {
    throw Error(ErrorCode::kInvalidArgument,
                "after step " + std::to_string(state_.step) + " the loss on what was held out is " +
                    std::to_string(loss) + "; " + LastCheckpoint(),
                "go on from a checkpoint in another folder, with --adapter and a lower --rate");
  }
  const bool is_best = state_.best_step < 0 || loss < state_.best_loss;
  state_.evaluated = state_.step;
  state_.held_out_loss = progress_.held_out_loss = loss;
  if (is_best) {
    state_.best_step = state_.step;
    state_.best_loss = loss;
    SaveBest();
  }
  Metrics().Add(EvaluationMetrics{state_.step, loss, state_.tokens, SecondsSince(begin), is_best,
                                  state_.teacher_loss});
}

void TuneRun::SaveBest() {
  Tell(TuneStage::kSaving, 0, 0);
  SaveTrainCheckpoint(Folder("best"), subject_->adapter(), subject_->model(), options_.model,
                      nullptr, state_, settings_, data_.texts);
}

void TuneRun::Save() {
  Tell(TuneStage::kSaving, 0, 0);
  Metrics().Flush();  // a checkpoint never knows more steps than the metrics do
  try {
    SaveTrainCheckpoint(Folder("last"), subject_->adapter(), subject_->model(), options_.model,
                        optimizer_.get(), state_, settings_, data_.texts);
  } catch (const Error& error) {
    throw Error(error.code(),
                std::string(error.what()) + "; the checkpoint of step " +
                    std::to_string(state_.step) + " could not be written, and " + LastCheckpoint(),
                error.code() == ErrorCode::kNoSpace
                    ? "free some space and run the same command again: it goes on from there"
                    : error.remedy());
  }
  folder_->Keep();
  saved_ = state_.step;
  saved_evaluation_ = state_.evaluated;
}

}  // namespace

TuneReport Tune(const TuneOptions& options, const TuneCallback& callback) {
  return TuneRun(options, callback).Run();
}

}  // namespace eidetic::model
