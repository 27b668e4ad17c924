#include "model/adapter_fit.h"

#include <gtest/gtest.h>

#include "model/error.h"
#include "model/folder_tensors.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::model {
namespace {

class AdapterFitTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Checkpoint> Base(const TinyFolder& tiny, bool gguf,
                                         const std::string& name = "base") {
    const std::string path = folder_ / name;
    std::filesystem::remove_all(path);
    if (gguf) {
      WriteFile(path, tiny.Gguf());
    } else {
      tiny.Write(path);
    }
    return Checkpoint::Open(path);
  }
  std::shared_ptr<const AdapterFile> Adapter(const TinyAdapter& adapter) {
    adapter.Write(folder_ / "adapter");
    return AdapterFile::Open(folder_ / "adapter");
  }
  // Both checkpoints have the same tensors, to the bit.
  void ExpectEqual(const Checkpoint& adapted, const Checkpoint& expected) {
    EXPECT_EQ(adapted.Config().tied_embeddings, expected.Config().tied_embeddings);
    for (const FolderTensor& tensor : FolderTensorsOf(expected.Config())) {
      std::vector<float> one(tensor.Values()), other(tensor.Values());
      ASSERT_TRUE(adapted.Has(tensor.name)) << tensor.name;
      adapted.Read(tensor.name, tensor.shape, one.data());
      expected.Read(tensor.name, tensor.shape, other.data());
      EXPECT_EQ(one, other) << tensor.name;
    }
    EXPECT_EQ(adapted.Has("output.weight"), expected.Has("output.weight"));
  }
  void ExpectMismatch(const TinyFolder& base, const TinyAdapter& adapter,
                      const std::vector<std::string>& parts) {
    for (const bool gguf : {false, true}) {
      try {
        WithAdapter(Base(base, gguf), Adapter(adapter));
        ADD_FAILURE() << "no error about: " << parts[0];
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kMismatch) << error.what();
        for (const std::string& part : parts) {
          EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
        }
      }
    }
  }
  TemporaryFolder folder_;
};

TEST_F(AdapterFitTest, LoraOnAFolderAndOnAGgufIsTheFolderThatPeftWouldMerge) {
  for (const TinyFolder& tiny : {TinyFolder::Llama(), TinyFolder::Granite()}) {
    const TinyAdapter adapter = TinyAdapter::Lora(tiny);
    for (const bool gguf : {false, true}) {
      const auto adapted = WithAdapter(Base(tiny, gguf), Adapter(adapter));
      ExpectEqual(*adapted, *Base(adapter.AppliedTo(tiny), gguf, "expected"));
    }
  }
}

// Without rotation a folder's rows are as transformers has them; a GGUF's are interleaved all the
// same, and so must be what is added to them.
TEST_F(AdapterFitTest, AGgufsRowsAreInterleavedAlsoWithoutRotation) {
  TinyFolder tiny = TinyFolder::Granite();
  tiny.config["position_embedding_type"] = "nope";
  const TinyAdapter adapter = TinyAdapter::Lora(tiny);
  for (const bool gguf : {false, true}) {
    const auto base = Base(tiny, gguf);
    ASSERT_EQ(base->Config().rotary_dims, 0);
    ExpectEqual(*WithAdapter(base, Adapter(adapter)),
                *Base(adapter.AppliedTo(tiny), gguf, "expected"));
  }
}

// PEFT's default: a trained embedding is the output matrix no longer.
TEST_F(AdapterFitTest, ATrainedEmbeddingIsUntiedFromTheOutputMatrix) {
  const TinyFolder tiny = TinyFolder::Granite();
  const TinyAdapter adapter = TinyAdapter::HyLora(tiny);
  TinyFolder expected = adapter.AppliedTo(tiny);
  expected.config["tie_word_embeddings"] = false;
  expected.tensors["lm_head.weight"] = tiny.tensors.at("model.embed_tokens.weight");
  for (const bool gguf : {false, true}) {
    ExpectEqual(*WithAdapter(Base(tiny, gguf), Adapter(adapter)),
                *Base(expected, gguf, "expected"));
  }
}

TEST_F(AdapterFitTest, TheyStayTiedWhenTheAdapterSaysSo) {
  const TinyFolder tiny = TinyFolder::Granite();
  TinyAdapter adapter = TinyAdapter::HyLora(tiny);
  adapter.config["ensure_weight_tying"] = true;
  for (const bool gguf : {false, true}) {
    ExpectEqual(*WithAdapter(Base(tiny, gguf), Adapter(adapter)),
                *Base(adapter.AppliedTo(tiny), gguf, "expected"));
  }
}

