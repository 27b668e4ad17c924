// A step is the same whichever sequences of its batch are read at once, or by one process.
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <thread>

#include "model/error.h"
#include "model/train/adapter.h"
#include "model/train/distill.h"
#include "model/train/train_group.h"
#include "model/train/train_step.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

struct StepTaken {
  TrainStepResult result;
  HostTensors moments;  // a share of the gradients, and of their squares
};

class MicroBatchTest : public ::testing::Test {
 protected:
  MicroBatchTest() {
    for (uint32_t i = 0; i < 4; ++i) sequences_.push_back({RandomTokens(60, 24, 30 + i), {}});
    options_.forward = TrainOptions(SequenceMode::kPaper);
    options_.forward.attention.chunk_sizes = {8, 16, 24};
    options_.largest_norm = 0;
    options_.seed = 5;
    kind_.targets = {"q_proj", "v_proj", "o_proj", "in_proj"};
    kind_.dropout = 0.1;
  }

  // Of one process, or of one of several.
  StepTaken Step(int64_t micro_batch, TrainGroup* group = nullptr) const {
    DifferentiableModel model(*TinyGranite(), OpenDevice(device_), at::kDouble);
    const Adapter adapter(kind_, &model);
    {
      const at::NoGradGuard no_gradient;  // B begins as zeros, and hides what A sees
      for (const auto& [name, tensor] : adapter.trained()) {
        if (name.find("lora_B") != std::string::npos) tensor.copy_(NormalLike(tensor, 6)).mul_(0.1);
      }
    }
    AdamW optimizer(adapter.trained(), {});
    TrainStepOptions options = options_;
    options.micro_batch = micro_batch;
    options.group = group;
    if (loss_of_) {
      options.loss = [&](const auto& tokens, const auto& targets, const auto& forward) {
        return loss_of_(model, tokens, targets, forward);
      };
    }
    StepTaken taken{TrainStep(model, sequences_, options, &optimizer), optimizer.Export()};
    EXPECT_TRUE(taken.result.stepped);
    return taken;
  }
  // Threads stand for processes.
  static void OnTwoProcesses(const std::function<void(TrainGroup*)>& work) {
    const TemporaryFolder folder;
    const auto run = [&](int process) {
      TrainGroup group(process, 2, folder / "meeting");
      work(&group);
      group.Wait();
    };
    std::jthread other([&] { run(1); });
    run(0);
    other.join();
  }
  // Rounding apart: products are of other sizes.
  static void ExpectSame(const StepTaken& given, const StepTaken& expected) {
    EXPECT_NEAR(given.result.loss, expected.result.loss, 1e-11 * expected.result.loss);
    EXPECT_NEAR(given.result.gradient_norm, expected.result.gradient_norm,
                1e-10 * expected.result.gradient_norm);
    for (const auto& [name, moments] : expected.moments) {
      float largest = 0;
      for (const float moment : moments.values) largest = std::max(largest, std::abs(moment));
      // Exported in single precision.
      EXPECT_LE(LargestDifference(given.moments.at(name).values, moments.values), 1e-6 * largest)
          << name;
    }
  }
  void ExpectSameHoweverTheyAreRead(const std::string& what) const {
    SCOPED_TRACE(what);
    const StepTaken alone = Step(1);
    for (const int64_t micro_batch : {2, 3, 4}) ExpectSame(Step(micro_batch), alone);
  }
  void Mask() {  // each sequence has a loss elsewhere, one on a single token
    for (size_t i = 0; i < sequences_.size(); ++i) {
      sequences_[i].predicted.assign(60, false);
      for (size_t token = 7 * i + 1; token < 60; token += i == 2 ? 60 : i + 1) {
        sequences_[i].predicted[token] = true;
      }
    }
  }

  std::string device_ = TestDevice();
  AdapterOptions kind_{.rank = 4, .alpha = 8};
  TrainStepOptions options_;
  std::vector<TrainSequence> sequences_;
  std::function<at::Tensor(const DifferentiableModel&, const std::vector<int32_t>&,
                           const std::vector<int32_t>&, const TrainForwardOptions&)>
      loss_of_;
};

TEST_F(MicroBatchTest, DrawsAreOfASequencesPlaceInTheBatchAlone) {
  for (const SequenceMode mode : {SequenceMode::kPaper, SequenceMode::kPaperRandom}) {
    for (const bool recompute : {false, true}) {
      options_.forward.attention.mode = mode;
      options_.forward.recompute = recompute;
      ExpectSameHoweverTheyAreRead(std::string(SequenceModeName(mode)));
    }
  }
}

TEST_F(MicroBatchTest, DrawsAreTheSameInWhicheverProcess) {
  device_ = "cpu";  // NCCL wants a GPU for each
  options_.forward.attention.mode = SequenceMode::kPaperRandom;
  const StepTaken alone = Step(1);
  for (const int64_t micro_batch : {1, 2}) {
    StepTaken of_each[2];
    OnTwoProcesses(
        [&](TrainGroup* group) { of_each[group->process()] = Step(micro_batch, group); });
    for (const StepTaken& taken : of_each) ExpectSame(taken, alone);
  }
}

