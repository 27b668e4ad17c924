// Cross entropy a few rows at a time against loops over all logits in double precision.
#include "model/train/cross_entropy.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "model/error.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

constexpr int kRows = 13, kWidth = 5, kVocabulary = 11;

struct LossCase {
  at::Tensor hidden = NormalLike(at::zeros({kRows, kWidth}, at::kDouble), 1);
  at::Tensor weight = NormalLike(at::zeros({kVocabulary, kWidth}, at::kDouble), 2);
  std::vector<int32_t> targets = RandomTokens(kRows, kVocabulary, 3);
  LossCase() {
    for (const int row : {0, 4, 5, 12}) targets[row] = kNoTarget;
    hidden.set_requires_grad(true);
    weight.set_requires_grad(true);
  }
};

double LiteralLoss(const LossCase& in, double divisor) {
  const std::vector<double> hidden = Doubles(in.hidden), weight = Doubles(in.weight);
  double loss = 0;
  for (int row = 0; row < kRows; ++row) {
    if (in.targets[row] == kNoTarget) continue;
    double sum = 0, correct = 0;
    for (int id = 0; id < kVocabulary; ++id) {
      double logit = 0;
      for (int i = 0; i < kWidth; ++i) logit += hidden[row * kWidth + i] * weight[id * kWidth + i];
      sum += std::exp(logit / divisor);
      if (id == in.targets[row]) correct = logit / divisor;
    }
    loss += std::log(sum) - correct;
  }
  return loss;
}

TEST(CrossEntropy, IsTheSumOfTheLossesOfRowsWithATarget) {
  const LossCase in;
  for (const double divisor : {1.0, 2.5}) {
    for (const int64_t rows : {1, 4, 9, 256}) {
      const at::Tensor loss = SumCrossEntropy(in.hidden, in.weight, in.targets, divisor, rows);
      EXPECT_NEAR(loss.item<double>(), LiteralLoss(in, divisor), 1e-12) << rows;
    }
  }
}

TEST(CrossEntropy, GradientsAreThoseOfFiniteDifferences) {
  const LossCase in;
  for (const int64_t rows : {1, 4, 256}) {
    in.hidden.mutable_grad() = in.weight.mutable_grad() = at::Tensor();
    // A factor behind it, as a mean over tokens has one.
    SumCrossEntropy(in.hidden, in.weight, in.targets, 2.5, rows).mul(0.25).backward();
    const auto value = [&] { return 0.25 * LiteralLoss(in, 2.5); };
    ExpectGradient("hidden", in.hidden, value);
    ExpectGradient("weight", in.weight, value);
  }
  for (int row = 0; row < kRows; ++row) {
    const double size = in.hidden.grad()[row].abs().sum().item<double>();
    EXPECT_EQ(size > 0, in.targets[row] != kNoTarget) << row;
  }
}

TEST(CrossEntropy, OfOneTrainedTensorHasThatGradientAlone) {
  const LossCase in;
  in.weight.set_requires_grad(false);
  SumCrossEntropy(in.hidden, in.weight, in.targets).backward();
  EXPECT_TRUE(in.hidden.grad().defined());
  EXPECT_FALSE(in.weight.grad().defined());
}

TEST(CrossEntropy, WithoutATargetIsZero) {
  LossCase in;
  in.targets.assign(kRows, kNoTarget);
  const at::Tensor loss = SumCrossEntropy(in.hidden, in.weight, in.targets);
  EXPECT_EQ(loss.item<double>(), 0);
  loss.backward();
  EXPECT_EQ(in.hidden.grad().abs().sum().item<double>(), 0);
}

TEST(CrossEntropy, OfManyRowsNeverHoldsTheirLogits) {
  // All logits would take 537 MB, their gradients as much again.
  const at::Tensor hidden = NormalLike(at::zeros({4096, 4}, at::kFloat), 4).set_requires_grad(true);
  const at::Tensor weight =
      NormalLike(at::zeros({32768, 4}, at::kFloat), 5).set_requires_grad(true);
  const std::vector<int32_t> targets = RandomTokens(4096, 32768, 6);
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  SumCrossEntropy(hidden, weight, targets, 1, 128).backward();
  getrusage(RUSAGE_SELF, &after);
#ifndef __SANITIZE_ADDRESS__  // which keeps what was given back for a while
  EXPECT_LT((after.ru_maxrss - before.ru_maxrss) / 1024, 250);
#endif
  EXPECT_TRUE(weight.grad().isfinite().all().item<bool>());
}

TEST(CrossEntropy, WrongTargetsAreErrorsThatNameThem) {
  LossCase in;
  const auto refuse = [&](const char* part, int64_t rows = 4) {
    try {
      SumCrossEntropy(in.hidden, in.weight, in.targets, 1, rows);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  refuse("rows is 0", 0);
  in.targets[3] = kVocabulary;
  refuse("target 3 is 11");
  in.targets[3] = -2;
  refuse("target 3 is -2");
  in.targets.pop_back();
  refuse("12 targets for 13 rows");
}

}  // namespace
}  // namespace eidetic::model
