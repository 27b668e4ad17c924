// What is told when a number of a run is not finite: of what, when, and which sequences were read.
#ifndef EIDETIC_MODEL_TRAIN_FINITE_CHECK_H_
#define EIDETIC_MODEL_TRAIN_FINITE_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/train/differentiable_model.h"
#include "model/train/token_cache.h"

namespace eidetic::model {

// Sequences of a text: of a step, or of what was held out.
struct SequencesRead {
  const TokenCache* text = nullptr;
  std::vector<int64_t> first;  // tokens
  int64_t length = 0;
};

// "96 to 127, 288 to 319": their tokens.
std::string PlacesOf(const SequencesRead& read);

// Reads them once more, and throws kInvalidArgument, with those of them whose outputs of the
// teacher are not finite, if there are any. `when`: "step 3"; `text`: "the data"; `then`: what has
// become of the run.
void CheckTeacherIsFinite(const DifferentiableModel& teacher, const SequencesRead& read,
                          const std::string& when, const std::string& text,
                          const std::string& then);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_FINITE_CHECK_H_
