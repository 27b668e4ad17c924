// AdamW against its formula, and whole steps of training.
#include "model/train/train_step.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "model/error.h"
#include "model/train/adapter.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

NamedTensors TwoTensors(at::ScalarType type) {
  NamedTensors tensors;
  for (const int64_t size : {3, 5}) {
    const at::Tensor tensor = NormalLike(at::zeros({size}, type), static_cast<uint32_t>(size));
    tensors.emplace_back("t" + std::to_string(size), tensor.set_requires_grad(true));
  }
  return tensors;
}

void SetGradients(const NamedTensors& tensors, uint32_t seed) {
  for (const auto& [name, tensor] : tensors) {
    tensor.mutable_grad() = NormalLike(tensor, seed + static_cast<uint32_t>(tensor.numel()));
  }
}

TEST(AdamW, TakesTheStepsOfItsFormula) {
  AdamWOptions options;
  options.beta1 = 0.8;
  options.beta2 = 0.95;
  options.epsilon = 1e-3;
  options.weight_decay = 0.1;
  const NamedTensors tensors = TwoTensors(at::kDouble);
  AdamW optimizer(tensors, options);
  std::vector<std::vector<double>> w, m(2), v(2);
  for (const auto& [name, tensor] : tensors) w.push_back(Doubles(tensor));
  for (int t = 1; t <= 4; ++t) {
    SetGradients(tensors, 10 * t);
    const double rate = 0.1 / t;
    for (int i = 0; i < 2; ++i) {
      const std::vector<double> g = Doubles(tensors[i].second.grad());
      m[i].resize(g.size());
      v[i].resize(g.size());
      for (size_t j = 0; j < g.size(); ++j) {
        m[i][j] = 0.8 * m[i][j] + 0.2 * g[j];
        v[i][j] = 0.95 * v[i][j] + 0.05 * g[j] * g[j];
        const double first = m[i][j] / (1 - std::pow(0.8, t));
        const double second = v[i][j] / (1 - std::pow(0.95, t));
        w[i][j] -= rate * (0.1 * w[i][j] + first / (std::sqrt(second) + 1e-3));
      }
    }
    optimizer.Step(rate);
    for (int i = 0; i < 2; ++i) {
      const std::vector<double> now = Doubles(tensors[i].second);
      for (size_t j = 0; j < now.size(); ++j) EXPECT_NEAR(now[j], w[i][j], 1e-14);
    }
  }
  EXPECT_EQ(optimizer.steps(), 4);
}

TEST(AdamW, GoesOnFromItsMomentsAsIfItHadNotStopped) {
  const NamedTensors tensors = TwoTensors(at::kFloat);
  AdamW whole(tensors, {});
  SetGradients(tensors, 1);
  whole.Step(0.1);
  std::vector<std::vector<double>> kept;
  for (const auto& [name, tensor] : tensors) kept.push_back(Doubles(tensor));
  const HostTensors moments = whole.Export();
  const NamedTensors copies = TwoTensors(at::kFloat);
  {
    const at::NoGradGuard no_gradient;
    for (int i = 0; i < 2; ++i) copies[i].second.copy_(tensors[i].second);
  }
  AdamW resumed(copies, {});
  resumed.Import(moments, whole.steps());
  for (AdamW* optimizer : {&whole, &resumed}) {
    SetGradients(optimizer->trained(), 2);
    optimizer->Step(0.1);
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(tensors[i].second.equal(copies[i].second));
    EXPECT_NE(Doubles(tensors[i].second), kept[i]);
  }
  HostTensors wrong = moments;
  wrong.erase("t5.second_moment");
  EXPECT_THROW(resumed.Import(wrong, 1), Error);
  EXPECT_THROW(resumed.Import(moments, -1), Error);
}

TEST(AdamW, RestartedItStepsAsItDidAtFirst) {
  const NamedTensors tensors = TwoTensors(at::kFloat), fresh = TwoTensors(at::kFloat);
  AdamW restarted(tensors, {}), first(fresh, {});
  SetGradients(tensors, 1);
  restarted.Step(0.1);
  {
    const at::NoGradGuard no_gradient;
    for (int i = 0; i < 2; ++i) tensors[i].second.copy_(fresh[i].second);
  }
  restarted.Restart();
  EXPECT_EQ(restarted.steps(), 1);
  const NamedTensors resumed_tensors = TwoTensors(at::kFloat);
  AdamW resumed(resumed_tensors, {});
  resumed.Import(restarted.Export(), 1, 1);
  for (AdamW* optimizer : {&restarted, &first, &resumed}) {
    SetGradients(optimizer->trained(), 2);
    optimizer->Step(0.1);
    SetGradients(optimizer->trained(), 3);
    optimizer->Step(0.1);
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(tensors[i].second.equal(fresh[i].second));
    EXPECT_TRUE(resumed_tensors[i].second.equal(fresh[i].second));
  }
  EXPECT_THROW(resumed.Import(restarted.Export(), 1, 2), Error);
}

