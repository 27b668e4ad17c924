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

std::unique_ptr<Adapter> DisturbedAdapter(AdapterKind kind, DifferentiableModel* model) {
  AdapterOptions options;
  options.kind = kind;
  options.rank = 3;
  options.alpha = 6;
  options.dropout = 0.25;
  auto adapter = std::make_unique<Adapter>(options, model);
  const at::NoGradGuard no_gradient;
  uint32_t seed = 60;
  for (const auto& [name, tensor] : adapter->trained()) {
    tensor.add_(NormalLike(tensor, ++seed), 0.05);
  }
  return adapter;
}

std::vector<int32_t> Ids() {
  return RandomTokens(40, TinyFolder::kVocabulary, 9);
}

std::vector<float> LogitsOfTraining(const DifferentiableModel& model) {
  const at::NoGradGuard no_gradient;
  return ToHost(model.Logits(model.Hidden(Ids(), TrainOptions(SequenceMode::kFull)))).values;
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

    const auto inference =
        HybridModel::Load(*WithAdapter(base, file), LoadOptions{TestDevice(), /*threads=*/1});
    SequenceForwardOptions options;
    options.attention.mode = SequenceMode::kFull;
    options.logit_rows = static_cast<int64_t>(Ids().size());
    const std::vector<float> served = inference->ForwardSequence(Ids(), options).logits;
    ASSERT_EQ(served.size(), expected.size());
    // Two roundings apart: merged against unmerged, and this forward pass against that one.
    EXPECT_LT(LargestDifference(served, expected), 2 * RoundingOf(expected)) << trained.name;
    EXPECT_GT(LargestDifference(served, untrained), 1e-2) << trained.name;
  }
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
