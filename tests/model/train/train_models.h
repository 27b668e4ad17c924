// Tiny models to train, and gradients by central differences.
#ifndef EIDETIC_TESTS_MODEL_TRAIN_TRAIN_MODELS_H_
#define EIDETIC_TESTS_MODEL_TRAIN_TRAIN_MODELS_H_

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/device.h"
#include "model/train/differentiable_model.h"
#include "tests/model/tiny_folder.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {

// For the whole program: tensors this small are faster on one thread, and by far on a busy machine.
inline const bool kOnOneThread = (SetComputeThreads(1), true);

// Layers m a m a, tied (tests/parity/make_tiny_granite.py).
inline std::shared_ptr<const Checkpoint> TinyHybrid() {
  return Checkpoint::Open(ParityFile("tiny_granite.gguf"));
}
// Layers m a, two groups of B and C, tied.
inline std::shared_ptr<const Checkpoint> TinyGranite() {
  const TemporaryFolder folder;  // a file that is mapped outlives its name
  TinyFolder::Granite().Write(folder / "model");
  return Checkpoint::Open(folder / "model");
}
// Layers a a, not tied.
inline std::shared_ptr<const Checkpoint> TinyLlama() {
  const TemporaryFolder folder;
  TinyFolder::Llama().Write(folder / "model");
  return Checkpoint::Open(folder / "model");
}

inline DifferentiableModel OnTestDevice(const Checkpoint& checkpoint, at::ScalarType type) {
  return DifferentiableModel(checkpoint, OpenDevice(TestDevice()), type);
}

constexpr SequenceMode kAllModes[] = {SequenceMode::kFull,          SequenceMode::kWindow,
                                      SequenceMode::kShiftedSparse, SequenceMode::kPaper,
                                      SequenceMode::kPaperRandom,   SequenceMode::kPaperNoMemory,
                                      SequenceMode::kPaperLandmark, SequenceMode::kStream};

// Chunks of 16 tokens with a span of two blocks of four.
inline TrainForwardOptions TrainOptions(SequenceMode mode) {
  TrainForwardOptions options;
  options.attention.mode = mode;
  options.attention.chunk_sizes = {16};
  options.attention.block_tokens = 4;
  options.attention.span_blocks = 2;
  options.attention.window = 24;
  options.attention.seed = 3;
  options.attention.stream.segment = 12;  // three blocks; 16 to 19 tokens of window
  options.attention.stream.window = 16;
  options.attention.stream.sinks = 4;
  options.attention.stream.query_offset = 16;
  options.attention.stream.representative_tokens = 2;
  options.attention.stream.votes = 4;
  options.attention.stream.candidates = 4;
  options.attention.stream.span_blocks = 2;
  return options;
}

// Each token's next one; the last has none.
inline std::vector<int32_t> NextTokens(const std::vector<int32_t>& ids) {
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  return targets;
}

inline at::Tensor NormalLike(const at::Tensor& tensor, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> draw(0, 1);
  at::Tensor numbers = at::empty(tensor.sizes(), at::kDouble);
  double* values = numbers.mutable_data_ptr<double>();
  for (int64_t i = 0; i < numbers.numel(); ++i) values[i] = draw(random);
  return numbers.to(tensor.device(), tensor.scalar_type());
}

// Of the same computation in fp32, summed up in another order through a few layers: 2e-5 of the
// largest number. The same model in float64 is as far from it.
inline double RoundingOf(const std::vector<float>& numbers) {
  float largest = 1;
  for (const float number : numbers) largest = std::max(largest, std::fabs(number));
  return 2e-5 * static_cast<double>(largest);
}

inline std::vector<double> Doubles(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* begin = host.const_data_ptr<double>();
  return {begin, begin + host.numel()};
}

// The slope of `value` where `parameter` moves along `direction`, of length 1.
inline double Slope(const at::Tensor& parameter, const at::Tensor& direction,
                    const std::function<double()>& value) {
  // Errors: of the order of its fourth power, and of the rounding of the value, 1e-13, over it. So
  // short a step seldom changes a choice of blocks; tests use seeds where none does.
  constexpr double kStep = 2e-5;
  const at::NoGradGuard no_gradient;
  const at::Tensor kept = parameter.detach().clone();
  const auto at = [&](double steps) {
    parameter.copy_(kept.add(direction, steps * kStep));
    return value();
  };
  const double near = at(1) - at(-1), far = at(2) - at(-2);
  parameter.copy_(kept);
  return (8 * near - far) / (12 * kStep);
}

// Compares a gradient with differences: along one direction that moves all its numbers, and of up
// to four numbers by themselves. float64.
inline void ExpectGradient(const std::string& name, const at::Tensor& parameter,
                           const std::function<double()>& value) {
  constexpr double kTolerance = 1e-7;
  const at::Tensor gradient = parameter.grad();
  ASSERT_TRUE(gradient.defined()) << name;
  at::Tensor direction = NormalLike(parameter, 17);
  direction.div_(direction.norm());
  const double along = gradient.mul(direction).sum().item<double>();
  EXPECT_NEAR(along, Slope(parameter, direction, value), kTolerance * (1 + std::fabs(along)))
      << name;
  const std::vector<double> expected = Doubles(gradient);
  std::mt19937 random(18);
  for (int i = 0; i < 4; ++i) {
    const auto at = static_cast<int64_t>(random() % expected.size());
    at::Tensor unit = at::empty_like(parameter).detach().zero_();
    unit.view(-1)[at] = 1;
    EXPECT_NEAR(expected[at], Slope(parameter, unit, value),
                kTolerance * (1 + std::fabs(expected[at])))
        << name << ", number " << at;
  }
}

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_TRAIN_TRAIN_MODELS_H_
