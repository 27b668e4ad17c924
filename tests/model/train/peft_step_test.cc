// A step of training is the one that PEFT and PyTorch make (tests/golden/make_peft_step.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/error.h"
#include "model/safetensors.h"
#include "model/train/adapter_folder.h"
#include "model/train/train_step.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// Of numbers that were summed up in another order.
constexpr double kRelative = 1e-5;
constexpr double kRate = 2e-4;  // what a step moves a weight by, at most

struct PeftStep {
  const char* name;
  AdapterKind kind;
  // Of weights. Adam's first step divides each gradient by its own size and 1e-8, so where one is
  // no larger than its rounding, 1e-9, the weight is off by a tenth of the step. Of 9,600 numbers
  // of an embedding, a few are.
  double tolerance;
};
const PeftStep kPeftSteps[] = {{"llama", AdapterKind::kLora, kRate / 20},
                               {"granite", AdapterKind::kHylora, kRate / 10}};

std::string GoldenAdapter(const std::string& name) {
  return FromEnvironment("EIDETIC_TEST_GOLDEN_DIR", EIDETIC_GOLDEN_DIR) + "/" + name;
}

void ExpectWeights(const Adapter& adapter, const SafetensorsFile& reference,
                   const HostTensors& before, double tolerance) {
  for (const auto& [name, tensor] : adapter.Export()) {
    const std::string there = "after.base_model.model." + name;
    ASSERT_TRUE(reference.tensors().contains(there)) << there;
    const double difference =
        LargestDifference(tensor.values, Floats(reference.tensors().at(there)));
    EXPECT_LT(difference, tolerance) << there;
    const double step = LargestDifference(tensor.values, before.at(name).values);
    EXPECT_GT(step, kRate / 2) << name << " was not trained";
  }
}

TEST(PeftStep, WeightsLossAndNormAreThoseOfPeft) {
  for (const PeftStep& step_of : kPeftSteps) {
    SCOPED_TRACE(step_of.name);
    const std::string folder = GoldenAdapter(std::string("peft_step_") + step_of.name);
    const auto reference = SafetensorsFile::Open(folder + "/reference.safetensors");
    const auto& recorded_tensors = reference->tensors();
    DifferentiableModel model = OnTestDevice(
        *Checkpoint::Open(ParityFile(std::string(step_of.name) + "_folder")), at::kFloat);
    const auto adapter = LoadAdapter(*AdapterFile::Open(folder), &model);
    ASSERT_EQ(adapter->config().kind, step_of.kind);
    TrainSequence sequence;
    sequence.tokens = Integers(recorded_tensors.at("input_ids"));
    for (const int32_t predicted : Integers(recorded_tensors.at("predicted"))) {
      sequence.predicted.push_back(predicted != 0);
    }
    const std::vector<float> losses = Floats(recorded_tensors.at("loss"));
    const std::vector<float> norms = Floats(recorded_tensors.at("gradient_norm"));
    ASSERT_EQ(losses.size(), 3u);

    AdamW optimizer(adapter->trained(), {});
    TrainStepOptions options;
    options.rate = kRate;
    options.largest_norm = 1;
    options.forward.attention.mode = SequenceMode::kFull;
    const HostTensors before = adapter->Export();
    for (size_t step = 0; step < losses.size(); ++step) {
      const TrainStepResult result = TrainStep(model, {sequence}, options, &optimizer);
      EXPECT_NEAR(result.loss, losses[step], kRelative * losses[step]) << step;
      EXPECT_NEAR(result.gradient_norm, norms[step], kRelative * norms[step]) << step;
      EXPECT_GT(norms[step], 1) << "nothing was clipped";
      if (step == 0) ExpectWeights(*adapter, *reference, before, step_of.tolerance);
    }
  }
}

// A tied embedding stands in the file under two names: PEFT loads no HyLoRA without.
TEST(PeftStep, AnAdapterOfPeftIsWrittenAsPeftWroteIt) {
  for (const PeftStep& step_of : kPeftSteps) {
    const TemporaryFolder folder;
    const std::string golden = GoldenAdapter(std::string("peft_step_") + step_of.name);
    DifferentiableModel model = OnTestDevice(
        *Checkpoint::Open(ParityFile(std::string(step_of.name) + "_folder")), at::kFloat);
    SaveAdapter(*LoadAdapter(*AdapterFile::Open(golden), &model), model, "", folder / "adapter");
    EXPECT_TRUE(ReadFile(folder / "adapter/adapter_model.safetensors") ==
                ReadFile(golden + "/adapter_model.safetensors"))
        << step_of.name;
  }
}

// Not merged: A and B of several ranks and alphas beside the weights, of a scale over the rank's
// root; a name of the configuration that is no module's is passed over, as PEFT does.
TEST(PeftStep, AnAdapterOfSeveralRanksGoesOn) {
  const TemporaryFolder folder;
  const std::string golden = GoldenAdapter("peft_llama");
  std::filesystem::copy(golden, folder / "given");
  json given = json::parse(ReadFile(golden + "/adapter_config.json"));
  given["rank_pattern"]["z_proj"] = 99;
  WriteFile(folder / "given/adapter_config.json", given.dump());
  const auto reference = SafetensorsFile::Open(golden + "/reference.safetensors");
  const std::vector<float> expected = Floats(reference->tensors().at("logits"));
  DifferentiableModel model =
      OnTestDevice(*Checkpoint::Open(ParityFile("llama_folder")), at::kFloat);
  const auto adapter = LoadAdapter(*AdapterFile::Open(folder / "given"), &model);
  const auto expect_logits = [&] {
    const at::NoGradGuard no_gradient;
    const std::vector<int32_t> tokens = Integers(reference->tensors().at("input_ids"));
    const std::vector<float> logits =
        ToHost(model.Logits(model.Hidden(tokens, TrainOptions(SequenceMode::kFull)))).values;
    const std::vector<float> last(logits.end() - static_cast<int64_t>(expected.size()),
                                  logits.end());
    EXPECT_LT(LargestDifference(last, expected), 2e-4);
  };
  expect_logits();
  adapter->Merge();
  expect_logits();
  adapter->Unmerge();

  SaveAdapter(*adapter, model, "", folder / "adapter");
  const json peft = json::parse(ReadFile(golden + "/adapter_config.json"));
  const json again = json::parse(ReadFile(folder / "adapter/adapter_config.json"));
  for (const char* key : {"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"}) {
    EXPECT_EQ(again.at(key), peft.at(key)) << key;
  }
  EXPECT_TRUE(ReadFile(folder / "adapter/adapter_model.safetensors") ==
              ReadFile(golden + "/adapter_model.safetensors"));
}

// PEFT's default: it was trained beside a head that stayed as it was, which is another model.
TEST(PeftStep, AnEmbeddingThatWasTrainedApartFromItsHeadIsRefused) {
  DifferentiableModel model =
      OnTestDevice(*Checkpoint::Open(ParityFile("granite_folder")), at::kFloat);
  try {
    LoadAdapter(*AdapterFile::Open(GoldenAdapter("peft_granite")), &model);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
    EXPECT_NE(std::string(error.what()).find("trained apart"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace eidetic::model
