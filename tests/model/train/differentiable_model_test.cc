// The differentiable forward pass against HybridModel::ForwardSequence, and its gradients against
// finite differences.
#include "model/train/differentiable_model.h"

#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include "model/error.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

std::vector<float> LogitsOf(const DifferentiableModel& model, const std::vector<int32_t>& ids,
                            const TrainForwardOptions& options) {
  const at::NoGradGuard no_gradient;
  return ToHost(model.Logits(model.Hidden(ids, options))).values;
}

std::vector<float> LogitsOf(const HybridModel& model, const std::vector<int32_t>& ids,
                            const TrainForwardOptions& options) {
  SequenceForwardOptions forward;
  forward.attention = options.attention;
  forward.logit_rows = static_cast<int64_t>(ids.size());
  return model.ForwardSequence(ids, forward).logits;
}

double SumLoss(const DifferentiableModel& model, const std::vector<int32_t>& ids,
               const TrainForwardOptions& options) {
  const at::NoGradGuard no_gradient;
  return model.SumLoss(model.Hidden(ids, options), NextTokens(ids)).item<double>();
}

void TrainEverything(const DifferentiableModel& model) {
  for (const auto& [name, parameter] : model.parameters()) parameter.set_requires_grad(true);
}

void Backward(const DifferentiableModel& model, const std::vector<int32_t>& ids,
              const TrainForwardOptions& options) {
  for (const auto& [name, parameter] : model.parameters()) parameter.mutable_grad() = at::Tensor();
  model.SumLoss(model.Hidden(ids, options), NextTokens(ids)).backward();
}

TEST(DifferentiableModel, GivesTheLogitsOfForwardSequence) {
  for (const auto& checkpoint : {TinyHybrid(), TinyGranite(), TinyLlama()}) {
    const auto reference = HybridModel::Load(*checkpoint, LoadOptions{TestDevice(), 1});
    const DifferentiableModel model = OnTestDevice(*checkpoint, at::kFloat);
    const DifferentiableModel exact = OnTestDevice(*checkpoint, at::kDouble);
    for (const SequenceMode mode : kAllModes) {
      const TrainForwardOptions options = TrainOptions(mode);
      for (const int count : {1, 2, 63, 64, 150}) {
        const auto ids = RandomTokens(count, model.config().vocabulary, 5);
        const std::vector<float> expected = LogitsOf(*reference, ids, options);
        EXPECT_LT(LargestDifference(LogitsOf(model, ids, options), expected), RoundingOf(expected))
            << SequenceModeName(mode) << ", " << count << " tokens";
        EXPECT_LT(LargestDifference(LogitsOf(exact, ids, options), expected), RoundingOf(expected))
            << SequenceModeName(mode) << ", " << count << " tokens, float64";
      }
    }
    // More tokens than the scan's piece.
    const auto ids = RandomTokens(2100, model.config().vocabulary, 6);
    const TrainForwardOptions options = TrainOptions(SequenceMode::kWindow);
    const std::vector<float> expected = LogitsOf(*reference, ids, options);
    EXPECT_LT(LargestDifference(LogitsOf(model, ids, options), expected), RoundingOf(expected));
  }
}

TEST(DifferentiableModel, HasTheParametersOfItsFolder) {
  const TinyFolder tiny = TinyFolder::Granite();
  const DifferentiableModel model = OnTestDevice(*TinyGranite(), at::kFloat);
  ASSERT_EQ(model.parameters().size(), tiny.tensors.size());
  for (const auto& [name, tensor] : tiny.tensors) {
    const HostTensor host = ToHost(model.parameters().at(name));
    EXPECT_EQ(std::vector<uint64_t>(host.shape.begin(), host.shape.end()), tensor.shape) << name;
    // A_log goes through A = -exp(A_log), rounded to fp32, and back.
    const double tolerance = name.ends_with("A_log") ? 2e-7 : 0;
    EXPECT_LE(LargestDifference(host.values, tensor.values), tolerance) << name;
  }
}

TEST(DifferentiableModel, GradientsByEveryParameterAreThoseOfFiniteDifferences) {
  for (const auto& checkpoint : {TinyGranite(), TinyLlama()}) {
    const DifferentiableModel model = OnTestDevice(*checkpoint, at::kDouble);
    TrainEverything(model);
    const auto ids = RandomTokens(70, model.config().vocabulary, 7);
    for (const SequenceMode mode : kAllModes) {
      const TrainForwardOptions options = TrainOptions(mode);
      Backward(model, ids, options);
      for (const auto& [name, parameter] : model.parameters()) {
        ExpectGradient(name + ", " + std::string(SequenceModeName(mode)), parameter,
                       [&] { return SumLoss(model, ids, options); });
      }
    }
  }
}

