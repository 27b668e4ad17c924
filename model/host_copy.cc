#include "model/host_copy.h"

#include <ATen/ops/empty.h>

namespace eidetic::model {

at::Tensor CopyToHost(const at::Tensor& tensor) {
  const bool from_gpu = tensor.is_cuda();
  at::Tensor host =
      at::empty(tensor.sizes(),
                at::TensorOptions(at::kCPU).dtype(tensor.scalar_type()).pinned_memory(from_gpu));
  // Made dense on the GPU first, so that there is one transfer.
  host.copy_(from_gpu ? tensor.contiguous() : tensor);
  return host;
}

}  // namespace eidetic::model
