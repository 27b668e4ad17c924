// One step of training: gradients of several sequences, added up, clipped, and given to AdamW.
#ifndef EIDETIC_MODEL_TRAIN_TRAIN_STEP_H_
#define EIDETIC_MODEL_TRAIN_TRAIN_STEP_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "model/train/adamw.h"
#include "model/train/differentiable_model.h"
#include "model/train/train_sequence.h"

namespace eidetic::model {

class TrainGroup;

// What sequences are trained for: a sum over the rows that have a target (TargetsOf).
using SequenceLoss = std::function<at::Tensor(const std::vector<int32_t>& tokens,
                                              const std::vector<int32_t>& targets,
                                              const TrainForwardOptions& options)>;

struct TrainStepOptions {
  double rate = 2e-4;
  double largest_norm = 1;  // of the gradient; 0: it is not clipped
  // Seeds are drawn from forward.attention.seed and seed, apart for each step and sequence of it,
  // whichever of these are read at once or by the same process.
  TrainForwardOptions forward;
  bool dropout = true;  // as the adapter says
  uint64_t seed = 0;
  // Processes that share the sequences out among them (process i takes i, i + processes, ...) and
  // add up their gradients; all must be given the same. Null: this process takes all of them.
  TrainGroup* group = nullptr;
  SequenceLoss loss;  // empty: cross entropy on the targets
  // Most sequences of one length that go through the model at once (TrainForwardOptions).
  int64_t micro_batch = 1;
};

struct TrainStepResult {
  double loss = 0;           // a mean over predicted tokens, before the step
  double gradient_norm = 0;  // before clipping
  int64_t predicted_tokens = 0;
  bool stepped = false;  // not when loss or gradient is not finite: nothing was changed then
};

// The target of each token's row: the token behind it, or kNoTarget. Throws kInvalidArgument when
// `predicted` has another length than `tokens`.
std::vector<int32_t> TargetsOf(const TrainSequence& sequence);

// Gradients of the mean loss over the predicted tokens of all sequences together, so that it does
// not matter how they were cut into sequences. On the CPU the same model, sequences and options
// give the same step to the bit (rule 9). Throws kInvalidArgument when no token is predicted or
// nothing is trained, and as DifferentiableModel::Hidden; gradients are forgotten then.
TrainStepResult TrainStep(const DifferentiableModel& model,
                          const std::vector<TrainSequence>& sequences,
                          const TrainStepOptions& options, AdamW* optimizer);

// The same without gradients and without a step: the mean loss on `sequences`, dropout off.
double MeanLoss(const DifferentiableModel& model, const std::vector<TrainSequence>& sequences,
                const TrainForwardOptions& options);

// A rate that grows evenly over the first `warm_up` steps and stays: of step 0, 1, ...
double RateOfStep(int64_t step, double rate, int64_t warm_up);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAIN_STEP_H_