TEST(DifferentiableModel, GradientsPassFromOnePieceOfTheScanToTheOneBefore) {
  const DifferentiableModel model = OnTestDevice(*TinyGranite(), at::kDouble);
  TrainEverything(model);
  const auto ids = RandomTokens(2100, model.config().vocabulary, 8);
  const TrainForwardOptions options = TrainOptions(SequenceMode::kPaperNoMemory);
  std::vector<int32_t> targets(ids.size(), -1);
  for (size_t i = 2050; i < ids.size(); ++i) targets[i] = ids[i - 7];
  model.SumLoss(model.Hidden(ids, options), targets).backward();
  const auto value = [&] {
    const at::NoGradGuard no_gradient;
    return model.SumLoss(model.Hidden(ids, options), targets).item<double>();
  };
  for (const char* name : {"in_proj.weight", "conv1d.weight", "A_log", "dt_bias"}) {
    const at::Tensor& parameter =
        model.parameters().at(std::string("model.layers.0.mamba.") + name);
    at::Tensor direction = NormalLike(parameter, 9);
    direction.div_(direction.norm());
    const double along = parameter.grad().mul(direction).sum().item<double>();
    EXPECT_NEAR(along, Slope(parameter, direction, value), 1e-7 * (1 + std::fabs(along))) << name;
  }
}

// One layer; tokens that stand nowhere but in blocks of the first chunk, one for each block; a loss
// on the last chunk alone. Their embeddings are reached through keys and values of a span and by no
// other way.
TEST(DifferentiableModel, GradientsReachTheTokensOfChosenBlocksAndNoOthers) {
  TinyFolder tiny = TinyFolder::Llama();
  tiny.config["num_hidden_layers"] = 1;
  std::erase_if(tiny.tensors,
                [](const auto& tensor) { return tensor.first.starts_with("model.layers.1."); });
  const TemporaryFolder folder;
  tiny.Write(folder / "model");
  const DifferentiableModel model = OnTestDevice(*Checkpoint::Open(folder / "model"), at::kDouble);
  const at::Tensor& embedding = model.parameters().at("model.embed_tokens.weight");
  embedding.set_requires_grad(true);
  std::vector<int32_t> ids = RandomTokens(32, 8, 10);
  for (int i = 0; i < 16; ++i) ids[i] = 8 + i / 4;
  std::vector<int32_t> targets(32, -1);
  for (int i = 16; i < 31; ++i) targets[i] = ids[i + 1];
  for (int span = 0; span <= 4; ++span) {
    TrainForwardOptions options =
        TrainOptions(span == 0 ? SequenceMode::kPaperNoMemory : SequenceMode::kPaper);
    options.attention.span_blocks = span;
    options.attention.one_choice_for_all_heads = true;
    embedding.mutable_grad() = at::Tensor();
    model.SumLoss(model.Hidden(ids, options), targets).backward();
    int reached = 0;
    for (int token = 8; token < 12; ++token) {
      reached += embedding.grad()[token].abs().sum().item<double>() > 0;
    }
    EXPECT_EQ(reached, span);
    ExpectGradient("embedding", embedding, [&] {
      const at::NoGradGuard no_gradient;
      return model.SumLoss(model.Hidden(ids, options), targets).item<double>();
    });
    for (int token = 8; token < 12; ++token) {  // those of the first chunk, one by one
      at::Tensor direction = NormalLike(embedding, 12);
      for (int other = 0; other < 24; ++other) {
        if (other != token) direction[other].zero_();
      }
      direction.div_(direction.norm());
      const double slope = Slope(embedding, direction, [&] {
        const at::NoGradGuard no_gradient;
        return model.SumLoss(model.Hidden(ids, options), targets).item<double>();
      });
      EXPECT_NEAR(embedding.grad().mul(direction).sum().item<double>(), slope, 1e-7) << token;
    }
  }
}

