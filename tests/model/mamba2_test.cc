// The chunked scan and the step against the recurrence as it is written, in double precision.
#include "model/mamba2.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "model/device.h"
#include "model/mamba2_scan.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

at::Tensor OnDevice(const at::Tensor& tensor) {
  return tensor.to(OpenDevice(TestDevice()));
}

struct Sizes {
  int length, heads, head_dim, groups, state;
};

at::Tensor Random(std::vector<int64_t> sizes, std::mt19937* random, double low, double high) {
  at::Tensor tensor = at::zeros(sizes, at::kFloat);
  std::uniform_real_distribution<float> draw(static_cast<float>(low), static_cast<float>(high));
  float* values = tensor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) values[i] = draw(*random);
  return tensor;
}

struct Inputs {
  Sizes sizes;
  at::Tensor x, dt, decay, b, c, state;
  Inputs(const Sizes& s, uint32_t seed, double dt_high = 1.5) : sizes(s) {
    std::mt19937 random(seed);
    x = Random({s.length, s.heads, s.head_dim}, &random, -1, 1);
    dt = Random({s.length, s.heads}, &random, 0.01, dt_high);
    decay = Random({s.heads}, &random, -2, -0.05);
    b = Random({s.length, s.groups, s.state}, &random, -1, 1);
    c = Random({s.length, s.groups, s.state}, &random, -1, 1);
    state = Random({s.heads, s.head_dim, s.state}, &random, -1, 1);
  }
  void MoveToDevice() {
    for (at::Tensor* tensor : {&x, &dt, &decay, &b, &c, &state}) *tensor = OnDevice(*tensor);
  }
};

// S_t = exp(dt A) S_{t-1} + dt x B^T, y = S C: y [L, H, P] and the last S.
struct Literal {
  std::vector<double> y, state;
  explicit Literal(const Inputs& in) {
    const Sizes& s = in.sizes;
    const float* x = in.x.const_data_ptr<float>();
    const float* dt = in.dt.const_data_ptr<float>();
    const float* decay = in.decay.const_data_ptr<float>();
    const float* b = in.b.const_data_ptr<float>();
    const float* c = in.c.const_data_ptr<float>();
    const float* first = in.state.const_data_ptr<float>();
    state.assign(first, first + in.state.numel());
    for (int t = 0; t < s.length; ++t) {
      for (int h = 0; h < s.heads; ++h) {
        const int g = h / (s.heads / s.groups);
        const double step = dt[t * s.heads + h];
        for (int p = 0; p < s.head_dim; ++p) {
          double sum = 0;
          for (int n = 0; n < s.state; ++n) {
            double& cell = state[(h * s.head_dim + p) * s.state + n];
            cell = std::exp(step * decay[h]) * cell + step * x[(t * s.heads + h) * s.head_dim + p] *
                                                          b[(t * s.groups + g) * s.state + n];
            sum += cell * c[(t * s.groups + g) * s.state + n];
          }
          y.push_back(sum);
        }
      }
    }
  }
};