TEST_F(AdapterFitTest, LoraOfTheEmbeddingAndOfATiedOutputMatrixIsApplied) {
  const TinyFolder tiny = TinyFolder::Granite();
  constexpr uint64_t kVocabulary = TinyFolder::kVocabulary, kHidden = TinyFolder::kHidden;
  TinyAdapter adapter;
  adapter.config["target_modules"] = {"embed_tokens", "lm_head"};
  adapter.config["r"] = 1;
  const std::string embedding = "base_model.model.model.embed_tokens.lora_embedding_";
  const std::string head = "base_model.model.lm_head.lora_";
  std::vector<float> by_token, by_channel;
  for (uint64_t i = 0; i < kVocabulary; ++i) by_token.push_back(0.25f * static_cast<float>(i));
  for (uint64_t i = 0; i < kHidden; ++i) by_channel.push_back(0.5f - static_cast<float>(i % 3));
  adapter.tensors[embedding + "A"] = {{1, kVocabulary}, by_token};
  adapter.tensors[embedding + "B"] = {{kHidden, 1}, by_channel};
  adapter.tensors[head + "A.weight"] = {{1, kHidden}, by_channel};
  adapter.tensors[head + "B.weight"] = {{kVocabulary, 1}, by_token};
  TinyFolder expected = tiny;
  std::vector<float>& values = expected.tensors.at("model.embed_tokens.weight").values;
  for (uint64_t i = 0; i < values.size(); ++i) {
    const double product = 1.0 * by_token[i / kHidden] * by_channel[i % kHidden];
    values[i] = static_cast<float>(values[i] + TinyAdapter::kAlpha * product);
  }
  expected.tensors["lm_head.weight"] = expected.tensors.at("model.embed_tokens.weight");
  expected.config["tie_word_embeddings"] = false;
  for (const bool gguf : {false, true}) {
    ExpectEqual(*WithAdapter(Base(tiny, gguf), Adapter(adapter)),
                *Base(expected, gguf, "expected"));
  }
}

TEST_F(AdapterFitTest, AMixerMayBeTrainedWhole) {
  const TinyFolder tiny = TinyFolder::Granite();
  TinyAdapter adapter;
  std::mt19937 random(4);
  adapter.config["modules_to_save"] = {"mamba"};
  for (const auto& [name, tensor] : tiny.tensors) {
    if (name.find(".mamba.") != std::string::npos) adapter.AddWhole(&random, name, tiny);
  }
  EXPECT_EQ(adapter.tensors.size(), 8u);
  for (const bool gguf : {false, true}) {
    ExpectEqual(*WithAdapter(Base(tiny, gguf), Adapter(adapter)),
                *Base(adapter.AppliedTo(tiny), gguf, "expected"));
  }
}

TEST_F(AdapterFitTest, WhatDoesNotFitIsNamed) {
  const TinyFolder llama = TinyFolder::Llama(), granite = TinyFolder::Granite();
  const TinyAdapter good = TinyAdapter::Lora(llama);
  ExpectMismatch(granite, good, {"model.layers.0.mlp.down_proj", "no module of the base", "more"});
  const std::string prefix = "base_model.model.model.layers.1.";
  TinyAdapter adapter = good;
  adapter.tensors[prefix + "mlp.up_proj.lora_A.weight"] =
      adapter.tensors.at(prefix + "mlp.down_proj.lora_A.weight");
  ExpectMismatch(llama, adapter,
                 {"'model.layers.1.mlp.up_proj' is [48, 32] in the base", "[48, 48]"});
  adapter = good;
  adapter.tensors.erase(prefix + "self_attn.v_proj.lora_A.weight");
  adapter.tensors.erase(prefix + "self_attn.v_proj.lora_B.weight");
  ExpectMismatch(llama, adapter,
                 {"'model.layers.1.self_attn.v_proj' has LoRA by 'target_modules'"});
  adapter = good;
  adapter.config["target_modules"].erase(0);  // q_proj
  ExpectMismatch(llama, adapter, {"'model.layers.0.self_attn.q_proj' has LoRA, and"});
  adapter = TinyAdapter::HyLora(granite);
  adapter.tensors.erase("base_model.model.model.layers.0.mamba.conv1d.bias");
  ExpectMismatch(granite, adapter, {"'model.layers.0.mamba.conv1d.bias' is trained whole"});
  adapter = TinyAdapter::HyLora(granite);
  adapter.tensors["base_model.model.model.rope.weight"] = {{1}, {1.0f}};
  ExpectMismatch(granite, adapter, {"'model.rope.weight' is no tensor of the base"});
  adapter = TinyAdapter::HyLora(granite);
  adapter.tensors.at("base_model.model.model.norm.weight") = {{3}, {1, 2, 3}};
  ExpectMismatch(granite, adapter, {"'model.norm.weight' is [32] in the base and [3]"});
}

TEST_F(AdapterFitTest, ErrorsOfAChangedTensorNameBaseAndAdapter) {
  const TinyFolder tiny = TinyFolder::Llama();
  const auto adapted = WithAdapter(Base(tiny, true), Adapter(TinyAdapter::Lora(tiny)));
  const std::string where = adapted->Where("blk.0.attn_q.weight");
  EXPECT_NE(where.find(folder_ / "base"), std::string::npos) << where;
  EXPECT_NE(where.find(folder_ / "adapter"), std::string::npos) << where;
  float value;
  EXPECT_THROW(adapted->Read("blk.0.attn_q.weight", {1}, &value), Error);
}

}  // namespace
}  // namespace eidetic::model
