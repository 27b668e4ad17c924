// Where tensors live: "cpu", "cuda" or "cuda:N".
#ifndef EIDETIC_MODEL_DEVICE_H_
#define EIDETIC_MODEL_DEVICE_H_

#include <c10/core/Device.h>

#include <string>

namespace eidetic::model {

// Parses the name and makes the device usable. For CUDA this opens libtorch_cuda.so (it is not
// linked, so that one build serves machines with and without a GPU) and must happen before anything
// else asks LibTorch about CUDA. Products stay in full fp32: TF32 is switched off.
// Throws Error: kInvalidArgument for another name, kUnsupported without the library or a GPU.
c10::Device OpenDevice(const std::string& name);

// Whether CUDA may compute fp32 products in TF32, which keeps ten bits of each factor and is
// several times as fast: for training. For the whole process; OpenDevice switches it off.
void AllowTf32(bool allowed);

// The same for as long as it lives; then as it was before. Nothing else should open a device or
// compute meanwhile that wants it otherwise.
class Tf32Scope {
 public:
  explicit Tf32Scope(bool allowed);
  ~Tf32Scope();
  Tf32Scope(const Tf32Scope&) = delete;
  Tf32Scope& operator=(const Tf32Scope&) = delete;

 private:
  bool before_;
};

// Threads of LibTorch's CPU operators, for the whole process; as ComputeThreads().
void SetComputeThreads(int threads);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_DEVICE_H_
