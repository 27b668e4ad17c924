#include "model/train/device_meter.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <unistd.h>

#include <fstream>
#include <string_view>

namespace eidetic::model {
namespace {

// The driver's own functions: LibTorch's CUDA library is not linked (decision 042).
template <typename Function>
Function* DriverFunction(const char* name) {
  static void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  return driver == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(driver, name));
}

// A line of /proc/self/status, in bytes.
uint64_t StatusBytes(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return std::stoull(line.substr(name.size())) * 1024;
  }
  return 0;
}

c10::CachingDeviceAllocator::DeviceStats StatsOf(c10::Device device) {
  return c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
}

}  // namespace

std::string DeviceName(c10::Device device) {
  if (device.is_cpu()) return {};
  const auto name_of = DriverFunction<int(char*, int, int)>("cuDeviceGetName");
  char name[256] = "";
  if (name_of == nullptr || name_of(name, sizeof name, device.index()) != 0) return {};
  return name;
}

double PeakFlops(const std::string& device_name, c10::ScalarType type) {
  struct Peak {
    std::string_view name;
    double fp32, bf16;
  };
  // By the makers' data sheets; the first that fits. Products in fp32 are without TF32 here.
  constexpr Peak kPeaks[] = {{"H100 PCIe", 51e12, 756e12}, {"H100", 67e12, 989e12},
                             {"H200", 67e12, 989e12},      {"A100", 19.5e12, 312e12},
                             {"L40S", 91.6e12, 362e12},    {"L40", 90.5e12, 181e12},
                             {"L4", 30.3e12, 121e12},      {"RTX 4090", 82.6e12, 165e12}};
  for (const Peak& peak : kPeaks) {
    if (device_name.find(peak.name) == std::string::npos) continue;
    return type == c10::ScalarType::BFloat16 ? peak.bf16 : peak.fp32;
  }
  return 0;
}

void MemoryMeter::Reset() const {
  if (!device_.is_cpu()) {
    c10::getDeviceAllocator(device_.type())->resetPeakStats(device_.index());
    return;
  }
  std::ofstream("/proc/self/clear_refs") << 5;  // VmHWM begins anew
}

uint64_t MemoryMeter::Peak() const {
  if (device_.is_cpu()) return StatusBytes("VmHWM:");
  return static_cast<uint64_t>(StatsOf(device_).allocated_bytes[0].peak);
}

uint64_t MemoryMeter::Total() const {
  if (device_.is_cpu()) {
    return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
           static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
  const auto total_of = DriverFunction<int(size_t*, int)>("cuDeviceTotalMem_v2");
  size_t bytes = 0;
  if (total_of == nullptr || total_of(&bytes, device_.index()) != 0) return 0;
  return bytes;
}

}  // namespace eidetic::model
