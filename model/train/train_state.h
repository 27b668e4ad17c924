// Where a run of training stands, in numbers.
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_TRAIN_STATE_H_
#define EIDETIC_MODEL_TRAIN_TRAIN_STATE_H_

#include <cstdint>
#include <optional>
#include <string>

namespace eidetic::model {

struct TrainState {
  int64_t step = 0;        // steps that were taken
  int64_t epoch = 0;       // the pass over the data that is under way
  int64_t window = 0;      // its windows that were taken
  int64_t tokens = 0;      // that were read, over all passes
  double seconds = 0;      // of training
  double loss = 0;         // of the last step
  int64_t evaluated = -1;  // steps before the last evaluation; -1: there was none
  double held_out_loss = 0;
  int64_t best_step = -1;  // of the lowest loss on what was held out; -1: none
  double best_loss = 0;
  std::optional<double> teacher_loss;  // on what was held out, of a run that has a teacher
};

// Where the run stood that wrote the adapter in `folder`; nothing of an adapter that no run wrote.
// Throws Error: kCorruption when what is there is not what was written, kUnsupported for a newer
// format, kIo.
std::optional<TrainState> ReadTrainState(const std::string& folder);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAIN_STATE_H_
