// What a device can do and what a run takes of it: for progress and reports, never for results.
#ifndef EIDETIC_MODEL_TRAIN_DEVICE_METER_H_
#define EIDETIC_MODEL_TRAIN_DEVICE_METER_H_

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>

namespace eidetic::model {

// "NVIDIA H100 80GB HBM3"; empty when it is not known, as of a CPU.
std::string DeviceName(c10::Device device);

// Floating-point operations a second in dense products of `type`, as the maker states them; 0 when
// it is not known.
double PeakFlops(const std::string& device_name, c10::ScalarType type);

// Most memory in use at a time: of a GPU what LibTorch's allocator gave out, of the CPU what is
// resident of this process.
class MemoryMeter {
 public:
  explicit MemoryMeter(c10::Device device) : device_(device) {}
  // Begins a new peak, where the system can.
  void Reset() const;
  uint64_t Peak() const;   // bytes
  uint64_t Total() const;  // of the device, bytes; 0 when it is not known

 private:
  c10::Device device_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_DEVICE_METER_H_