// What no process has a gradient for is left alone, by weight decay too.
TEST_F(MicroBatchTest, ProcessesTouchWhatOneAloneWould) {
  const c10::Device cpu(c10::kCPU);                                   // NCCL wants a GPU for each
  const DifferentiableModel model(*TinyGranite(), cpu, at::kDouble);  // is not asked
  const auto step = [&](TrainGroup* group) {
    NamedTensors tensors;
    for (const char* name : {"of all", "of one", "of none"}) {
      const at::Tensor tensor = at::full({3}, 2.0, at::TensorOptions(at::kDouble));
      tensors.emplace_back(name, tensor.to(cpu).set_requires_grad(true));
    }
    AdamW optimizer(tensors, {.weight_decay = 0.5});
    TrainStepOptions options = options_;
    options.rate = 0.1;
    options.group = group;
    options.loss = [&](const auto& tokens, const auto&, const auto&) {
      const at::Tensor loss = tensors[0].second.square().sum();
      return tokens == sequences_[2].tokens ? loss.add(tensors[1].second.sum()) : loss;
    };
    EXPECT_TRUE(TrainStep(model, sequences_, options, &optimizer).stepped);
    std::vector<double> numbers;
    for (const auto& [name, tensor] : tensors) numbers.push_back(Doubles(tensor)[0]);
    return numbers;
  };
  const std::vector<double> alone = step(nullptr);
  EXPECT_LT(alone[0], 2);
  EXPECT_LT(alone[1], 2);
  EXPECT_EQ(alone[2], 2);
  std::vector<double> of_each[2];
  OnTwoProcesses([&](TrainGroup* group) { of_each[group->process()] = step(group); });
  for (const std::vector<double>& numbers : of_each) EXPECT_EQ(numbers, alone);
}

TEST_F(MicroBatchTest, SequencesDrawApartByTheirNumbers) {
  DifferentiableModel model = OnTestDevice(*TinyGranite(), at::kDouble);
  kind_.kind = AdapterKind::kLora;
  const Adapter adapter(kind_, &model);
  const at::NoGradGuard no_gradient;
  for (const auto& [name, tensor] : adapter.trained()) tensor.fill_(0.1);
  std::vector<int32_t> twice = sequences_[0].tokens;
  twice.insert(twice.end(), twice.begin(), twice.begin() + 60);
  const auto read = [&](const std::vector<int>& numbers, bool dropout) {
    TrainForwardOptions forward = TrainOptions(SequenceMode::kPaperRandom);
    forward.sequences = 2;
    forward.numbers = numbers;
    if (dropout) {
      forward.dropout_seed = 9;
      forward.attention.mode = SequenceMode::kFull;  // draws nothing
    }
    return model.Hidden(twice, forward).split(60);
  };
  for (const bool dropout : {false, true}) {
    const auto apart = read({0, 1}, dropout), turned = read({1, 0}, dropout);
    EXPECT_GT(apart[0].sub(apart[1]).abs().max().item<double>(), 1e-3);
    for (const auto& [a, b] : {std::pair(apart[0], turned[1]),
                               {apart[1], turned[0]},
                               {read({3, 3}, dropout)[0], read({3, 3}, dropout)[1]},
                               {read({}, dropout)[0], read({}, dropout)[1]}}) {
      EXPECT_LT(a.sub(b).abs().max().item<double>(), 1e-12);
    }
  }
  EXPECT_THROW(read({0, 1, 2}, false), Error);
}

TEST_F(MicroBatchTest, LossesMayBeOnSomeTokensOfEach) {
  Mask();
  for (const SequenceMode mode : {SequenceMode::kPaper, SequenceMode::kStream}) {
    options_.forward.attention.mode = mode;
    ExpectSameHoweverTheyAreRead(std::string(SequenceModeName(mode)));
  }
}

TEST_F(MicroBatchTest, WholeMixersTakeTheSameStep) {
  Mask();
  kind_.kind = AdapterKind::kMixers;
  const HostTensors moments = Step(4).moments;
  for (const char* name : {"A_log", "dt_bias", "D", "in_proj.weight", "conv1d.bias"}) {
    const auto& values =
        moments.at("model.layers.0.mamba." + std::string(name) + ".first_moment").values;
    EXPECT_TRUE(std::any_of(values.begin(), values.end(), [](float value) { return value != 0; }))
        << name;
  }
  ExpectSameHoweverTheyAreRead("mixers");
}

TEST_F(MicroBatchTest, StudentsTakeTheSameStep) {
  Mask();
  kind_.kind = AdapterKind::kMixers;
  const DifferentiableModel teacher = OnTestDevice(*TinyLlama(), at::kDouble);
  for (const bool recompute : {false, true}) {
    options_.forward.recompute = recompute;
    loss_of_ = [&](const auto& student, const auto& tokens, const auto& targets,
                   const auto& forward) {
      return SumMixerLoss(teacher, student, tokens, targets, forward);
    };
    ExpectSameHoweverTheyAreRead("mixers alone");
    loss_of_ = [&](const auto& student, const auto& tokens, const auto& targets,
                   const auto& forward) {
      return SumTeacherDivergence(teacher, student, tokens, targets, 0.3, forward);
    };
    ExpectSameHoweverTheyAreRead("teacher");
  }
}

}  // namespace
}  // namespace eidetic::model
