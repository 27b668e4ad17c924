// What adapters train and leave alone, merging, and their tensors by PEFT's names.
#include "model/train/adapter.h"

#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "model/error.h"
#include "model/train/adamw.h"
#include "model/train/train_step.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

AdapterOptions Config(AdapterKind kind) {
  AdapterOptions config;
  config.kind = kind;
  config.rank = 3;
  config.alpha = 6;
  config.seed = 1;
  return config;
}

std::vector<float> LogitsOf(const DifferentiableModel& model, const std::vector<int32_t>& ids) {
  const at::NoGradGuard no_gradient;
  return ToHost(model.Logits(model.Hidden(ids, TrainOptions(SequenceMode::kPaper)))).values;
}

std::vector<std::string> NamesOf(const Adapter& adapter) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : adapter.trained()) names.push_back(name);
  return names;
}

// Puts numbers of the size of trained ones into all that is trained: a zero B hides A.
void Disturb(const Adapter& adapter, double size) {
  const at::NoGradGuard no_gradient;
  uint32_t seed = 40;
  for (const auto& [name, tensor] : adapter.trained()) {
    tensor.add_(NormalLike(tensor, ++seed), size);
  }
}

using Bits = std::map<std::string, std::vector<float>>;

Bits BitsOf(const DifferentiableModel& model) {
  Bits bits;
  for (const auto& [name, tensor] : model.parameters()) bits[name] = ToHost(tensor).values;
  return bits;
}

const std::vector<std::string> kMatrices = {"model.layers.1.self_attn.q_proj.lora_A.weight",
                                            "model.layers.1.self_attn.q_proj.lora_B.weight",
                                            "model.layers.1.self_attn.k_proj.lora_A.weight",
                                            "model.layers.1.self_attn.k_proj.lora_B.weight",
                                            "model.layers.1.self_attn.v_proj.lora_A.weight",
                                            "model.layers.1.self_attn.v_proj.lora_B.weight",
                                            "model.layers.1.self_attn.o_proj.lora_A.weight",
                                            "model.layers.1.self_attn.o_proj.lora_B.weight"};

TEST(Adapter, TrainsExactlyWhatItsKindSays) {
  DifferentiableModel model = OnTestDevice(*TinyGranite(), at::kFloat);
  std::vector<std::string> expected = kMatrices;
  EXPECT_EQ(NamesOf(Adapter(Config(AdapterKind::kLora), &model)), expected);
  const std::vector<std::string> norms = {"model.embed_tokens.weight",
                                          "model.layers.0.input_layernorm.weight",
                                          "model.layers.0.mamba.norm.weight",
                                          "model.layers.0.post_attention_layernorm.weight",
                                          "model.layers.1.input_layernorm.weight",
                                          "model.layers.1.post_attention_layernorm.weight",
                                          "model.norm.weight"};
  expected.insert(expected.end(), norms.begin(), norms.end());
  EXPECT_EQ(NamesOf(Adapter(Config(AdapterKind::kLoraPlus), &model)), expected);
  const std::vector<std::string> convolution = {"model.layers.0.mamba.conv1d.bias",
                                                "model.layers.0.mamba.conv1d.weight"};
  expected.insert(expected.begin() + 10, convolution.begin(), convolution.end());
  const Adapter hylora(Config(AdapterKind::kHylora), &model);
  EXPECT_EQ(NamesOf(hylora), expected);
  int64_t numbers = 0;
  for (const auto& [name, tensor] : hylora.trained()) {
    EXPECT_TRUE(tensor.requires_grad()) << name;
    numbers += tensor.numel();
  }
  EXPECT_EQ(hylora.TrainedNumbers(), numbers);
  DifferentiableModel other = OnTestDevice(*TinyGranite(), at::kFloat);
  const std::string mixer = "model.layers.0.mamba.";
  EXPECT_EQ(NamesOf(Adapter(Config(AdapterKind::kMixers), &other)),
            (std::vector<std::string>{mixer + "A_log", mixer + "D", mixer + "conv1d.bias",
                                      mixer + "conv1d.weight", mixer + "dt_bias",
                                      mixer + "in_proj.weight", mixer + "norm.weight",
                                      mixer + "out_proj.weight"}));
  for (const auto& [name, tensor] : model.parameters()) {
    const auto& list = expected;
    EXPECT_EQ(tensor.requires_grad(), std::find(list.begin(), list.end(), name) != list.end())
        << name;
  }
}

