// An engine of a folder: its fingerprint, and the retrieval profile beside it.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/checkpoint.h"
#include "sdk/engine.h"
#include "sdk/file_hash.h"
#include "sdk/reports.h"
#include "sdk/retrieval_profile.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using model::TinyFolder;

class FolderEngine : public ::testing::Test {
 protected:
  static memory::Result<std::shared_ptr<const Engine>> Create(const std::string& path) {
    EngineOptions options;
    options.model_path = path;
    options.threads = 1;
    return Engine::Create(options);
  }
  static std::string FingerprintOf(const std::string& path) {
    const auto engine = Create(path);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return engine.ok() ? (*engine)->fingerprint() : "";
  }
  std::string In(const std::string& name) const { return path_ + "/" + name; }

  tests::TemporaryFolder folder_;
  const std::string path_ = folder_ / "model";
};

TEST_F(FolderEngine, TheFingerprintStaysWhenTheFolderMoves) {
  TinyFolder::Granite().Write(path_, 2);
  const std::string fingerprint = FingerprintOf(path_);
  EXPECT_EQ(fingerprint.size(), 64u);
  std::filesystem::rename(path_, folder_ / "elsewhere");
  EXPECT_EQ(FingerprintOf(folder_ / "elsewhere"), fingerprint);
  EXPECT_EQ(FingerprintOf(folder_ / "elsewhere/"), fingerprint);
  // What is no part of the model is no part of the fingerprint.
  model::WriteFile(folder_ / "elsewhere/README.md", "text");
  EXPECT_EQ(FingerprintOf(folder_ / "elsewhere"), fingerprint);
}

