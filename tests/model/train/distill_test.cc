#include "model/train/distill.h"

#include <ATen/ops/log_softmax.h>
#include <gtest/gtest.h>

#include "model/error.h"
#include "model/train/adamw.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

// A teacher of two attention layers; a student of its size whose first layer is a mixer.
class Distill : public ::testing::Test {
 protected:
  Distill()
      : teacher_(OnTestDevice(*TinyLlama(), at::kDouble)),
        student_(OnTestDevice(*TinyGranite(), at::kDouble)) {
    for (const auto& [name, parameter] : student_.parameters()) {
      if (name.find(".mamba.") == std::string::npos) continue;
      parameter.set_requires_grad(true);
      mixer_.emplace_back(name, parameter);
    }
  }

  at::Tensor MixerLoss() const {
    return SumMixerLoss(teacher_, student_, ids_, targets_, TrainOptions(SequenceMode::kFull));
  }
  at::Tensor Divergence(double text_share = 0) const {
    return SumTeacherDivergence(teacher_, student_, ids_, targets_, text_share,
                                TrainOptions(SequenceMode::kFull));
  }
  void ExpectToLearn(const std::function<at::Tensor()>& loss, double share) {
    AdamW optimizer(mixer_, {});
    const double before = loss().item<double>();
    for (int step = 0; step < 40; ++step) {
      optimizer.ForgetGradients();
      loss().backward();
      optimizer.Step(3e-3);
    }
    EXPECT_LT(loss().item<double>(), share * before);
  }

  DifferentiableModel teacher_, student_;
  NamedTensors mixer_;
  const std::vector<int32_t> ids_ = RandomTokens(24, 24, 5), targets_ = NextTokens(ids_);
};

TEST_F(Distill, TheDivergenceIsThatOfAllLogitsWrittenOut) {
  const at::NoGradGuard no_gradient;
  const TrainForwardOptions options = TrainOptions(SequenceMode::kFull);
  const auto logs = [&](const DifferentiableModel& model) {
    return at::log_softmax(model.Logits(model.Hidden(ids_, options)), 1)
        .narrow(0, 0, static_cast<int64_t>(ids_.size()) - 1);  // the last has no target
  };
  const at::Tensor wanted = logs(teacher_), given = logs(student_);
  const double expected = wanted.exp().mul(wanted.sub(given)).sum().item<double>();
  EXPECT_GT(expected, 0);
  EXPECT_NEAR(Divergence().item<double>(), expected, 1e-9 * expected);
  const double of_text = student_.SumLoss(student_.Hidden(ids_, options), targets_).item<double>();
  EXPECT_NEAR(Divergence(0.25).item<double>(), 0.75 * expected + 0.25 * of_text, 1e-9 * expected);
}

TEST_F(Distill, AModelDoesNotDivergeFromItself) {
  const at::Tensor none = SumTeacherDivergence(student_, student_, ids_, targets_, 0,
                                               TrainOptions(SequenceMode::kFull));
  EXPECT_NEAR(none.item<double>(), 0, 1e-10);
  none.backward();
  for (const auto& [name, tensor] : mixer_) {
    EXPECT_LT(tensor.grad().abs().max().item<double>(), 1e-10) << name;
  }
}

TEST_F(Distill, GradientsAreThoseOfDifferences) {
  for (const double text_share : {-1.0, 0.0, 0.3}) {
    const auto loss = [&] { return text_share < 0 ? MixerLoss() : Divergence(text_share); };
    for (const auto& [name, tensor] : mixer_) tensor.mutable_grad() = at::Tensor();
    loss().backward();
    for (const auto& [name, tensor] : mixer_) {
      ASSERT_TRUE(tensor.grad().defined()) << name;
      const at::Tensor direction = NormalLike(tensor, 7);
      const double slope = tensor.grad().mul(direction).sum().item<double>();
      const at::NoGradGuard no_gradient;
      constexpr double kStep = 1e-5;
      tensor.add_(direction, kStep);
      const double above = loss().item<double>();
      tensor.sub_(direction, 2 * kStep);
      const double below = loss().item<double>();
      tensor.add_(direction, kStep);
      // Central differences err by the step's square and by rounding over the step.
      EXPECT_NEAR(slope, (above - below) / (2 * kStep), 1e-6 * (1 + std::abs(slope))) << name;
    }
  }
}

TEST_F(Distill, SequencesReadAtOnceHaveTheLossesOfEach) {
  const std::vector<int32_t> more = RandomTokens(24, 24, 6);
  std::vector<int32_t> masked = NextTokens(more), tokens = ids_, targets = targets_;
  std::fill(masked.begin(), masked.begin() + 10, kNoTarget);
  tokens.insert(tokens.end(), more.begin(), more.end());
  targets.insert(targets.end(), masked.begin(), masked.end());
  const TrainForwardOptions one = TrainOptions(SequenceMode::kFull);
  TrainForwardOptions both = one;
  both.sequences = 2;
  const at::NoGradGuard no_gradient;
  const double of_each = MixerLoss().item<double>() +
                         SumMixerLoss(teacher_, student_, more, masked, one).item<double>();
  EXPECT_NEAR(SumMixerLoss(teacher_, student_, tokens, targets, both).item<double>(), of_each,
              1e-9 * of_each);
  const double divergence =
      Divergence(0.3).item<double>() +
      SumTeacherDivergence(teacher_, student_, more, masked, 0.3, one).item<double>();
  EXPECT_NEAR(SumTeacherDivergence(teacher_, student_, tokens, targets, 0.3, both).item<double>(),
              divergence, 1e-9 * divergence);
}

TEST_F(Distill, MixersLearnTheAttentionTheyReplace) {
  ExpectToLearn([&] { return MixerLoss(); }, 0.7);
}

TEST_F(Distill, AStudentLearnsItsTeachersDistributions) {
  ExpectToLearn([&] { return Divergence(); }, 0.9);
}

TEST_F(Distill, ATeacherOfAnotherModelIsRefused) {
  EXPECT_NO_THROW(CheckTeacher(teacher_, student_));
  DifferentiableModel other = OnTestDevice(*TinyHybrid(), at::kDouble);
  for (const auto& [teacher, student, words] :
       {std::tuple(&other, &student_, "layers"), std::tuple(&student_, &teacher_, "is a mixer"),
        std::tuple(&teacher_, &teacher_, "no layer of the student")}) {
    try {
      CheckTeacher(*teacher, *student);
      ADD_FAILURE() << "no error about " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kMismatch);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace eidetic::model
