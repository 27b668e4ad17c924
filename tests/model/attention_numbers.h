// What tests of attention over whole sequences share: numbers drawn and read back, and gradients
// held against differences.
#ifndef EIDETIC_TESTS_MODEL_ATTENTION_NUMBERS_H_
#define EIDETIC_TESTS_MODEL_ATTENTION_NUMBERS_H_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string_view>
#include <vector>

namespace eidetic::model {

// In double, on the CPU.
inline at::Tensor Normal(std::vector<int64_t> sizes, std::mt19937* random) {
  at::Tensor tensor = at::empty(sizes, at::kDouble);
  std::normal_distribution<double> draw(0, 1);
  double* values = tensor.mutable_data_ptr<double>();
  for (int64_t i = 0; i < tensor.numel(); ++i) values[i] = draw(*random);
  return tensor;
}

inline std::vector<double> Numbers(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().cpu().to(at::kDouble).contiguous();
  const double* begin = host.const_data_ptr<double>();
  return {begin, begin + host.numel()};
}

// The largest difference; infinite when there are more numbers of one than of the other.
inline double Largest(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN counts
  }
  return largest;
}

// Whether `gradients` are those of `value_of` by each number of `tensors`, as Normal makes them.
inline void ExpectFiniteDifferences(const std::vector<at::Tensor*>& tensors,
                                    const std::vector<at::Tensor>& gradients,
                                    const std::function<double()>& value_of,
                                    std::string_view what) {
  constexpr double kStep = 1e-5;  // error: step^2, and 1e-15 / step
  for (size_t which = 0; which < tensors.size(); ++which) {
    const std::vector<double> gradient = Numbers(gradients[which]);
    double* number = tensors[which]->mutable_data_ptr<double>();
    for (size_t i = 0; i < gradient.size(); ++i) {
      const double kept = number[i];
      number[i] = kept + kStep;
      const double above = value_of();
      number[i] = kept - kStep;
      const double below = value_of();
      number[i] = kept;
      ASSERT_NEAR(gradient[i], (above - below) / (2 * kStep), 1e-7)
          << what << ", input " << which << ", number " << i;
    }
  }
}

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_ATTENTION_NUMBERS_H_