TEST_F(FolderEngine, TheReportHasNoChatWithoutATemplateThatIsUnderstood) {
  TinyFolder::Llama().Write(path_);
  const auto chat = [&] {
    return nlohmann::json::parse(EngineJson(*Create(path_).value())).at("chat");
  };
  EXPECT_TRUE(chat().is_null());
  model::WriteFile(In("chat_template.jinja"), "{{ messages[0] }}");
  EXPECT_TRUE(chat().is_null());
  model::WriteFile(In("chat_template.jinja"),
                   "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
                   "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
                   "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
  EXPECT_EQ(chat().at("user").at("before"), "<|im_start|>user\n");
  EXPECT_EQ(chat().at("user").at("after"), "<|im_end|>\n");
  EXPECT_EQ(chat().at("assistant").at("before"), "<|im_start|>assistant\n");
}

TEST_F(FolderEngine, TheFingerprintCoversEveryFileThatIsRead) {
  TinyFolder tiny = TinyFolder::Llama();
  tiny.Write(path_, 2);
  model::WriteFile(In("tokenizer_config.json"), "{}");
  model::WriteFile(In("generation_config.json"), "{}");
  model::WriteFile(In("chat_template.jinja"), "x");
  const std::string fingerprint = FingerprintOf(path_);
  for (const std::string& file : model::Checkpoint::FilesOf(path_)) {
    const std::string good = model::ReadFile(file);
    std::string changed = good + " ";  // white space changes no text's meaning
    if (file.ends_with(".safetensors")) {
      changed = good;
      changed[good.size() - 4] = static_cast<char>(changed[good.size() - 4] ^ 1);
    }
    model::WriteFile(file, changed);
    EXPECT_NE(FingerprintOf(path_), fingerprint) << file;
    model::WriteFile(file, good);
  }
  EXPECT_EQ(FingerprintOf(path_), fingerprint);
  std::filesystem::remove(In("chat_template.jinja"));
  EXPECT_NE(FingerprintOf(path_), fingerprint);
}

TEST_F(FolderEngine, AFileThatChangedSinceItWasIdentifiedIsAnError) {
  TinyFolder::Llama().Write(path_);
  const std::vector<std::string> paths = model::Checkpoint::FilesOf(path_);
  const auto identities = IdentitiesOf(paths);
  ASSERT_TRUE(identities.ok());
  EXPECT_TRUE(CachedModelHash(*identities, paths, "").ok());
  model::WriteFile(In("config.json"), model::ReadFile(In("config.json")) + " ");
  const auto hash = CachedModelHash(*identities, paths, "");
  EXPECT_EQ(hash.status().code(), Code::kIoError);
  EXPECT_NE(hash.status().message().find("config.json"), std::string::npos);
}

TEST_F(FolderEngine, ErrorsOfTheFolderComeThroughWithWhatToDo) {
  TinyFolder::Llama().Write(path_, 2);
  std::filesystem::remove(In("model-00002-of-00002.safetensors"));
  const auto engine = Create(path_);
  EXPECT_EQ(engine.status().code(), Code::kNotFound);
  EXPECT_NE(engine.status().message().find("model-00002-of-00002.safetensors"), std::string::npos);
  EXPECT_FALSE(engine.status().remedy().empty());
}

TEST_F(FolderEngine, AnAdapterIsPartOfTheFingerprintByItsContent) {
  const TinyFolder tiny = TinyFolder::Granite();
  tiny.Write(path_);
  model::TinyAdapter adapter = model::TinyAdapter::HyLora(tiny);
  const std::string plain = FingerprintOf(path_);
  const std::string place = folder_ / "adapter";
  const auto with_adapter = [&](const std::string& where) {
    EngineOptions options;
    options.model_path = path_;
    options.adapter_path = where;
    options.threads = 1;
    return Engine::Create(options);
  };
  const auto fingerprint = [&](const std::string& where) {
    const auto engine = with_adapter(where);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return engine.ok() ? (*engine)->fingerprint() : "";
  };
  adapter.Write(place);
  const std::string adapted = fingerprint(place);
  EXPECT_NE(adapted, plain);
  EXPECT_EQ(FingerprintOf(path_), plain);
  std::filesystem::rename(place, folder_ / "elsewhere");
  EXPECT_EQ(fingerprint(folder_ / "elsewhere"), adapted);
  adapter.config["lora_alpha"] = 8;
  adapter.Write(place);
  const std::string other_scale = fingerprint(place);
  EXPECT_NE(other_scale, adapted);
  adapter.tensors.begin()->second.values[0] += 1;
  adapter.Write(place);
  EXPECT_NE(fingerprint(place), other_scale);

  // One of another model is refused as another model's memory is; none at all is not found.
  model::TinyAdapter::Lora(TinyFolder::Llama()).Write(place);
  const auto unfit = with_adapter(place);
  EXPECT_EQ(unfit.status().code(), Code::kFingerprintMismatch);
  EXPECT_NE(unfit.status().message().find("model.layers.0.mlp.down_proj"), std::string::npos)
      << unfit.status().message();
  EXPECT_EQ(with_adapter(folder_ / "none").status().code(), Code::kNotFound);
}

// The profile of the model alone is another model's.
TEST_F(FolderEngine, TheProfileOfAnAdaptedModelLiesBesideTheAdapter) {
  const TinyFolder tiny = TinyFolder::Llama();
  tiny.Write(path_);
  model::TinyAdapter::Lora(tiny).Write(folder_ / "adapter");
  EngineOptions options;
  options.model_path = path_;
  options.threads = 1;
  model::WriteFile(ProfilePathOf(path_), "damaged");
  EXPECT_FALSE(Engine::Create(options).ok());
  options.adapter_path = folder_ / "adapter";
  EXPECT_TRUE(Engine::Create(options).ok());
  model::WriteFile(folder_ / "adapter.profile.json", "damaged");
  EXPECT_FALSE(Engine::Create(options).ok());
}

// Reads a few tokens; the logits after the last.
std::vector<float> LogitsOf(const Engine& engine) {
  const auto state = engine.model().NewState({});
  std::vector<float> logits;
  engine.model().Forward({1, 2, 3, 4, 5, 1, 2}, state.get(), {}, &logits);
  return logits;
}

TEST_F(FolderEngine, AdaptersBesideOneModelComputeWhatEachLoadedAloneComputes) {
  for (const TinyFolder& tiny : {TinyFolder::Granite(), TinyFolder::Llama()}) {
    std::filesystem::remove_all(path_);
    tiny.Write(path_);
    model::TinyAdapter::Lora(tiny).Write(folder_ / "lora");
    model::TinyAdapter::HyLora(tiny).Write(folder_ / "hylora");
    const auto base = *Create(path_);
    const std::vector<float> plain = LogitsOf(*base);
    std::vector<std::shared_ptr<const Engine>> resident;
    for (const char* name : {"lora", "hylora"}) {
      EngineOptions options;
      options.model_path = path_;
      options.adapter_path = folder_ / name;
      options.threads = 1;
      const auto alone = *Engine::Create(options);
      const auto beside = Engine::WithAdapter(*base, options.adapter_path, "");
      ASSERT_TRUE(beside.ok()) << beside.status().message();
      EXPECT_EQ((*beside)->fingerprint(), alone->fingerprint());
      EXPECT_EQ((*beside)->adapter_path(), options.adapter_path);
      EXPECT_EQ(LogitsOf(**beside),
                LogitsOf(*alone));  // to the bit: memory of one serves the other
      EXPECT_NE(LogitsOf(**beside), plain);
      // What the adapter changes is its own, and nothing else is.
      const model::HybridModel& own = (*beside)->model();
      EXPECT_EQ(own.weight_bytes() + own.shared_weight_bytes(), alone->model().weight_bytes());
      EXPECT_GT(own.shared_weight_bytes(), 0u);
      EXPECT_EQ(alone->model().shared_weight_bytes(), 0u);
      resident.push_back(*beside);
    }
    EXPECT_EQ(LogitsOf(*base), plain);
    EXPECT_NE(LogitsOf(*resident[0]), LogitsOf(*resident[1]));
    EXPECT_NE(resident[0]->fingerprint(), resident[1]->fingerprint());
  }
}

TEST_F(FolderEngine, AnAdapterGoesBesideTheModelThatWasLoadedAndNoOther) {
  const TinyFolder tiny = TinyFolder::Granite();
  tiny.Write(path_);
  model::TinyAdapter::Lora(tiny).Write(folder_ / "lora");
  const auto base = *Create(path_);
  const auto code = [&](const Engine& engine, const std::string& adapter) {
    return Engine::WithAdapter(engine, adapter, "").status().code();
  };
  const auto adapted = Engine::WithAdapter(*base, folder_ / "lora", "");
  ASSERT_TRUE(adapted.ok()) << adapted.status().message();
  EXPECT_EQ(code(**adapted, folder_ / "lora"), Code::kInvalidArgument);
  EXPECT_EQ(code(*base, ""), Code::kInvalidArgument);
  EXPECT_EQ(code(*base, folder_ / "none"), Code::kNotFound);
  model::TinyAdapter::Lora(TinyFolder::Llama()).Write(folder_ / "unfit");
  EXPECT_EQ(code(*base, folder_ / "unfit"), Code::kFingerprintMismatch);
  model::WriteFile(In("config.json"), model::ReadFile(In("config.json")) + " ");
  EXPECT_EQ(code(*base, folder_ / "lora"), Code::kIoError);
}

TEST_F(FolderEngine, TheFingerprintIsKnownWithoutLoadingWeights) {
  const TinyFolder tiny = TinyFolder::Granite();
  tiny.Write(path_);
  model::TinyAdapter::HyLora(tiny).Write(folder_ / "adapter");
  EngineOptions options;
  options.model_path = path_;
  options.threads = 1;
  EXPECT_EQ(*Engine::FingerprintOf(options), (*Engine::Create(options))->fingerprint());
  options.adapter_path = folder_ / "adapter";
  EXPECT_EQ(*Engine::FingerprintOf(options), (*Engine::Create(options))->fingerprint());
  options.adapter_path = folder_ / "none";
  EXPECT_EQ(Engine::FingerprintOf(options).status().code(), Code::kNotFound);
}

// Scaled positions are another model, also beside one and before its weights are loaded.
TEST_F(FolderEngine, ScaledPositionsCountForAdaptersAndFingerprintsToo) {
  const TinyFolder tiny = TinyFolder::Granite();
  tiny.Write(path_);
  model::TinyAdapter::Lora(tiny).Write(folder_ / "lora");
  EngineOptions options;
  options.model_path = path_;
  options.threads = 1;
  const std::string unscaled = (*Engine::Create(options))->fingerprint();
  options.rope_scaling = "linear:4";
  const auto base = *Engine::Create(options);
  EXPECT_NE(base->fingerprint(), unscaled);
  EXPECT_EQ(*Engine::FingerprintOf(options), base->fingerprint());
  const auto beside = Engine::WithAdapter(*base, folder_ / "lora", "");
  ASSERT_TRUE(beside.ok()) << beside.status().message();
  options.adapter_path = folder_ / "lora";
  const auto alone = *Engine::Create(options);
  EXPECT_EQ(*Engine::FingerprintOf(options), alone->fingerprint());
  EXPECT_EQ((*beside)->fingerprint(), alone->fingerprint());
  EXPECT_EQ(LogitsOf(**beside), LogitsOf(*alone));
}

// What an adapter was trained with is part of it: whoever uses it need not know.
TEST_F(FolderEngine, AnAdapterBringsTheScalingThatItWasTrainedWith) {
  const TinyFolder tiny = TinyFolder::Granite();
  tiny.Write(path_);
  model::TinyAdapter adapter = model::TinyAdapter::Lora(tiny);
  adapter.Write(folder_ / "unscaled");
  adapter.metadata["eidetic.rope_scaling"] = "yarn:4";
  adapter.Write(folder_ / "scaled");
  EngineOptions options;
  options.model_path = path_;
  options.threads = 1;
  const auto base = *Engine::Create(options);
  options.adapter_path = folder_ / "unscaled";
  const auto unscaled = *Engine::Create(options);
  options.rope_scaling = "yarn:4";
  const std::vector<float> expected = LogitsOf(**Engine::Create(options));
  EXPECT_NE(expected, LogitsOf(*unscaled));

  options.adapter_path = folder_ / "scaled";
  for (const char* given : {"", "yarn:4", "yarn:4:256"}) {  // 256 is the model's context
    options.rope_scaling = given;
    const auto scaled = Engine::Create(options);
    ASSERT_TRUE(scaled.ok()) << scaled.status().message();
    EXPECT_EQ(LogitsOf(**scaled), expected) << given;
    EXPECT_NE((*scaled)->fingerprint(), unscaled->fingerprint());
    EXPECT_EQ(*Engine::FingerprintOf(options), (*scaled)->fingerprint());
    const auto beside = Engine::WithAdapter(*base, options.adapter_path, "");
    ASSERT_TRUE(beside.ok()) << beside.status().message();
    EXPECT_EQ(LogitsOf(**beside), expected);
    EXPECT_EQ((*beside)->fingerprint(), (*scaled)->fingerprint());
  }
  // Another one is no answer that anybody trained.
  options.adapter_path.clear();
  options.rope_scaling = "linear:4";
  const auto other = *Engine::Create(options);
  options.adapter_path = folder_ / "scaled";
  for (const auto& status :
       {Engine::Create(options).status(), Engine::FingerprintOf(options).status(),
        Engine::WithAdapter(*other, options.adapter_path, "").status()}) {
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("linear:4"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("was trained with yarn:4"), std::string::npos);
    EXPECT_FALSE(status.remedy().empty());
  }
}

TEST_F(FolderEngine, TheProfileLiesBesideTheFolder) {
  EXPECT_EQ(ProfilePathOf("models/llama"), "models/llama.profile.json");
  EXPECT_EQ(ProfilePathOf("models/llama/"), "models/llama.profile.json");
  EXPECT_EQ(ProfilePathOf("model.gguf"), "model.gguf.profile.json");
}

}  // namespace
}  // namespace eidetic::sdk