TEST(Adapter, ChangesWhatItTrainsAndLeavesTheRestBitForBit) {
  for (const AdapterKind kind :
       {AdapterKind::kLora, AdapterKind::kLoraPlus, AdapterKind::kHylora, AdapterKind::kMixers}) {
    DifferentiableModel model = OnTestDevice(*TinyHybrid(), at::kFloat);
    Adapter adapter(Config(kind), &model);
    const Bits before = BitsOf(model);
    const HostTensors start = adapter.Export();
    AdamWOptions decaying;
    decaying.weight_decay = 0.1;
    AdamW optimizer(adapter.trained(), decaying);
    TrainStepOptions options;
    options.rate = 1e-2;
    options.forward = TrainOptions(SequenceMode::kPaper);
    // Every token of the vocabulary, so that every embedding has a gradient.
    std::vector<int32_t> ids(96);
    for (int i = 0; i < 96; ++i) ids[i] = i;
    for (int step = 0; step < 3; ++step) {
      ASSERT_TRUE(TrainStep(model, {{ids, {}}}, options, &optimizer).stepped);
    }
    for (const auto& [name, tensor] : adapter.Export()) {
      size_t same = 0;
      const std::vector<float>& was = start.at(name).values;
      for (size_t i = 0; i < was.size(); ++i) same += tensor.values[i] == was[i];
      EXPECT_LT(same, was.size() / 4 + 1) << name;
    }
    const Bits after = BitsOf(model);
    for (const auto& [name, bits] : before) {
      const std::vector<std::string> names = NamesOf(adapter);
      const bool trained = std::find(names.begin(), names.end(), name) != names.end();
      EXPECT_EQ(after.at(name) == bits, !trained) << name;
    }
  }
}

TEST(Adapter, ThatWasNotTrainedChangesNoLogit) {
  for (const auto& checkpoint : {TinyHybrid(), TinyLlama()}) {
    DifferentiableModel model = OnTestDevice(*checkpoint, at::kFloat);
    const auto ids = RandomTokens(60, model.config().vocabulary, 2);
    const std::vector<float> expected = LogitsOf(model, ids);
    {
      AdapterOptions config = Config(AdapterKind::kHylora);
      config.targets = model.LinearModules();
      const Adapter adapter(config, &model);
      EXPECT_EQ(LogitsOf(model, ids), expected);
      for (const auto& [name, tensor] : adapter.trained()) {
        if (name.ends_with("lora_B.weight")) {
          EXPECT_EQ(tensor.abs().sum().item<double>(), 0) << name;
        } else if (name.ends_with("lora_A.weight")) {
          // Uniform: a variance of bound^2 / 3.
          const double bound = 1 / std::sqrt(static_cast<double>(tensor.size(1)));
          EXPECT_LE(tensor.abs().max().item<double>(), bound) << name;
          EXPECT_NEAR(tensor.square().mean().item<double>(), bound * bound / 3, bound * bound / 6)
              << name;
        }
      }
      Disturb(adapter, 0.1);
      EXPECT_GT(LargestDifference(LogitsOf(model, ids), expected), 1e-2);
    }
    for (const auto& [name, tensor] : model.parameters()) EXPECT_FALSE(tensor.requires_grad());
  }
}

TEST(Adapter, HasMatricesOfTheRanksThatPatternsSay) {
  DifferentiableModel model = OnTestDevice(*TinyGranite(), at::kFloat);
  AdapterOptions config = Config(AdapterKind::kLora);
  config.targets = {};
  config.target_pattern = R"(.*\.(q|k)_proj|.*in_proj)";
  config.ranks = {{"q_proj", 5}};
  config.alphas = {{"in_proj", 12}};
  config.dropouts = {{"k_proj", 0.5}};
  const Adapter adapter(config, &model);
  const auto& maps = model.low_ranks();
  ASSERT_EQ(maps.size(), 3u);
  const LowRankTerm& q = maps.at("model.layers.1.self_attn.q_proj");
  EXPECT_EQ(q.a.size(0), 5);
  EXPECT_EQ(q.b.size(1), 5);
  EXPECT_EQ(q.scale, 6.0 / 5);
  EXPECT_EQ(q.dropout, 0);
  EXPECT_EQ(maps.at("model.layers.1.self_attn.k_proj").a.size(0), 3);
  EXPECT_EQ(maps.at("model.layers.1.self_attn.k_proj").dropout, 0.5);
  EXPECT_EQ(maps.at("model.layers.0.mamba.in_proj").scale, 4);
  int64_t numbers = 0;
  for (const auto& [module, map] : maps) numbers += map.a.numel() + map.b.numel();
  EXPECT_EQ(adapter.TrainedNumbers(), numbers);
}

