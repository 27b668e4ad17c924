// Adam with decoupled weight decay: Loshchilov and Hutter, arXiv 1711.05101.
#ifndef EIDETIC_MODEL_TRAIN_ADAMW_H_
#define EIDETIC_MODEL_TRAIN_ADAMW_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/train/adapter.h"
#include "model/train/parameters.h"

namespace eidetic::model {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999;  // 0 .. 1, without 1
  double epsilon = 1e-8;
  double weight_decay = 0;
};

// Of step t, for each number w with gradient g:
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   w = w - rate (weight_decay w + m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon))
class AdamW {
 public:
  // Throws kInvalidArgument for options out of range.
  AdamW(NamedTensors trained, const AdamWOptions& options);

  // A tensor without a gradient stays as it is, and so do its moments.
  void Step(double rate);
  void ForgetGradients();
  // The norm of all gradients together; those larger than `largest` are made as small as that. 0:
  // they are left alone.
  double ClipGradients(double largest);
  const NamedTensors& trained() const { return trained_; }
  int64_t steps() const { return steps_; }

  // m and v as "<name>.first_moment" and "<name>.second_moment", rounded to fp32. With steps() it
  // is all there is to go on from; of fp32 tensors to the bit.
  HostTensors Export() const;
  // `restarted`: steps() at the last Restart. Throws kInvalidArgument, and changes nothing, for a
  // name that is missing or a shape that differs, or counts out of range.
  void Import(const HostTensors& moments, int64_t steps, int64_t restarted = 0);
  // Moments begin anew, and t at 1: for another loss, whose gradients are of another size. steps()
  // counts on.
  void Restart();

 private:
  NamedTensors trained_;
  AdamWOptions options_;
  std::vector<at::Tensor> first_, second_;  // m, v
  int64_t steps_ = 0, restarted_ = 0;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_ADAMW_H_
