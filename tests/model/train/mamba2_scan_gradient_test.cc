// The scan's written-out gradient against autograd through the recurrence, token by token, and how
// many operations it takes.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "model/device.h"
#include "model/mamba2_scan.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

struct ScanInputs {
  std::vector<at::Tensor> differentiated;  // x, dt, decay, b, c
  at::Tensor state, weights;

  ScanInputs(int64_t tokens, int64_t heads, int64_t groups, at::ScalarType type, double fastest) {
    const int64_t p = 3, n = 5;
    const auto options = at::TensorOptions().dtype(type).device(OpenDevice(TestDevice()));
    at::manual_seed(17);
    differentiated = {at::randn({tokens, heads, p}, options),
                      at::rand({tokens, heads}, options).mul(0.3).add(0.01),
                      at::rand({heads}, options).mul(-fastest).sub(0.05),
                      at::randn({tokens, groups, n}, options),
                      at::randn({tokens, groups, n}, options)};
    for (at::Tensor& one : differentiated) one = one.detach().requires_grad_(true);
    state = at::randn({heads, p, n}, options);
    weights = at::randn({tokens, heads, p}, options);
  }
};

// S_t = exp(dt A) S_{t-1} + dt x B^T, y_t = S_t C_t, one token behind another.
at::Tensor Recurrence(const ScanInputs& in) {
  const at::Tensor &x = in.differentiated[0], &dt = in.differentiated[1],
                   &decay = in.differentiated[2];
  const int64_t repeat = x.size(1) / in.differentiated[3].size(1);
  const at::Tensor b = in.differentiated[3].repeat_interleave(repeat, 1);
  const at::Tensor c = in.differentiated[4].repeat_interleave(repeat, 1);
  at::Tensor state = in.state;
  std::vector<at::Tensor> rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const at::Tensor added = x[t].mul(dt[t].unsqueeze(1)).unsqueeze(2).mul(b[t].unsqueeze(1));
    state = state.mul(dt[t].mul(decay).exp().view({-1, 1, 1})).add(added);
    rows.push_back(state.mul(c[t].unsqueeze(1)).sum(-1));
  }
  return at::stack(rows);
}

std::vector<at::Tensor> GradientsThrough(const ScanInputs& in, const at::Tensor& y) {
  return torch::autograd::grad({y.mul(in.weights).sum()}, in.differentiated);
}

TEST(Mamba2ScanGradient, IsThatOfTheRecurrence) {
  const char* names[] = {"x", "dt", "decay", "b", "c"};
  struct Case {
    int64_t tokens, heads, groups, chunk;
  };
  // One chunk, a last one that is not full, several heads a group, states chained in one and in two
  // levels (more than 256 chunks).
  for (const Case& one :
       {Case{5, 4, 4, 8}, Case{8, 4, 2, 8}, Case{27, 4, 1, 8}, Case{64, 2, 2, 16},
        Case{290, 4, 2, 4}, Case{1280, 4, 1, 4}, Case{1100, 4, 2, 4}, Case{2200, 2, 1, 1}}) {
    for (const double fastest : {2.0, 60.0}) {
      const ScanInputs in(one.tokens, one.heads, one.groups, at::kDouble, fastest);
      const auto& d = in.differentiated;
      const at::Tensor y = Mamba2Scan(d[0], d[1], d[2], d[3], d[4], in.state.clone(), one.chunk);
      const at::Tensor literal = Recurrence(in);
      EXPECT_TRUE(y.allclose(literal, 1e-10, 1e-10));
      const auto measured = GradientsThrough(in, y), expected = GradientsThrough(in, literal);
      for (size_t i = 0; i < measured.size(); ++i) {
        const double scale = expected[i].abs().max().item<double>();
        const double off = measured[i].sub(expected[i]).abs().max().item<double>();
        EXPECT_LT(off, 1e-11 * scale)
            << names[i] << ", " << one.tokens << " tokens, chunks of " << one.chunk << ", "
            << one.groups << " groups, decays to -" << fastest;
      }
    }
  }
}

TEST(Mamba2ScanGradient, InFp32KeepsTheAccuracyOfItsProducts) {
  const ScanInputs in(300, 4, 2, at::kFloat, 2), exact = [&] {
    ScanInputs copy = in;
    for (at::Tensor& one : copy.differentiated) {
      one = one.detach().to(at::kDouble).requires_grad_(true);
    }
    copy.state = in.state.to(at::kDouble);
    copy.weights = in.weights.to(at::kDouble);
    return copy;
  }();
  const auto& d = in.differentiated;
  const auto measured =
      GradientsThrough(in, Mamba2Scan(d[0], d[1], d[2], d[3], d[4], in.state.clone(), 64));
  const auto expected = GradientsThrough(exact, Recurrence(exact));
  for (size_t i = 0; i < measured.size(); ++i) {
    const double scale = expected[i].abs().max().item<double>();
    EXPECT_LT(measured[i].sub(expected[i]).abs().max().item<double>(), 1e-5 * scale) << i;
  }
}

// Operations for which a GPU starts a kernel: all but views, allocations, what only calls others,
// and the zeros that some operations fill their results with on a CPU.
std::atomic<int> operations_started{0};
bool StartsKernel(const std::string& name) {
  static const std::string others =
      " _reshape_alias _unsafe_view as_strided cat_out clone constant_pad_nd contiguous detach "
      "empty empty_like empty_strided expand fill_ flatten narrow ones_like pad permute reshape "
      "resize_ resolve_conj select slice squeeze t to transpose unsqueeze view zero_ zeros "
      "zeros_like ";
  return name.starts_with("aten::") && others.find(" " + name.substr(6) + " ") == std::string::npos;
}

std::unique_ptr<at::ObserverContext> Count(const at::RecordFunction& function) {
  if (StartsKernel(function.name())) ++operations_started;
  return nullptr;
}

template <class Run>
int OperationsOf(const Run& run) {
  operations_started = 0;
  const auto handle =
      at::addGlobalCallback(at::RecordFunctionCallback(Count).scopes({at::RecordScope::FUNCTION}));
  run();
  at::removeCallback(handle);
  return operations_started;
}

TEST(Mamba2ScanGradient, TakesFewOperations) {
  const ScanInputs in(1024, 4, 4, at::kFloat, 2);
  const auto& d = in.differentiated;
  at::Tensor y;
  const int forward =
      OperationsOf([&] { y = Mamba2Scan(d[0], d[1], d[2], d[3], d[4], in.state.clone(), 64); });
  const at::Tensor loss = y.mul(in.weights).sum();
  const int backward = OperationsOf([&] { torch::autograd::grad({loss}, in.differentiated); });
  // Left to autograd, the same scan took 118 together.
  EXPECT_LE(forward, 30);
  EXPECT_LE(backward, 42);
}

}  // namespace
}  // namespace eidetic::model