TEST(Adapter, OfTheSameSeedBeginsTheSame) {
  DifferentiableModel model = OnTestDevice(*TinyLlama(), at::kFloat);
  const auto start = [&](uint64_t seed) {
    AdapterOptions config = Config(AdapterKind::kLora);
    config.seed = seed;
    return Adapter(config, &model).Export().begin()->second.values;
  };
  EXPECT_EQ(start(1), start(1));
  EXPECT_NE(start(1), start(2));
}

TEST(Adapter, MergedIntoTheWeightsGivesTheSameLogits) {
  for (const auto& checkpoint : {TinyHybrid(), TinyLlama()}) {
    DifferentiableModel model = OnTestDevice(*checkpoint, at::kFloat);
    AdapterOptions config = Config(AdapterKind::kHylora);
    config.targets = model.LinearModules();
    Adapter adapter(config, &model);
    Disturb(adapter, 0.03);
    const auto ids = RandomTokens(60, model.config().vocabulary, 3);
    const std::vector<float> expected = LogitsOf(model, ids);
    const Bits bits = BitsOf(model);
    adapter.Merge();
    adapter.Merge();
    EXPECT_TRUE(adapter.merged());
    EXPECT_NE(BitsOf(model), bits);
    EXPECT_LT(LargestDifference(LogitsOf(model, ids), expected), RoundingOf(expected));
    for (const auto& [name, tensor] : model.parameters()) EXPECT_FALSE(tensor.requires_grad());
    adapter.Unmerge();
    adapter.Unmerge();
    EXPECT_EQ(BitsOf(model), bits);
    EXPECT_EQ(LogitsOf(model, ids), expected);
    for (const auto& [name, tensor] : adapter.trained()) EXPECT_TRUE(tensor.requires_grad());
  }
}

TEST(Adapter, GradientsOfAllThatIsTrainedAreThoseOfFiniteDifferences) {
  DifferentiableModel model = OnTestDevice(*TinyHybrid(), at::kDouble);
  AdapterOptions config = Config(AdapterKind::kHylora);
  config.targets = model.LinearModules();
  config.dropout = 0.25;
  const Adapter adapter(config, &model);
  Disturb(adapter, 0.1);
  const auto ids = RandomTokens(70, model.config().vocabulary, 14);
  TrainForwardOptions options = TrainOptions(SequenceMode::kPaper);
  options.dropout_seed = 5;
  model.SumLoss(model.Hidden(ids, options), NextTokens(ids)).backward();
  for (const auto& [name, tensor] : adapter.trained()) {
    ExpectGradient(name, tensor, [&] {
      const at::NoGradGuard no_gradient;
      return model.SumLoss(model.Hidden(ids, options), NextTokens(ids)).item<double>();
    });
  }
  // Layers computed again drop the same numbers.
  std::map<std::string, at::Tensor> expected;
  for (const auto& [name, tensor] : adapter.trained()) {
    expected[name] = tensor.grad();
    tensor.mutable_grad() = at::Tensor();
  }
  options.recompute = true;
  model.SumLoss(model.Hidden(ids, options), NextTokens(ids)).backward();
  for (const auto& [name, tensor] : adapter.trained()) {
    EXPECT_TRUE(tensor.grad().equal(expected.at(name))) << name;
  }
}

TEST(Adapter, DropsAShareOfItsInputsByTheSeed) {
  DifferentiableModel model(*TinyLlama(), at::kCPU, at::kFloat);
  AdapterOptions config = Config(AdapterKind::kLora);
  config.targets = {"layers.0.self_attn.q_proj"};
  config.dropout = 0.25;
  const Adapter adapter(config, &model);
  Disturb(adapter, 0.01);
  const auto ids = RandomTokens(60, model.config().vocabulary, 6);
  TrainForwardOptions options = TrainOptions(SequenceMode::kFull);
  const auto hidden = [&](std::optional<uint64_t> seed) {
    const at::NoGradGuard no_gradient;
    options.dropout_seed = seed;
    return ToHost(model.Hidden(ids, options)).values;
  };
  const std::vector<float> without = hidden({});
  EXPECT_EQ(hidden({}), without);
  EXPECT_EQ(hidden(1), hidden(1));
  EXPECT_NE(hidden(1), hidden(2));
  EXPECT_NE(hidden(1), without);
  // Over many draws the mean is what it is without dropout: so nearly, as attention bends what is
  // small only a little.
  std::vector<double> mean(without.size());
  double spread = 0;
  constexpr int kDraws = 400;
  for (int draw = 0; draw < kDraws; ++draw) {
    const std::vector<float> one = hidden(100 + draw);
    for (size_t i = 0; i < one.size(); ++i) {
      mean[i] += one[i] / kDraws;
      spread += (one[i] - without[i]) * (one[i] - without[i]) / kDraws;
    }
  }
  double distance = 0;
  for (size_t i = 0; i < mean.size(); ++i) distance += std::pow(mean[i] - without[i], 2);
  EXPECT_LT(std::sqrt(distance), 0.2 * std::sqrt(spread));
}