TEST(AdamW, ClipsByTheNormOfAllGradientsTogether) {
  const NamedTensors tensors = TwoTensors(at::kDouble);
  AdamW optimizer(tensors, {});
  SetGradients(tensors, 3);
  std::vector<double> before;
  double squares = 0;
  for (const auto& [name, tensor] : tensors) {
    for (const double number : Doubles(tensor.grad())) {
      before.push_back(number);
      squares += number * number;
    }
  }
  const double norm = std::sqrt(squares);
  const auto expect_scaled = [&](double factor) {
    size_t next = 0;
    for (const auto& [name, tensor] : tensors) {
      for (const double number : Doubles(tensor.grad())) {
        EXPECT_NEAR(number, factor * before[next++], 1e-14);
      }
    }
  };
  EXPECT_NEAR(optimizer.ClipGradients(0), norm, 1e-14);
  EXPECT_NEAR(optimizer.ClipGradients(2 * norm), norm, 1e-14);
  expect_scaled(1);
  EXPECT_NEAR(optimizer.ClipGradients(norm / 4), norm, 1e-14);
  expect_scaled(0.25);
}

TEST(AdamW, OptionsOutOfRangeAreErrors) {
  EXPECT_THROW(AdamW({}, {.beta1 = 1}), Error);
  EXPECT_THROW(AdamW({}, {.beta2 = -0.1}), Error);
  EXPECT_THROW(AdamW({}, {.weight_decay = NAN}), Error);
}

struct Training {
  DifferentiableModel model;
  Adapter adapter;
  AdamW optimizer;
  TrainStepOptions options;
  explicit Training(const Checkpoint& checkpoint, at::ScalarType type = at::kFloat,
                    AdapterKind kind = AdapterKind::kHylora, double dropout = 0)
      : model(checkpoint, OpenDevice(TestDevice()), type),
        adapter({.kind = kind,
                 .rank = 4,
                 .alpha = 8,
                 .dropout = dropout,
                 .targets = {"q_proj", "v_proj"}},
                &model),
        optimizer(adapter.trained(), {}) {
    options.forward = TrainOptions(SequenceMode::kPaper);
    options.rate = 1e-2;
  }
  TrainStepResult Step(const std::vector<TrainSequence>& sequences) {
    return TrainStep(model, sequences, options, &optimizer);
  }
};

TEST(TrainStep, SequencesAddUpToTheGradientOfAllTheirPredictedTokens) {
  const auto checkpoint = TinyGranite();
  // A gradient clipped to nearly nothing makes Adam's first step show its direction only; so the
  // norm before clipping is compared, and the loss with literal ones.
  Training training(*checkpoint, at::kDouble);
  const auto ids = RandomTokens(40, training.model.config().vocabulary, 1);
  const auto more = RandomTokens(25, training.model.config().vocabulary, 2);
  std::vector<bool> some(25);
  for (int i = 5; i < 25; i += 3) some[i] = true;
  const std::vector<TrainSequence> sequences = {{ids, {}}, {more, some}};

  at::Tensor sum = at::zeros({}, at::kDouble).to(OpenDevice(TestDevice()));
  for (const TrainSequence& sequence : sequences) {
    const at::Tensor logits =
        training.model.Logits(training.model.Hidden(sequence.tokens, training.options.forward));
    const at::Tensor chances = logits.softmax(1).log();
    for (size_t i = 1; i < sequence.tokens.size(); ++i) {
      if (!sequence.predicted.empty() && !sequence.predicted[i]) continue;
      sum = sum.sub(chances[static_cast<int64_t>(i) - 1][sequence.tokens[i]]);
    }
  }
  const at::Tensor mean = sum.div(39 + 7);
  mean.backward();
  double squares = 0;
  for (const auto& [name, tensor] : training.adapter.trained()) {
    squares += tensor.grad().square().sum().item<double>();
  }
  EXPECT_NEAR(MeanLoss(training.model, sequences, training.options.forward), mean.item<double>(),
              1e-12);
  const TrainStepResult result = training.Step(sequences);
  EXPECT_EQ(result.predicted_tokens, 46);
  EXPECT_NEAR(result.loss, mean.item<double>(), 1e-12);
  EXPECT_NEAR(result.gradient_norm, std::sqrt(squares), 1e-12);
  EXPECT_TRUE(result.stepped);
  for (const auto& [name, tensor] : training.adapter.trained()) {
    EXPECT_FALSE(tensor.grad().defined()) << name;
  }
}

