// A run of training from files of text to an adapter, that can be stopped at any moment and goes on
// (docs/decisions/081).
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_TUNE_RUN_H_
#define EIDETIC_MODEL_TRAIN_TUNE_RUN_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "model/train/token_cache.h"
#include "model/train/train_state.h"
#include "model/train/tune_options.h"

namespace eidetic::model {

enum class TuneStage : uint8_t {
  kTokenizing,
  kLoading,
  kTraining,
  kEvaluating,
  kSaving,
  kMeasuring,  // of an estimate
};

// In place of a number that is not known.
inline constexpr double kNotKnown = std::numeric_limits<double>::quiet_NaN();

// Where a run stands. What is not known yet is NaN, or 0 of counts and bytes.
struct TuneProgress {
  TuneStage stage = TuneStage::kTokenizing;
  int64_t done = 0, total = 0;  // of the stage: bytes of files, steps, sequences held out
  int64_t step = 0, steps = 0;
  TuneObjective objective = TuneObjective::kText;  // of the last step, or the next
  double loss = kNotKnown;                         // of the last step
  double held_out_loss = kNotKnown;                // of the last evaluation
  double rate = kNotKnown;
  double gradient_norm = kNotKnown;
  int64_t tokens = 0;  // since the run began
  double tokens_per_second = kNotKnown;
  double seconds = 0;                    // of training since the run began
  double remaining_seconds = kNotKnown;  // of training, at the speed of the last steps
  double peak_share = kNotKnown;  // of the device's peak, 0..1; docs/cli.md says what is counted
  uint64_t memory_bytes = 0;      // the most in use at a time
};
// False: stop. The run then writes a checkpoint and throws kCancelled.
using TuneCallback = std::function<bool(const TuneProgress&)>;

struct TuneReport {
  TrainState state;
  int64_t steps = 0;         // that were wanted
  int64_t resumed_from = 0;  // the step of the checkpoint that this call went on from; 0: none
  int64_t trained_numbers = 0;
  std::string kind;  // of the adapter
  TokenCacheReport data, held_out;
  int64_t windows = 0;           // of a pass over the data
  double tokens_per_second = 0;  // of this call
  uint64_t peak_memory_bytes = 0;
  std::string device_name;
  double peak_share = kNotKnown;  // of this call's last steps
};

// What a run would take: measured on two short steps of each stage, with as many sequences as are
// read at once, and counted. Of several processes: of each.
struct TuneEstimate {
  int64_t steps = 0, windows = 0, trained_numbers = 0;
  TokenCacheReport data, held_out;
  int64_t measured_tokens = 0;           // of the longest step
  double step_seconds = 0, seconds = 0;  // of a step (of two stages a mean), of all
  uint64_t memory_bytes = 0;             // the most in use at a time, of either stage
  uint64_t device_memory_bytes = 0;      // there are
  uint64_t checkpoint_bytes = 0;         // on disk, of `last` and `best` together
};

// Trains, and leaves in options.folder: `last` and `best`, adapters by which `last` goes on from
// where it was; metrics.jsonl; the texts as tokens. Called with the same options and files again it
// goes on from `last`; on a CPU to the same bits as if it had not been stopped (rule 9). A finished
// run is only reported. Throws Error:
//   kInvalidArgument  options out of range, or other ones than those of the checkpoint; a loss or a
//                     gradient that is no number: step, batch and last checkpoint are named; so is
//                     the teacher, with its sequences, when it is what is not finite
//   kCancelled        the callback said so; a checkpoint was written
//   kNoSpace          what was there before is kept
//   OutOfMemoryError, with what to lower; LockedError, another process trains into the folder
// and as reading models, adapters and texts does.
TuneReport Tune(const TuneOptions& options, const TuneCallback& callback);

// Measures and counts; trains nothing, and writes into a temporary folder alone. Of a run that is
// in options.folder the steps of mixers alone and the warm-up are those that it was begun with.
// Throws Error as Tune does, kCorruption of a checkpoint there that cannot be read among them.
TuneEstimate EstimateTune(const TuneOptions& options, const TuneCallback& callback);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TUNE_RUN_H_
