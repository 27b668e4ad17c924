// Times steps of training: forward and backward of one sequence of random tokens under HyLoRA, with
// the optimizer's step. Prints tokens per second, the loss and the device's peak memory.
//
// train_bench MODEL [--mode NAME] [--length N,N,...] [--steps N] [--dtype fp32|bf16|tf32]
//             [--recompute] [--device cpu|cuda|cuda:N] [--kind lora|lora_plus|hylora]
//             [--parts] (forward and backward apart, and without an optimizer's step)
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/device.h"
#include "model/error.h"
#include "model/train/train_step.h"

namespace eidetic::model {
namespace {

struct Arguments {
  std::string model, mode = "se", dtype = "bf16", device = "cpu", kind = "hylora";
  std::vector<int> lengths = {8192, 16384, 32768, 65536};
  int steps = 5;
  bool recompute = false, parts = false;
};

[[noreturn]] void Refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, "train_bench: " + what,
              "The head of bench/train_bench.cc says how it is called.");
}

Arguments Parse(int count, char** words) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto next = [&]() -> std::string {
      if (i + 1 == count) Refuse(word + " needs a value");
      return words[++i];
    };
    if (word == "--mode") {
      arguments.mode = next();
    } else if (word == "--dtype") {
      arguments.dtype = next();
    } else if (word == "--device") {
      arguments.device = next();
    } else if (word == "--kind") {
      arguments.kind = next();
    } else if (word == "--steps") {
      arguments.steps = std::stoi(next());
    } else if (word == "--recompute") {
      arguments.recompute = true;
    } else if (word == "--parts") {
      arguments.parts = true;
    } else if (word == "--length") {
      arguments.lengths.clear();
      std::istringstream numbers(next());
      for (std::string number; std::getline(numbers, number, ',');) {
        arguments.lengths.push_back(std::stoi(number));
      }
    } else if (arguments.model.empty() && word.front() != '-') {
      arguments.model = word;
    } else {
      Refuse("unknown argument '" + word + "'");
    }
  }
  if (arguments.model.empty()) Refuse("no model is named");
  return arguments;
}

AdapterKind KindOf(const std::string& name) {
  if (name == "lora") return AdapterKind::kLora;
  if (name == "lora_plus") return AdapterKind::kLoraPlus;
  if (name == "hylora") return AdapterKind::kHylora;
  Refuse("unknown kind '" + name + "'");
}

class Clock {
 public:
  explicit Clock(c10::Device device) : device_(device) {}
  // Seconds since the last call, the device's work included.
  double Lap() {
    if (device_.is_cuda()) at::accelerator::synchronizeDevice(device_.index());
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  c10::Device device_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

c10::DeviceAllocator* AllocatorOf(c10::Device device) {
  return device.is_cuda() ? c10::getDeviceAllocator(device.type()) : nullptr;
}

double PeakGigabytes(c10::Device device) {
  c10::DeviceAllocator* allocator = AllocatorOf(device);
  if (allocator == nullptr) return 0;
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return static_cast<double>(allocator->getDeviceStats(device.index()).allocated_bytes[kAll].peak) *
         1e-9;
}

void Measure(const Arguments& arguments, const DifferentiableModel& model, c10::Device device,
             int length, AdamW* optimizer) {
  TrainStepOptions options;
  const auto mode = FindSequenceMode(arguments.mode);
  if (!mode) Refuse("unknown mode '" + arguments.mode + "'");
  options.forward.attention.mode = *mode;
  options.forward.attention.chunk_sizes = {2048, 4096};
  options.forward.recompute = arguments.recompute;
  std::mt19937 random(1);
  TrainSequence sequence;
  for (int i = 0; i < length; ++i) {
    sequence.tokens.push_back(static_cast<int32_t>(random() % model.config().vocabulary));
  }
  Clock clock(device);
  std::vector<double> seconds, forward, backward;
  double loss = 0;
  for (int step = 0; step <= arguments.steps; ++step) {
    if (c10::DeviceAllocator* allocator = AllocatorOf(device)) {
      allocator->resetPeakStats(device.index());
    }
    clock.Lap();
    if (arguments.parts) {
      const at::Tensor sum =
          model.SumLoss(model.Hidden(sequence.tokens, options.forward), TargetsOf(sequence))
              .div(length);
      const double first = clock.Lap();
      sum.backward();
      const double second = clock.Lap();
      loss = sum.item<double>();
      optimizer->ForgetGradients();
      if (step > 0) forward.push_back(first);
      if (step > 0) backward.push_back(second);
      if (step > 0) seconds.push_back(first + second);
    } else {
      loss = TrainStep(model, {sequence}, options, optimizer).loss;
      if (step > 0) seconds.push_back(clock.Lap());
    }
  }
  const auto middle = [](std::vector<double>& numbers) {
    std::sort(numbers.begin(), numbers.end());
    return numbers[numbers.size() / 2];
  };
  const double step = middle(seconds);
  std::printf("%-12s %-5s %-9s L %6d  %9.1f ms  %9.0f tokens/s  %6.2f GB peak  loss %.3f",
              arguments.mode.c_str(), arguments.dtype.c_str(),
              arguments.recompute ? "recompute" : "keep", length, step * 1e3, length / step,
              PeakGigabytes(device), loss);
  if (arguments.parts) {
    std::printf("  forward %.1f ms, backward %.1f ms", middle(forward) * 1e3,
                middle(backward) * 1e3);
  }
  std::printf("\n");
  std::fflush(stdout);
}

void Run(const Arguments& arguments) {
  const c10::Device device = OpenDevice(arguments.device);
  SetComputeThreads(0);
  const bool bf16 = arguments.dtype == "bf16";
  if (!bf16 && arguments.dtype != "fp32" && arguments.dtype != "tf32") {
    Refuse("unknown type '" + arguments.dtype + "'");
  }
  AllowTf32(arguments.dtype != "fp32");
  const c10::OptionalDeviceGuard guard(device);
  DifferentiableModel model(*Checkpoint::Open(arguments.model), device,
                            bf16 ? at::kBFloat16 : at::kFloat);
  AdapterOptions adapter_options;
  adapter_options.kind = KindOf(arguments.kind);
  Adapter adapter(adapter_options, &model);
  AdamW optimizer(adapter.trained(), {});
  for (const int length : arguments.lengths) {
    try {
      Measure(arguments, model, device, length, &optimizer);
    } catch (const std::exception& error) {
      std::string reason = error.what();
      std::printf("%-12s %-5s %-9s L %6d  failed: %s\n", arguments.mode.c_str(),
                  arguments.dtype.c_str(), arguments.recompute ? "recompute" : "keep", length,
                  reason.substr(0, 300).c_str());
      optimizer.ForgetGradients();
      if (c10::DeviceAllocator* allocator = AllocatorOf(device)) allocator->emptyCache();
    }
  }
}

}  // namespace
}  // namespace eidetic::model

int main(int count, char** words) {
  try {
    eidetic::model::Run(eidetic::model::Parse(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
