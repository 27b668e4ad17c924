// What one pass of training reads.
#ifndef EIDETIC_MODEL_TRAIN_TRAIN_SEQUENCE_H_
#define EIDETIC_MODEL_TRAIN_TRAIN_SEQUENCE_H_

#include <cstdint>
#include <vector>

namespace eidetic::model {

struct TrainSequence {
  std::vector<int32_t> tokens;
  // For each token whether it is to be predicted from those before it; empty: all are. The first
  // token never is.
  std::vector<bool> predicted;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAIN_SEQUENCE_H_
