// What a run of training is told: the model, the data, what is trained and how fast.
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_TUNE_OPTIONS_H_
#define EIDETIC_MODEL_TRAIN_TUNE_OPTIONS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/rotary_scaling.h"
#include "model/sequence_options.h"
#include "model/train/adapter_options.h"

namespace eidetic::model {

enum class RateSchedule : uint8_t {
  kConstant,  // "constant"
  kCosine,    // "cosine": falls to 0 at the last step, with a teacher of each stage
};
std::string_view RateScheduleName(RateSchedule schedule);
std::optional<RateSchedule> FindRateSchedule(std::string_view name);

// "lora", "lora+", "hylora", "mixers"
std::string_view AdapterKindName(AdapterKind kind);
std::optional<AdapterKind> FindAdapterKind(std::string_view name);

// What a step makes smaller.
enum class TuneObjective : uint8_t {
  kText,     // "text": the cross entropy of the text
  kMixers,   // "mixers": SumMixerLoss (model/train/distill.h)
  kTeacher,  // "teacher": SumTeacherDivergence there
};
std::string_view TuneObjectiveName(TuneObjective objective);

// Defaults are those of Nunez et al., "Expansion Span", arXiv 2412.13328, where it has them.
struct TuneOptions {
  std::string model;         // a GGUF file, or a folder with safetensors
  std::string adapter;       // the folder of an adapter to go on from; empty: a new one is made
  std::string model_digest;  // of the files of both: a run goes on with the same; may be empty
  std::vector<std::string> inputs;    // files to train on
  std::vector<std::string> held_out;  // files whose loss is measured now and then
  bool skip_bad = false;              // lines of JSONL that do not parse are counted, no error
  std::string device = "cpu";
  int threads = 0;  // of the CPU; as ComputeThreads

  // A model of more attention that the trained one is to be like, also a file or a folder; empty:
  // the text is what is learned. For `mixer_steps` steps (-1: an eighth of all) each mixer learns
  // to do what the teacher's attention does, then all together to say what the teacher says. What
  // is held out is measured by its text all the same.
  std::string teacher, teacher_digest;
  int64_t mixer_steps = -1;
  double mixer_rate = 3e-3;  // in these; warm-up and schedule are of each stage
  double text_share = 0;     // of the loss after them that is the text's cross entropy; 0 .. 1

  AdapterOptions trained;  // of a new adapter; its seed is `seed`
  SequenceAttentionOptions attention;
  // In place of what `adapter` was trained with, or else the model's file says. A teacher of the
  // same rotary base reads with it too.
  std::optional<RotaryScaling> rotary_scaling;
  bool bf16 = false;        // linear maps and attention in bf16 (decision 088), else all in fp32
  bool recompute = false;   // TrainForwardOptions has what it means
  int64_t length = 8192;    // tokens of a sequence
  int64_t batch = 1;        // sequences whose gradients make a step
  int64_t micro_batch = 1;  // of these go through the model at once
  int64_t steps = 0;        // 0: as many as one pass over the data takes
  double rate = 2e-4;
  // Steps over which the rate grows, in each stage; -1: a tenth of the stage's, 1 to 20. That of
  // the mixers' stage is another only where neither was given.
  int64_t warm_up = -1;
  int64_t mixer_warm_up = -1;  // -1: as warm_up
  RateSchedule schedule = RateSchedule::kConstant;
  double weight_decay = 0;
  double largest_norm = 1;  // of the gradient; 0: it is not clipped
  uint64_t seed = 0;        // of A, the order of the data, chunk sizes, random blocks and dropout

  int64_t evaluate_every = 50;      // steps
  int64_t held_out_sequences = 16;  // that are measured, spread over the files; 0: all
  int64_t checkpoint_every = 50;    // steps
  // Data parallel: this process is number `process` of `processes` that train the same run, which
  // meet by the file `meeting` (model/train/train_group.h) and share each batch out among them. Of
  // "cuda", without a number, each takes the GPU of its own number.
  int processes = 1, process = 0;
  std::string meeting;
  std::string folder;  // the run's own: data, metrics, `last`, `best`
};

// Throws Error kInvalidArgument, which names the option and its value.
void CheckTuneOptions(const TuneOptions& options);

// By option, as text: what the losses of a run depend on.
using TrainSettings = std::map<std::string, std::string>;

// Puts numbers in place of what was left to a default, now that options.steps are known. Those that
// a run was begun with stay where it is made longer: `begun` are its settings; null: it begins.
// Throws Error kInvalidArgument where the warm-up of a run that begins is as long as a stage.
void SettleStages(const TrainSettings* begun, TuneOptions* options);

// Those of its data are not among them. Two runs of equal settings and data have equal losses on a
// CPU; micro-batches, processes and recomputing change rounding alone. The number of steps is among
// them where the schedule needs it.
TrainSettings SettingsOf(const TuneOptions& options);

TuneObjective ObjectiveOf(const TuneOptions& options, int64_t step);

// The rate of step 0, 1, ...: it grows over the warm-up, then follows the schedule; with a teacher
// once for the mixers and once for all together.
double RateOf(const TuneOptions& options, int64_t step, int64_t steps);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TUNE_OPTIONS_H_
