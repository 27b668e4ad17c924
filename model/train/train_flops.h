// How many floating-point operations training takes, counted from the model: for shares of a
// device's peak and for estimates.
#ifndef EIDETIC_MODEL_TRAIN_TRAIN_FLOPS_H_
#define EIDETIC_MODEL_TRAIN_TRAIN_FLOPS_H_

#include <cstdint>

#include "model/sequence_options.h"
#include "model/train/differentiable_model.h"

namespace eidetic::model {

// Pairs of a query and a key that one head looks at in a sequence of `tokens`; of several chunk
// sizes the mean.
double AttentionPairs(const SequenceAttentionOptions& options, int64_t tokens);

// Of one sequence, forward and backward: products with weights (2 a weight and token forward, 2
// backward for the input and 2 more for a weight that is trained), attention and the scan (three
// times its forward pass). What is computed again in backward (recompute) is not counted: the
// figure is of the model, not of how it is run.
double TrainFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                  int64_t tokens);

// Of the forward pass alone.
double ForwardFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                    int64_t tokens);

// Of mixers that learn alone (SumMixerLoss in model/train/distill.h): the teacher's layers forward,
// the student's mixers forward and backward.
double MixerFlops(const DifferentiableModel& teacher, const DifferentiableModel& student,
                  int64_t tokens);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAIN_FLOPS_H_
