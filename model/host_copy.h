// Copies from a device to the host.
#ifndef EIDETIC_MODEL_HOST_COPY_H_
#define EIDETIC_MODEL_HOST_COPY_H_

#include <ATen/core/Tensor.h>

namespace eidetic::model {

// A dense copy of `tensor` in host memory that nothing else refers to. From a GPU it goes into
// page-locked memory, which LibTorch keeps for the next copy of about that size: the transfer runs
// at the bus's full speed and no pages are faulted in. Done when it returns.
at::Tensor CopyToHost(const at::Tensor& tensor);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_HOST_COPY_H_