TEST(Adapter, IsExportedByTheNamesOfPeftAndImportedAgain) {
  DifferentiableModel model = OnTestDevice(*TinyGranite(), at::kFloat);
  const auto ids = RandomTokens(60, model.config().vocabulary, 7);
  HostTensors exported;
  std::vector<float> expected;
  const Bits base = BitsOf(model);
  {
    const Adapter adapter(Config(AdapterKind::kHylora), &model);
    Disturb(adapter, 0.1);
    exported = adapter.Export();
    expected = LogitsOf(model, ids);
  }
  std::set<std::string> names;
  for (const auto& [name, tensor] : exported) names.insert(name);
  const std::string layers = "model.layers.";
  EXPECT_EQ(exported.at(layers + "1.self_attn.k_proj.lora_A.weight").shape,
            (std::vector<int64_t>{3, 32}));
  EXPECT_EQ(exported.at(layers + "1.self_attn.k_proj.lora_B.weight").shape,
            (std::vector<int64_t>{16, 3}));
  EXPECT_EQ(exported.at(layers + "0.mamba.conv1d.weight").shape, (std::vector<int64_t>{64, 1, 4}));
  EXPECT_EQ(exported.at(layers + "0.mamba.conv1d.bias").shape, (std::vector<int64_t>{64}));
  EXPECT_EQ(exported.at(layers + "0.input_layernorm.weight").shape, (std::vector<int64_t>{32}));
  EXPECT_EQ(exported.at("model.embed_tokens.weight").shape, (std::vector<int64_t>{24, 32}));
  EXPECT_EQ(exported.size(), 17u);

  DifferentiableModel other = OnTestDevice(*TinyGranite(), at::kFloat);
  EXPECT_EQ(BitsOf(other), base);
  Adapter adapter(Config(AdapterKind::kHylora), &other);
  adapter.Import(exported);
  EXPECT_EQ(LogitsOf(other, ids), expected);

  const Bits bits = BitsOf(other);
  const HostTensors start = adapter.Export();
  const auto refuse = [&](HostTensors tensors, const std::string& part) {
    try {
      adapter.Import(tensors);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_EQ(BitsOf(other), bits);
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  for (auto& [name, tensor] : exported) tensor.values[0] += 1;
  const std::string last = "model.norm.weight";
  HostTensors wrong = exported;
  wrong.erase(last);
  refuse(wrong, last);
  wrong = exported;
  wrong["lm_head.weight"] = exported.at(last);
  refuse(wrong, "lm_head");
  wrong = exported;
  wrong[last].shape = {1, 32};
  refuse(wrong, "[1, 32]");
  wrong = exported;
  wrong[last].values[3] = std::numeric_limits<float>::infinity();
  refuse(wrong, "not finite");
  adapter.Merge();
  EXPECT_THROW(adapter.Import(exported), Error);
}

TEST(Adapter, ConfigurationsOutOfRangeAreErrorsThatNameTheValue) {
  DifferentiableModel model(*TinyGranite(), at::kCPU, at::kFloat);
  const auto refuse = [&](const std::string& part,
                          const std::function<void(AdapterOptions*)>& change) {
    AdapterOptions config = Config(AdapterKind::kLora);
    change(&config);
    try {
      const Adapter adapter(config, &model);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE((error.what() + (" " + error.remedy())).find(part), std::string::npos)
          << error.what();
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  refuse("rank is 0", [](AdapterOptions* config) { config->rank = 0; });
  refuse("alpha is nan", [](AdapterOptions* config) { config->alpha = NAN; });
  refuse("dropout is 1", [](AdapterOptions* config) { config->dropout = 1; });
  refuse("'proj' names no", [](AdapterOptions* config) { config->targets = {"q_proj", "proj"}; });
  refuse("input_linear", [](AdapterOptions* config) { config->targets = {"lm_head"}; });
  refuse("nothing is trained", [](AdapterOptions* config) { config->targets = {}; });
}

}  // namespace
}  // namespace eidetic::model
