// What was trained is saved as PEFT saves it, goes on from there, and is what inference computes
// with.
#include "model/train/adapter_folder.h"

#include <gtest/gtest.h>

#include "model/adapter_fit.h"
#include "model/error.h"
#include "model/hybrid_model.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

struct Trained {
  const char* name;
  std::shared_ptr<const Checkpoint> (*base)();
  AdapterKind kind;
  const char* kind_in_file;
};

// Two Mamba layers, rows of q and k in GGUF's order, a tied embedding; two groups; neither.
const Trained kTrained[] = {{"hybrid, HyLoRA", TinyHybrid, AdapterKind::kHylora, "HyLoRA"},
                            {"granite, LoRA+", TinyGranite, AdapterKind::kLoraPlus, "LoRA+"},
                            {"llama, LoRA+", TinyLlama, AdapterKind::kLoraPlus, "LoRA+"},
                            {"llama, LoRA", TinyLlama, AdapterKind::kLora, "LoRA"},
                            {"hybrid, mixers", TinyHybrid, AdapterKind::kMixers, "mixers"}};

std::unique_ptr<Adapter> DisturbedAdapter(AdapterOptions options, DifferentiableModel* model) {
  auto adapter = std::make_unique<Adapter>(options, model);
  const at::NoGradGuard no_gradient;
  uint32_t seed = 60;
  for (const auto& [name, tensor] : adapter->trained()) {
    tensor.add_(NormalLike(tensor, ++seed), 0.05);
  }
  return adapter;
}

std::unique_ptr<Adapter> DisturbedAdapter(AdapterKind kind, DifferentiableModel* model) {
  return DisturbedAdapter({.kind = kind, .rank = 3, .alpha = 6, .dropout = 0.25}, model);
}

std::vector<int32_t> Ids() {
  return RandomTokens(40, TinyFolder::kVocabulary, 9);
}

std::vector<float> LogitsOfTraining(const DifferentiableModel& model) {
  const at::NoGradGuard no_gradient;
  return ToHost(model.Logits(model.Hidden(Ids(), TrainOptions(SequenceMode::kFull)))).values;
}

std::vector<float> LogitsOfInference(const Checkpoint& adapted) {
  const auto model = HybridModel::Load(adapted, LoadOptions{TestDevice(), /*threads=*/1});
  SequenceForwardOptions options;
  options.attention.mode = SequenceMode::kFull;
  options.logit_rows = static_cast<int64_t>(Ids().size());
  return model->ForwardSequence(Ids(), options).logits;
}

TEST(AdapterFolder, GoesOnWithTheSameBitsAndIsWhatInferenceComputesWith) {
  for (const Trained& trained : kTrained) {
    const TemporaryFolder folder;
    const std::shared_ptr<const Checkpoint> base = trained.base();
    DifferentiableModel model = OnTestDevice(*base, at::kFloat);
    const std::vector<float> untrained = LogitsOfTraining(model);
    const auto adapter = DisturbedAdapter(trained.kind, &model);
    const std::vector<float> expected = LogitsOfTraining(model);
    SaveAdapter(*adapter, model, "tiny", folder / "adapter");

    const auto file = AdapterFile::Open(folder / "adapter");
    EXPECT_EQ(file->Kind(), trained.kind_in_file) << trained.name;
    EXPECT_EQ(file->config().base_model, "tiny");
    DifferentiableModel again = OnTestDevice(*base, at::kFloat);
    const auto loaded = LoadAdapter(*file, &again);
    EXPECT_EQ(LogitsOfTraining(again), expected) << trained.name;
    EXPECT_EQ(loaded->config().kind, trained.kind);
    if (trained.kind != AdapterKind::kMixers) {
      EXPECT_EQ(loaded->config().rank, 3);
      EXPECT_EQ(loaded->config().alpha, 6);
      EXPECT_EQ(loaded->config().dropout, 0.25);
    }
    ASSERT_EQ(loaded->trained().size(), adapter->trained().size()) << trained.name;

    const std::vector<float> served = LogitsOfInference(*WithAdapter(base, file));
    ASSERT_EQ(served.size(), expected.size());
    // Two roundings apart: merged against unmerged, and this forward pass against that one.
    EXPECT_LT(LargestDifference(served, expected), 2 * RoundingOf(expected)) << trained.name;
    EXPECT_GT(LargestDifference(served, untrained), 1e-2) << trained.name;
  }
}

TEST(AdapterFolder, KeepsRanksAndAlphasByPatternAndDropoutOfAll) {
  const TemporaryFolder folder;
  const std::shared_ptr<const Checkpoint> base = TinyHybrid();
  DifferentiableModel model = OnTestDevice(*base, at::kFloat);
  AdapterOptions options{.kind = AdapterKind::kHylora, .rank = 3, .alpha = 6, .dropout = 0.25};
  options.targets = {};
  options.target_pattern = R"(.*\.([qv]|in)_proj)";
  options.ranks = {{"q_proj", 5}, {R"(layers\.0\..*in_proj)", 2}};
  options.alphas = {{"in_proj", 7.5}};
  options.dropouts = {{"v_proj", 0.5}};
  const auto adapter = DisturbedAdapter(options, &model);
  const std::vector<float> expected = LogitsOfTraining(model);
  SaveAdapter(*adapter, model, "tiny", folder / "adapter");

  const auto file = AdapterFile::Open(folder / "adapter");
  EXPECT_EQ(file->config().targets.pattern, options.target_pattern);
  EXPECT_EQ(file->config().ranks, options.ranks);
  EXPECT_EQ(file->config().alphas, options.alphas);
  EXPECT_EQ(file->config().dropout, 0.25);
  EXPECT_EQ(file->low_rank().at("model.layers.0.mamba.in_proj").rank, 2u);
  const std::vector<float> merged = LogitsOfInference(*WithAdapter(base, file));
  EXPECT_LT(LargestDifference(merged, expected), 2 * RoundingOf(expected));

  // And goes on from there: with the same ranks, and one dropout.
  DifferentiableModel again = OnTestDevice(*base, at::kFloat);
  const auto loaded = LoadAdapter(*file, &again);
  EXPECT_EQ(LogitsOfTraining(again), expected);
  EXPECT_EQ(loaded->config().ranks, options.ranks);
  EXPECT_EQ(again.low_ranks().at("model.layers.1.self_attn.v_proj").dropout, 0.25);
  SaveAdapter(*loaded, again, "tiny", folder / "again");
  EXPECT_EQ(ReadFile(folder / "again/adapter_model.safetensors"),
            ReadFile(folder / "adapter/adapter_model.safetensors"));
}

TEST(AdapterFolder, OfAnotherModelIsRefused) {
  const TemporaryFolder folder;
  DifferentiableModel llama = OnTestDevice(*TinyLlama(), at::kFloat);
  SaveAdapter(*DisturbedAdapter(AdapterKind::kLora, &llama), llama, "", folder / "adapter");
  DifferentiableModel granite = OnTestDevice(*TinyGranite(), at::kFloat);
  try {
    LoadAdapter(*AdapterFile::Open(folder / "adapter"), &granite);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    EXPECT_NE(std::string(error.what()).find("model.layers.0.self_attn"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace eidetic::model