TEST(DifferentiableModel, RecomputedLayersGiveTheSameGradientsToTheBit) {
  for (const auto& checkpoint : {TinyHybrid(), TinyLlama()}) {
    const DifferentiableModel model = OnTestDevice(*checkpoint, at::kFloat);
    const auto ids = RandomTokens(100, model.config().vocabulary, 11);
    for (const SequenceMode mode :
         {SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kStream}) {
      for (const bool all : {true, false}) {
        for (const auto& [name, parameter] : model.parameters()) {
          parameter.set_requires_grad(all || name.ends_with("conv1d.weight") ||
                                      name.ends_with("q_proj.weight"));
        }
        TrainForwardOptions options = TrainOptions(mode);
        Backward(model, ids, options);
        std::map<std::string, at::Tensor> expected;
        for (const auto& [name, parameter] : model.parameters()) expected[name] = parameter.grad();
        options.recompute = true;
        Backward(model, ids, options);
        for (const auto& [name, parameter] : model.parameters()) {
          ASSERT_EQ(parameter.grad().defined(), parameter.requires_grad()) << name;
          if (!parameter.requires_grad()) continue;
          EXPECT_TRUE(parameter.grad().equal(expected[name])) << name;
          EXPECT_GT(parameter.grad().abs().sum().item<double>(), 0) << name;
        }
      }
    }
  }
}

TEST(DifferentiableModel, InBf16HoldsItsLinearMapsInItAndEverythingElseInSinglePrecision) {
  for (const auto& checkpoint : {TinyHybrid(), TinyLlama()}) {
    const DifferentiableModel exact = OnTestDevice(*checkpoint, at::kFloat);
    const DifferentiableModel model = OnTestDevice(*checkpoint, at::kBFloat16);
    const std::vector<std::string> modules = model.LinearModules();
    for (const auto& [name, parameter] : model.parameters()) {
      const std::string module = name.substr(0, name.rfind('.'));
      const bool linear = name == "lm_head.weight" ||
                          std::find(modules.begin(), modules.end(), module) != modules.end();
      EXPECT_EQ(parameter.scalar_type(), linear ? at::kBFloat16 : at::kFloat) << name;
      EXPECT_TRUE(parameter.to(at::kFloat).allclose(exact.parameters().at(name), 1e-2)) << name;
    }
  }
}

TEST(DifferentiableModel, InBf16GivesLossesAndGradientsWithinItsRounding) {
  for (const auto& checkpoint : {TinyHybrid(), TinyLlama()}) {
    const DifferentiableModel exact = OnTestDevice(*checkpoint, at::kFloat);
    const DifferentiableModel model = OnTestDevice(*checkpoint, at::kBFloat16);
    const auto ids = RandomTokens(150, model.config().vocabulary, 13);
    for (const SequenceMode mode : kAllModes) {
      TrainForwardOptions options = TrainOptions(mode);
      // Rounded scores would choose other blocks: here there is nothing to choose.
      options.attention.span_blocks = options.attention.stream.span_blocks = 100;
      const double loss = SumLoss(exact, ids, options) / 149;
      // Eight bits a number, through four layers.
      EXPECT_NEAR(SumLoss(model, ids, options) / 149, loss, 2e-2 * loss) << SequenceModeName(mode);
      for (const bool recompute : {false, true}) {
        options.recompute = recompute;
        for (const DifferentiableModel* each : {&exact, &model}) {
          for (const auto& [name, parameter] : each->parameters()) {
            parameter.set_requires_grad(parameter.scalar_type() == at::kFloat &&
                                        (each == &model || exact.parameters().contains(name)));
          }
          Backward(*each, ids, options);
        }
        for (const auto& [name, parameter] : model.parameters()) {
          if (parameter.scalar_type() != at::kFloat) continue;
          const at::Tensor gradient = parameter.grad();
          ASSERT_TRUE(gradient.defined()) << name;
          EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name;
          const std::vector<double> of = Doubles(gradient);
          const std::vector<double> expected = Doubles(exact.parameters().at(name).grad());
          double along = 0, own = 0, other = 0;
          for (size_t i = 0; i < of.size(); ++i) {
            along += of[i] * expected[i];
            own += of[i] * of[i];
            other += expected[i] * expected[i];
          }
          EXPECT_GT(along, 0.9 * std::sqrt(own * other)) << name << ", " << SequenceModeName(mode);
        }
      }
    }
  }
}

TEST(DifferentiableModel, WrongCallsAreErrorsThatNameWhatIsWrong) {
  DifferentiableModel model(*TinyLlama(), at::kCPU, at::kFloat);
  const auto refuse = [](const std::function<void()>& call, const char* part) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  const TrainForwardOptions options = TrainOptions(SequenceMode::kPaper);
  refuse([&] { model.Hidden({}, options); }, "0 tokens");
  refuse([&] { model.Hidden({24}, options); }, "24");
  refuse([&] { model.AddLowRank("model.layers.0.mamba.in_proj", {}); }, "mamba.in_proj");
  refuse(
      [&] {
        model.AddLowRank("model.layers.0.self_attn.q_proj",
                         {at::empty({2, 31}), at::empty({32, 2}), 1, 0});
      },
      "32 numbers to 32");
}

}  // namespace
}  // namespace eidetic::model
