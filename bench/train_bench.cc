// Times steps of training: forward and backward of one sequence of random tokens, with the
// optimizer's step. Prints tokens per second, the loss and the device's peak memory.
//
// train_bench MODEL [--mode NAME] [--length N,N,...] [--steps N] [--dtype fp32|bf16|tf32]
//             [--batch N] (sequences that go through the model at once)
//             [--recompute] [--device cpu|cuda|cuda:N] [--kind lora|lora+|hylora|mixers]
//             [--teacher MODEL] (distillation) [--of-mixers] (its first stage)
//             [--parts] (forward and backward apart, and without an optimizer's step)
//             [--pieces] (what a step is made of, each alone)
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/device.h"
#include "model/error.h"
#include "model/mamba2.h"
#include "model/mamba2_scan.h"
#include "model/train/adapter.h"
#include "model/train/distill.h"
#include "model/train/train_step.h"
#include "model/train/tune_options.h"

namespace eidetic::model {
namespace {

struct Arguments {
  std::string model, teacher, mode = "se", dtype = "bf16", device = "cpu", kind = "hylora";
  std::vector<int> lengths = {8192, 16384, 32768, 65536};
  int steps = 5, batch = 1;
  bool recompute = false, parts = false, of_mixers = false, pieces = false;
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
    } else if (word == "--batch") {
      arguments.batch = std::stoi(next());
    } else if (word == "--recompute") {
      arguments.recompute = true;
    } else if (word == "--parts") {
      arguments.parts = true;
    } else if (word == "--pieces") {
      arguments.pieces = true;
    } else if (word == "--of-mixers") {
      arguments.of_mixers = true;
    } else if (word == "--teacher") {
      arguments.teacher = next();
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
  if (const auto kind = FindAdapterKind(name)) return *kind;
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

// Milliseconds of `forward`, and of the backward pass from what it gives, if it has one.
template <typename Forward>
void MeasurePiece(const char* name, c10::Device device, const Forward& forward) {
  Clock clock(device);
  std::vector<double> of_forward, of_backward;
  for (int i = 0; i < 6; ++i) {
    clock.Lap();
    const at::Tensor result = forward();
    const double first = clock.Lap();
    double second = 0;
    if (result.requires_grad()) {
      result.to(at::kFloat).sum().backward();
      second = clock.Lap();
    }
    if (i == 0) continue;
    of_forward.push_back(first);
    of_backward.push_back(second);
  }
  std::sort(of_forward.begin(), of_forward.end());
  std::sort(of_backward.begin(), of_backward.end());
  std::printf("  %-40s forward %7.2f ms, backward %7.2f ms\n", name, of_forward[2] * 1e3,
              of_backward[2] * 1e3);
}

void MeasurePieces(const DifferentiableModel& model, const DifferentiableModel* teacher,
                   c10::Device device, const TrainSequence& sequence,
                   const TrainForwardOptions& options) {
  const ModelConfig& config = model.config();
  const auto length = static_cast<int64_t>(sequence.tokens.size());
  MeasurePiece("all layers", device, [&] { return model.Hidden(sequence.tokens, options); });
  at::Tensor hidden = model.Hidden(sequence.tokens, options).detach().requires_grad_(true);
  const std::vector<int32_t> targets = TargetsOf(sequence);
  MeasurePiece("cross entropy", device, [&] { return model.SumLoss(hidden, targets); });
  if (teacher != nullptr) {
    MeasurePiece("the teacher's layers", device, [&] {
      const at::NoGradGuard no_gradient;
      return teacher->Hidden(sequence.tokens, TeacherOptions(options));
    });
    MeasurePiece("divergence", device, [&] {
      return model.SumDivergenceFrom(
          [&](const at::Tensor& rows) {
            return teacher->Logits(hidden.detach().index_select(0, rows));
          },
          hidden, targets, 0);
    });
  }
  const at::TensorOptions fp32 = hidden.options().dtype(at::kFloat).requires_grad(false);
  const at::Tensor stream = at::randn({length, config.hidden}, fp32).requires_grad_(true);
  for (const auto& [name, layers] : {std::pair("a mixer", config.MambaLayers()),
                                     std::pair("an attention", config.AttentionLayers())}) {
    if (layers.empty()) continue;
    const auto layer = static_cast<size_t>(layers[0]);
    MeasurePiece(name, device, [&, layer] { return model.Mixed(layer, stream, options); });
  }
  if (config.MambaLayers().empty()) return;
  const MambaConfig& mamba = config.mamba;
  const auto wide = [&](int64_t a, int64_t b) {
    return at::randn({length, a, b}, fp32).requires_grad_(true);
  };
  const at::Tensor x = wide(mamba.heads, mamba.head_dim), b = wide(mamba.groups, mamba.state),
                   c = wide(mamba.groups, mamba.state);
  const at::Tensor dt = at::rand({length, mamba.heads}, fp32).mul(0.1).requires_grad_(true);
  const at::Tensor decay = at::rand({mamba.heads}, fp32).neg();
  MeasurePiece("its scan", device, [&] {
    return Mamba2Scan(x, dt, decay, b, c,
                      at::zeros({mamba.heads, mamba.head_dim, mamba.state}, fp32), 64);
  });
}

void Measure(const Arguments& arguments, const DifferentiableModel& model,
             const DifferentiableModel* teacher, c10::Device device, int length, AdamW* optimizer) {
  TrainStepOptions options;
  if (teacher != nullptr) {
    options.loss = [&](const auto& tokens, const auto& targets, const auto& forward) {
      return arguments.of_mixers
                 ? SumMixerLoss(*teacher, model, tokens, targets, forward)
                 : SumTeacherDivergence(*teacher, model, tokens, targets, 0, forward);
    };
  }
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
  const std::vector<TrainSequence> sequences(static_cast<size_t>(arguments.batch), sequence);
  options.micro_batch = arguments.batch;
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
      loss = TrainStep(model, sequences, options, optimizer).loss;
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
              arguments.recompute ? "recompute" : "keep", length, step * 1e3,
              arguments.batch * length / step, PeakGigabytes(device), loss);
  if (arguments.parts) {
    std::printf("  forward %.1f ms, backward %.1f ms", middle(forward) * 1e3,
                middle(backward) * 1e3);
  }
  std::printf("\n");
  std::fflush(stdout);
  if (arguments.pieces) MeasurePieces(model, teacher, device, sequence, options.forward);
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
  AdapterOptions adapter_options;
  adapter_options.kind = KindOf(arguments.kind);
  const at::ScalarType type = bf16 ? at::kBFloat16 : at::kFloat;
  DifferentiableModel model(*Checkpoint::Open(arguments.model), device, type, std::nullopt,
                            adapter_options.kind == AdapterKind::kMixers);
  std::unique_ptr<const DifferentiableModel> teacher;
  if (!arguments.teacher.empty()) {
    teacher = std::make_unique<const DifferentiableModel>(*Checkpoint::Open(arguments.teacher),
                                                          device, type);
    CheckTeacher(*teacher, model);
  }
  Adapter adapter(adapter_options, &model);
  AdamW optimizer(adapter.trained(), {});
  for (const int length : arguments.lengths) {
    try {
      Measure(arguments, model, teacher.get(), device, length, &optimizer);
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
