// Memory for time: a part of the graph that keeps its input alone and is computed again in
// backward. Chen et al., "Training deep nets with sublinear memory cost", 2016.
#ifndef EIDETIC_MODEL_TRAIN_RECOMPUTE_H_
#define EIDETIC_MODEL_TRAIN_RECOMPUTE_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace eidetic::model {

// part(input), one tensor. Gradients reach `input` and `parameters`, which must be all tensors with
// gradients that `part` uses beside its input; on the CPU they are those of a plain call to the
// bit. `part` is called again in backward, perhaps on another thread, and must then compute the
// same: nothing that it uses may have changed.
at::Tensor Recomputed(const std::function<at::Tensor(const at::Tensor&)>& part,
                      const at::Tensor& input, const std::vector<at::Tensor>& parameters);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_RECOMPUTE_H_