// Rounding apart: products are of other sizes.
TEST(TrainStep, SequencesReadAtOnceKnowNothingOfEachOther) {
  for (const SequenceMode mode : kAllModes) {
    for (const bool recompute : {false, true}) {
      std::vector<HostTensors> trained;
      for (const int64_t micro_batch : {1, 2, 5}) {
        DifferentiableModel model = OnTestDevice(*TinyHybrid(), at::kDouble);
        Adapter adapter({}, &model);
        AdamW optimizer(adapter.trained(), {});
        TrainStepOptions options;
        options.forward = TrainOptions(mode);
        options.forward.recompute = recompute;
        options.micro_batch = micro_batch;
        std::vector<TrainSequence> sequences;
        for (const int length : {150, 150, 150, 40, 40}) {
          sequences.push_back(
              {RandomTokens(length, 96, static_cast<uint32_t>(sequences.size() + 1)), {}});
        }
        EXPECT_TRUE(TrainStep(model, sequences, options, &optimizer).stepped);
        trained.push_back(optimizer.Export());  // moments: what gradients were
      }
      for (const auto& [name, alone] : trained[0]) {
        double largest = 0;
        for (const float value : alone.values) largest = std::max(largest, std::abs(double{value}));
        for (size_t i = 0; i < alone.values.size(); ++i) {
          for (const HostTensors& joined : {trained[1], trained[2]}) {
            // Exported in single precision.
            ASSERT_NEAR(joined.at(name).values[i], alone.values[i], 1e-6 * largest + 1e-12)
                << SequenceModeName(mode) << " " << name;
          }
        }
      }
    }
  }
}

TEST(TrainStep, OverfitsAShortTextTheSameFromTheSameSeed) {
  const auto train = [](uint64_t seed) {
    Training training(*TinyHybrid(), at::kFloat, AdapterKind::kHylora, /*dropout=*/0.05);
    training.options.seed = seed;
    training.options.forward.recompute = true;
    // More than a chunk; a token does not tell the next one, so a table of pairs is not enough.
    std::vector<int32_t> ids = RandomTokens(48, 6, 3);
    const std::vector<TrainSequence> text = {{ids, {}}};
    std::vector<double> losses;
    for (int step = 0; step < 150; ++step) {
      training.options.rate = RateOfStep(step, 2e-2, 10);
      losses.push_back(training.Step(text).loss);
    }
    losses.push_back(MeanLoss(training.model, text, training.options.forward));
    return losses;
  };
  const std::vector<double> losses = train(1);
  EXPECT_GT(losses.front(), 1.5);  // ln 6 is 1.8
  EXPECT_LT(losses.back(), 0.2);
  EXPECT_EQ(train(1), losses);
  EXPECT_NE(train(2), losses);
}

TEST(TrainStep, WithANumberThatIsNotFiniteChangesNothing) {
  Training training(*TinyLlama());
  const auto ids = RandomTokens(20, training.model.config().vocabulary, 4);
  {
    const at::NoGradGuard no_gradient;
    training.adapter.trained().front().second.fill_(1e38f);  // overflows in the product with x
    training.adapter.trained()[1].second.fill_(1e38f);
  }
  const HostTensors before = training.adapter.Export();
  const TrainStepResult result = training.Step({{ids, {}}});
  EXPECT_FALSE(result.stepped);
  EXPECT_EQ(training.optimizer.steps(), 0);
  for (const auto& [name, tensor] : training.adapter.Export()) {
    EXPECT_EQ(tensor.values, before.at(name).values) << name;
  }
}

TEST(TrainStep, WrongCallsAreErrorsThatNameWhatIsWrong) {
  Training training(*TinyLlama());
  const auto refuse = [&](const std::vector<TrainSequence>& sequences, const char* part) {
    try {
      training.Step(sequences);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      for (const auto& [name, tensor] : training.adapter.trained()) {
        EXPECT_FALSE(tensor.grad().defined()) << name;
      }
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  refuse({}, "0 sequences");
  refuse({{{1}, {}}}, "1 sequences");
  refuse({{{1, 2}, {true, false}}}, "predicted");
  refuse({{{1, 2}, {true}}}, "2 tokens");
  refuse({{{1, 2}, {}}, {{1, 24}, {}}}, "24");  // the first one's gradients are forgotten
  training.adapter.Merge();
  refuse({{{1, 2}, {}}}, "nothing of the model is trained");
}

TEST(TrainStep, RatesGrowEvenlyOverTheWarmUp) {
  EXPECT_EQ(RateOfStep(0, 0.2, 20), 0.01);
  EXPECT_EQ(RateOfStep(9, 0.2, 20), 0.1);
  EXPECT_EQ(RateOfStep(19, 0.2, 20), 0.2);
  EXPECT_EQ(RateOfStep(500, 0.2, 20), 0.2);
  EXPECT_EQ(RateOfStep(0, 0.2, 0), 0.2);
}

}  // namespace
}  // namespace eidetic::model
