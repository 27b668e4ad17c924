#include "model/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <charconv>

#include "model/compute_threads.h"
#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr char kCudaLibrary[] = "libtorch_cuda.so";

// The folder of the libtorch_cpu.so that is loaded, with a slash at its end.
std::string TorchFolder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) == 0 || !info.dli_fname) {
    return {};
  }
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

// Registers LibTorch's CUDA operators. The library stays loaded: operators cannot be taken back.
void LoadCudaLibrary() {
  const int flags = RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE;
  const std::string beside = TorchFolder() + kCudaLibrary;
  if (dlopen(beside.c_str(), flags) != nullptr) return;
  const char* reason = dlerror();
  const std::string first = reason ? reason : "unknown";
  if (dlopen(kCudaLibrary, flags) != nullptr) return;
  throw Error(ErrorCode::kUnsupported, "LibTorch's CUDA library could not be loaded: " + first,
              "Install the full torch wheel with its CUDA packages, or use --device cpu.");
}

int ParseCudaIndex(const std::string& name) {
  if (name == "cuda") return 0;
  int index = -1;
  const char* first = name.data() + 5;
  const char* last = name.data() + name.size();
  const auto parsed = std::from_chars(first, last, index);
  if (parsed.ec != std::errc() || parsed.ptr != last || index < 0 || index > 127) {
    throw Error(ErrorCode::kInvalidArgument, "unknown device '" + name + "'",
                "Use cpu, cuda or cuda:N with N from 0 to 127.");
  }
  return index;
}

}  // namespace

c10::Device OpenDevice(const std::string& name) {
  if (name == "cpu") return c10::Device(c10::DeviceType::CPU);
  if (name != "cuda" && name.rfind("cuda:", 0) != 0) {
    throw Error(ErrorCode::kInvalidArgument, "unknown device '" + name + "'",
                "Use cpu, cuda or cuda:N.");
  }
  const int index = ParseCudaIndex(name);
  LoadCudaLibrary();
  AllowTf32(false);
  at::Context& context = at::globalContext();
  const int count = at::Context::hasCUDA()
                        ? context.getAcceleratorHooksInterface(c10::DeviceType::CUDA).deviceCount()
                        : 0;
  if (index >= count) {
    throw Error(ErrorCode::kUnsupported,
                "device '" + name + "' is not there: this machine has " + std::to_string(count) +
                    " usable CUDA device(s)",
                "Check the driver with nvidia-smi, or use --device cpu.");
  }
  return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
}

void AllowTf32(bool allowed) {
  at::Context& context = at::globalContext();
  context.setAllowTF32CuBLAS(allowed);
  context.setAllowTF32CuDNN(allowed);
}

Tf32Scope::Tf32Scope(bool allowed) : before_(at::globalContext().allowTF32CuBLAS()) {
  AllowTf32(allowed);
}

Tf32Scope::~Tf32Scope() {
  AllowTf32(before_);
}

void SetComputeThreads(int threads) {
  at::set_num_threads(ComputeThreads(threads));
}

}  // namespace eidetic::model
