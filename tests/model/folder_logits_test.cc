// Folders give the logits of the same weights in a GGUF, and those that transformers computes.
#include <gtest/gtest.h>

#include "model/adapter_fit.h"
#include "model/checkpoint.h"
#include "model/error.h"
#include "tests/model/tiny_folder.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

std::vector<float> Logits(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens) {
  const auto model = HybridModel::Load(checkpoint, LoadOptions{TestDevice(), /*threads=*/1});
  const auto state = model->NewState(TinyOptions(AttentionMode::kFull));
  return Read(*model, state.get(), tokens, /*segment=*/16);
}

class FolderLogits : public ::testing::Test {
 protected:
  std::vector<float> OfFolder(const TinyFolder& tiny, size_t shards = 1) {
    std::filesystem::remove_all(folder_ / "model");
    tiny.Write(folder_ / "model", shards);
    return Logits(*Checkpoint::Open(folder_ / "model"), tokens_);
  }
  std::vector<float> OfGguf(const TinyFolder& tiny) {
    WriteFile(folder_ / "model.gguf", tiny.Gguf());
    return Logits(*Checkpoint::Open(folder_ / "model.gguf"), tokens_);
  }
  TemporaryFolder folder_;
  const std::vector<int32_t> tokens_ = RandomTokens(40, TinyFolder::kVocabulary, 1);
};

TEST_F(FolderLogits, AreThoseOfTheSameWeightsInAGgufToTheBit) {
  for (TinyFolder tiny : {TinyFolder::Llama(), TinyFolder::Granite()}) {
    const std::vector<float> expected = OfGguf(tiny);
    EXPECT_EQ(OfFolder(tiny), expected) << tiny.config["model_type"];
    EXPECT_EQ(OfFolder(tiny, 3), expected) << tiny.config["model_type"];
    tiny.Round("BF16");
    const std::vector<float> rounded = OfGguf(tiny);
    EXPECT_NE(rounded, expected);
    EXPECT_EQ(OfFolder(tiny), rounded) << tiny.config["model_type"];
  }
}

TEST_F(FolderLogits, DependOnRotation) {
  TinyFolder tiny = TinyFolder::Granite();
  const std::vector<float> rotated = OfFolder(tiny);
  tiny.config["position_embedding_type"] = nullptr;
  EXPECT_GT(LargestDifference(OfFolder(tiny), rotated), 1e-3);
}

TEST_F(FolderLogits, ANumberThatIsNotFiniteIsNamedWithFileAndTensor) {
  TinyFolder tiny = TinyFolder::Llama();
  tiny.tensors["model.layers.1.self_attn.q_proj.weight"].values[7] = INFINITY;
  try {
    OfFolder(tiny);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruption);
    const std::string message = error.what();
    EXPECT_NE(message.find("model.safetensors"), std::string::npos) << message;
    EXPECT_NE(message.find("model.layers.1.self_attn.q_proj.weight"), std::string::npos) << message;
  }
}

// Saved by transformers 5 (tests/parity/make_folders.py): in shards of BF16, and in F32 with two
// groups of B and C.
TEST(TransformersFolder, GivesTheLogitsOfTransformers) {
  for (const char* name : {"llama_folder", "granite_folder"}) {
    const auto reference =
        SafetensorsFile::Open(ParityFile(std::string(name) + "_reference.safetensors"));
    const std::vector<int32_t> tokens = Integers(reference->Tensor("input_ids", "I32", {40}));
    const std::vector<float> expected = Floats(reference->Tensor("logits", "F32", {40, 300}));
    const std::vector<float> logits = Logits(*Checkpoint::Open(ParityFile(name)), tokens);
    EXPECT_LT(LargestDifference(logits, expected), 2e-4) << name;
  }
}

// Adapters that PEFT made and the logits of its models (tests/golden/make_peft_adapter.py): LoRA of
// several ranks on a folder in BF16, and HyLoRA on a hybrid whose embedding was tied.
TEST(PeftAdapter, GivesTheLogitsOfPeft) {
  for (const std::string name : {"llama", "granite"}) {
    const std::string golden = std::string(EIDETIC_GOLDEN_DIR) + "/peft_" + name;
    const auto reference = SafetensorsFile::Open(golden + "/reference.safetensors");
    const std::vector<int32_t> tokens = Integers(reference->Tensor("input_ids", "I32", {40}));
    const std::vector<float> expected = Floats(reference->Tensor("logits", "F32", {8, 300}));
    const auto last = [&](const Checkpoint& checkpoint) {
      const std::vector<float> logits = Logits(checkpoint, tokens);
      return std::vector<float>(logits.end() - static_cast<int64_t>(expected.size()), logits.end());
    };
    const auto base = Checkpoint::Open(ParityFile(name + "_folder"));
    EXPECT_LT(LargestDifference(last(*WithAdapter(base, AdapterFile::Open(golden))), expected),
              2e-4)
        << name;
    EXPECT_GT(LargestDifference(last(*base), expected), 1) << name;
  }
}

}  // namespace
}  // namespace eidetic::model