double LargestDifference(const at::Tensor& tensor, const std::vector<double>& expected) {
  const at::Tensor values = tensor.contiguous().cpu();
  if (values.numel() != static_cast<int64_t>(expected.size())) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(values.const_data_ptr<float>()[i] - expected[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

// Sums of up to state x chunk products of order 1 in fp32.
constexpr double kTolerance = 1e-4;

class Mamba2ScanTest : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(Mamba2ScanTest, EqualsTheRecurrenceFromAnInitialState) {
  const auto [length, groups] = GetParam();
  for (const int chunk : {4, 16, 64}) {
    Inputs in({length, 4, 8, groups, 8}, 31);
    const Literal expected(in);
    in.MoveToDevice();
    const at::Tensor state = in.state.clone();
    const at::Tensor y = Mamba2Scan(in.x, in.dt, in.decay, in.b, in.c, state, chunk);
    EXPECT_LT(LargestDifference(y, expected.y), kTolerance) << "chunk " << chunk;
    EXPECT_LT(LargestDifference(state, expected.state), kTolerance) << "chunk " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(LengthsAroundTheChunk, Mamba2ScanTest,
                         testing::Combine(testing::Values(1, 3, 15, 16, 17, 63, 64, 65, 200),
                                          testing::Values(1, 2, 4)));

TEST(Mamba2ScanTest, EqualsTheRecurrenceBeyondWhatIsScannedAtOnce) {
  Inputs in({4500, 2, 4, 1, 4}, 32);
  const Literal expected(in);
  in.MoveToDevice();
  const at::Tensor state = in.state.clone();
  const at::Tensor y = Mamba2Scan(in.x, in.dt, in.decay, in.b, in.c, state, 64);
  EXPECT_LT(LargestDifference(y, expected.y), kTolerance);
  EXPECT_LT(LargestDifference(state, expected.state), kTolerance);
}

TEST(Mamba2ScanTest, StaysFiniteWhereDifferencesOfSumsWouldOverflowExp) {
  // dt A reaches -400 a token: above the diagonal exp would be infinite, and 0 times that NaN.
  Inputs in({150, 2, 4, 2, 4}, 33, /*dt_high=*/200);
  const Literal expected(in);
  in.MoveToDevice();
  const at::Tensor state = in.state.clone();
  const at::Tensor y = Mamba2Scan(in.x, in.dt, in.decay, in.b, in.c, state, 64);
  EXPECT_LT(LargestDifference(y, expected.y), 200 * kTolerance);
  EXPECT_LT(LargestDifference(state, expected.state), 200 * kTolerance);
}

TEST(Mamba2StepTest, EqualsTheRecurrence) {
  for (const int groups : {1, 2, 4}) {
    Inputs in({40, 4, 8, groups, 8}, 34);
    const Literal expected(in);
    in.MoveToDevice();
    const at::Tensor state = in.state.clone();
    std::vector<at::Tensor> rows;
    for (int t = 0; t < in.sizes.length; ++t) {
      rows.push_back(Mamba2Step(in.x.narrow(0, t, 1), in.dt.narrow(0, t, 1), in.decay,
                                in.b.narrow(0, t, 1), in.c.narrow(0, t, 1), state));
    }
    EXPECT_LT(LargestDifference(at::cat(rows, 0), expected.y), kTolerance);
    EXPECT_LT(LargestDifference(state, expected.state), kTolerance);
  }
}

// The mixer as mamba2.h writes it, in double, over whole sequences.
std::vector<double> LiteralMix(const Mamba2Weights& w, const MambaConfig& m, double epsilon,
                               const at::Tensor& u) {
  const int length = static_cast<int>(u.size(0)), hidden = static_cast<int>(u.size(1));
  const int inner = m.Inner(), channels = m.ConvChannels(), width = inner + channels + m.heads;
  const auto at2 = [](const at::Tensor& t, int64_t i, int64_t j) {
    return static_cast<double>(t.const_data_ptr<float>()[i * t.size(1) + j]);
  };
  const auto at1 = [](const at::Tensor& t, int64_t i) {
    return static_cast<double>(t.const_data_ptr<float>()[i]);
  };
  const auto silu = [](double v) { return v / (1 + std::exp(-v)); };
  std::vector<double> projected(length * width), convolved(length * channels), y;
  for (int t = 0; t < length; ++t) {
    for (int j = 0; j < width; ++j) {
      for (int i = 0; i < hidden; ++i)
        projected[t * width + j] += at2(u, t, i) * at2(w.in_proj, j, i);
    }
  }
  for (int t = 0; t < length; ++t) {
    for (int c = 0; c < channels; ++c) {
      double sum = at1(w.conv_bias, c);
      for (int k = 0; k < m.conv_width; ++k) {
        const int from = t - (m.conv_width - 1) + k;
        if (from >= 0) sum += at2(w.conv, k, c) * projected[from * width + inner + c];
      }
      convolved[t * channels + c] = silu(sum);
    }
  }
  std::vector<double> state(inner * m.state);
  for (int t = 0; t < length; ++t) {
    const double* row = &convolved[t * channels];
    std::vector<double> out(inner);
    for (int h = 0; h < m.heads; ++h) {
      const double raw = projected[t * width + inner + channels + h] + at1(w.dt_bias, h);
      const double dt = std::log1p(std::exp(raw)), a = std::exp(dt * at1(w.decay, h));
      const int g = h / (m.heads / m.groups);
      for (int p = 0; p < m.head_dim; ++p) {
        const int i = h * m.head_dim + p;
        for (int n = 0; n < m.state; ++n) {
          double& cell = state[i * m.state + n];
          cell = a * cell + dt * row[i] * row[inner + g * m.state + n];
          out[i] += cell * row[inner + (m.groups + g) * m.state + n];
        }
        out[i] = (out[i] + at1(w.skip, h) * row[i]) * silu(projected[t * width + i]);
      }
    }
    const int size = inner / m.groups;
    for (int g = 0; g < m.groups; ++g) {
      double squares = 0;
      for (int i = 0; i < size; ++i) squares += out[g * size + i] * out[g * size + i];
      for (int i = 0; i < size; ++i) {
        y.push_back(out[g * size + i] / std::sqrt(squares / size + epsilon) *
                    at1(w.gated_norm, g * size + i));
      }
    }
  }
  return y;
}

TEST(Mamba2MixTest, EqualsItsFormulasInSegmentsOfAnyLength) {
  MambaConfig config;
  config.heads = 4;
  config.head_dim = 6;
  config.state = 5;
  config.groups = 2;
  config.conv_width = 4;
  const int hidden = 16, inner = config.Inner(), channels = config.ConvChannels();
  std::mt19937 random(35);
  Mamba2Weights weights;
  weights.in_proj = Random({inner + channels + config.heads, hidden}, &random, -0.5, 0.5);
  weights.conv = Random({config.conv_width, channels}, &random, -0.6, 0.6);
  weights.conv_bias = Random({channels}, &random, -0.2, 0.2);
  weights.dt_bias = Random({config.heads}, &random, -1, 0.5);
  weights.decay = Random({config.heads}, &random, -2, -0.1);
  weights.skip = Random({config.heads, 1}, &random, -1, 1);
  weights.gated_norm = Random({config.groups, inner / config.groups}, &random, 0.5, 1.5);
  at::Tensor u = Random({150, hidden}, &random, -1, 1);
  const std::vector<double> expected = LiteralMix(weights, config, 1e-4, u);
  for (at::Tensor* tensor : {&weights.in_proj, &weights.conv, &weights.conv_bias, &weights.dt_bias,
                             &weights.decay, &weights.skip, &weights.gated_norm, &u}) {
    *tensor = OnDevice(*tensor);
  }
  for (const int64_t segment : {1, 2, 3, 7, 64, 70, 150}) {
    Mamba2State state;
    state.ssm = OnDevice(at::zeros({config.heads, config.head_dim, config.state}, at::kFloat));
    state.conv = OnDevice(at::zeros({config.conv_width - 1, channels}, at::kFloat));
    std::vector<at::Tensor> rows;
    for (int64_t first = 0; first < u.size(0); first += segment) {
      rows.push_back(Mamba2Mix(weights, config, 1e-4,
                               u.narrow(0, first, std::min(segment, u.size(0) - first)), state));
    }
    EXPECT_LT(LargestDifference(at::cat(rows, 0), expected), kTolerance) << "segment " << segment;
  }
}

}  // namespace
}  // namespace eidetic::model
