// What is computed again in backward gives the same gradients, and is not kept until then.
#include "model/train/recompute.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <map>

#include "model/train/distill.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

// Bytes of tensors that this thread has made and not yet freed.
class LiveBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    bytes_ += size;
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

struct Pass {
  int64_t kept_bytes = 0;  // between forward and backward
  std::map<std::string, at::Tensor> gradients;
};

Pass PassOf(const DifferentiableModel& model, const std::function<at::Tensor()>& loss_of) {
  for (const auto& [name, parameter] : model.parameters()) parameter.mutable_grad() = at::Tensor();
  Pass pass;
  at::Tensor loss;
  {
    const auto live = std::make_shared<LiveBytes>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    loss = loss_of();
    pass.kept_bytes = live->bytes();
  }
  loss.backward();
  for (const auto& [name, parameter] : model.parameters()) {
    if (parameter.grad().defined()) pass.gradients[name] = parameter.grad();
  }
  return pass;
}

void ExpectLessIsKeptForTheSameGradients(const Pass& plain, const Pass& recomputed) {
  EXPECT_LT(recomputed.kept_bytes, plain.kept_bytes / 3);
  EXPECT_GT(recomputed.kept_bytes, 0);
  ASSERT_EQ(recomputed.gradients.size(), plain.gradients.size());
  for (const auto& [name, gradient] : plain.gradients) {
    EXPECT_TRUE(recomputed.gradients.at(name).equal(gradient)) << name;
    EXPECT_GT(gradient.abs().sum().item<double>(), 0) << name;
  }
}

// A teacher of two attention layers; a student of its size whose first layer is a mixer.
class RecomputeTest : public ::testing::Test {
 protected:
  RecomputeTest()
      : teacher_(OnTestDevice(*TinyLlama(), at::kFloat)),
        student_(OnTestDevice(*TinyGranite(), at::kFloat)) {
    options_.sequences = 2;
    for (const auto& [name, parameter] : student_.parameters()) {
      parameter.set_requires_grad(name.find(".mamba.") != std::string::npos);
    }
  }
  void ExpectLessIsKept(const std::function<at::Tensor(const TrainForwardOptions&)>& loss_of) {
    TrainForwardOptions recomputing = options_;
    recomputing.recompute = true;
    loss_of(options_);  // tables of angles are made once
    const Pass plain = PassOf(student_, [&] { return loss_of(options_); });
    EXPECT_GT(plain.gradients.size(), 5u);
    ExpectLessIsKeptForTheSameGradients(plain,
                                        PassOf(student_, [&] { return loss_of(recomputing); }));
  }

  DifferentiableModel teacher_, student_;
  TrainForwardOptions options_ = TrainOptions(SequenceMode::kFull);
  const std::vector<int32_t> ids_ = RandomTokens(128, 24, 5), targets_ = NextTokens(ids_);
};

TEST_F(RecomputeTest, LayersKeepWhatEntersThem) {
  ExpectLessIsKept([&](const TrainForwardOptions& options) {
    return student_.SumLoss(student_.Hidden(ids_, options), targets_);
  });
}

TEST_F(RecomputeTest, MixersThatLearnAloneKeepWhatEntersThem) {
  ExpectLessIsKept([&](const TrainForwardOptions& options) {
    return SumMixerLoss(teacher_, student_, ids_, targets_, options);
  });
}

TEST_F(RecomputeTest, StudentsKeepWhatEntersTheirLayers) {
  ExpectLessIsKept([&](const TrainForwardOptions& options) {
    return SumTeacherDivergence(teacher_, student_, ids_, targets_, 0.5, options);
  });
}

// Attention by itself, with a span that the second pass must not choose again.
TEST_F(RecomputeTest, AttentionAloneGivesTheSameGradients) {
  options_ = TrainOptions(SequenceMode::kStream);
  for (const auto& [name, parameter] : student_.parameters()) {
    parameter.set_requires_grad(name.find(".layers.1.self_attn.") != std::string::npos);
  }
  const at::Tensor hidden =
      NormalLike(at::empty({128, student_.config().hidden}), 4).to(OpenDevice(TestDevice()));
  std::vector<Pass> passes;
  for (const bool recompute : {false, true}) {
    options_.recompute = recompute;
    passes.push_back(
        PassOf(student_, [&] { return student_.Mixed(1, hidden, options_).square().sum(); }));
  }
  EXPECT_EQ(passes[0].gradients.size(), 4u);
  ExpectLessIsKeptForTheSameGradients(passes[0], passes[1]);
}

}  // namespace
}  // namespace eidetic::model
