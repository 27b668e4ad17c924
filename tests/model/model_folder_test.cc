#include "model/model_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/checkpoint.h"
#include "model/error.h"
#include "tests/model/tiny_folder.h"

namespace eidetic::model {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

class ModelFolderTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Checkpoint> Open(const TinyFolder& tiny, size_t shards = 1) {
    std::filesystem::remove_all(path_);
    tiny.Write(path_, shards);
    return Checkpoint::Open(path_);
  }
  std::string In(const std::string& name) const { return path_ + "/" + name; }

  // What `call` throws is of `code`, says every one of `parts`, and what to do.
  template <typename Call>
  static void ExpectError(Call call, ErrorCode code, const std::vector<std::string>& parts) {
    try {
      call();
      ADD_FAILURE() << "no error about: " << parts[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << error.what() << " lacks " << part;
      }
      EXPECT_FALSE(error.remedy().empty()) << error.what();
    }
  }
  void ExpectRefused(const TinyFolder& tiny, ErrorCode code, const std::vector<std::string>& parts,
                     size_t shards = 1) {
    ExpectError([&] { Open(tiny, shards); }, code, parts);
  }
  void ExpectTokenizerRefused(const TinyFolder& tiny, ErrorCode code,
                              const std::vector<std::string>& parts) {
    const auto checkpoint = Open(tiny);
    ExpectError([&] { checkpoint->ReadTokenizer(); }, code, parts);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "model";
};

TEST_F(ModelFolderTest, HasTheConfigurationOfTheSameModelInAGguf) {
  for (const TinyFolder& tiny : {TinyFolder::Llama(), TinyFolder::Granite()}) {
    const auto checkpoint = Open(tiny);
    const ModelConfig config = checkpoint->Config();
    WriteFile(folder_ / "m.gguf", tiny.Gguf());
    const ModelConfig other = Checkpoint::Open(folder_ / "m.gguf")->Config();
    EXPECT_EQ(config.name, "model");
    EXPECT_EQ(config.architecture, other.architecture);
    EXPECT_EQ(config.vocabulary, other.vocabulary);
    EXPECT_EQ(config.hidden, other.hidden);
    EXPECT_EQ(config.feed_forward, other.feed_forward);
    EXPECT_EQ(config.layers, other.layers);
    EXPECT_EQ(config.heads, other.heads);
    EXPECT_EQ(config.kv_heads, other.kv_heads);
    EXPECT_EQ(config.head_dim, other.head_dim);
    EXPECT_EQ(config.norm_epsilon, other.norm_epsilon);
    EXPECT_EQ(config.rotary_base, other.rotary_base);
    EXPECT_EQ(config.rotary_dims, other.rotary_dims);
    EXPECT_EQ(config.attention_scale, other.attention_scale);
    EXPECT_EQ(config.embedding_scale, other.embedding_scale);
    EXPECT_EQ(config.residual_scale, other.residual_scale);
    EXPECT_EQ(config.logit_scale, other.logit_scale);
    EXPECT_EQ(config.trained_context, other.trained_context);
    EXPECT_EQ(config.tied_embeddings, other.tied_embeddings);
    EXPECT_EQ(config.mamba.heads, other.mamba.heads);
    EXPECT_EQ(config.mamba.head_dim, other.mamba.head_dim);
    EXPECT_EQ(config.mamba.state, other.mamba.state);
    EXPECT_EQ(config.mamba.groups, other.mamba.groups);
    EXPECT_EQ(config.mamba.conv_width, other.mamba.conv_width);
  }
}

// All of a model's tensors, by GGUF's names.
std::map<std::string, std::vector<float>> Values(const Checkpoint& checkpoint,
                                                 const GgufFile& like) {
  std::map<std::string, std::vector<float>> values;
  for (const GgufTensor& tensor : like.tensors()) {
    std::vector<float>& place = values[tensor.name];
    place.resize(tensor.Values());
    checkpoint.Read(tensor.name, tensor.shape, place.data());
  }
  return values;
}

TEST_F(ModelFolderTest, GivesTheTensorsOfTheSameModelInAGgufInEveryDtypeAndHoweverSharded) {
  for (const TinyFolder& exact : {TinyFolder::Llama(), TinyFolder::Granite()}) {
    for (const char* dtype : {"F32", "BF16", "F16"}) {
      TinyFolder tiny = exact;
      tiny.Round(dtype);
      WriteFile(folder_ / "m.gguf", tiny.Gguf());
      const auto gguf = GgufFile::Open(folder_ / "m.gguf");
      const auto expected = Values(*Checkpoint::Of(gguf), *gguf);
      EXPECT_EQ(Values(*Open(tiny), *gguf), expected) << dtype;
      EXPECT_EQ(Values(*Open(tiny, 3), *gguf), expected) << dtype;
    }
  }
}

TEST_F(ModelFolderTest, AnOldSpellingOfTheConfigurationIsRead) {
  TinyFolder tiny = TinyFolder::Granite();
  tiny.config.erase("rope_parameters");
  tiny.config["rope_theta"] = 5000;
  tiny.config.erase("layer_types");
  tiny.config["layers_block_type"] = {"mamba", "attention"};
  tiny.config["mamba_d_head"] = TinyFolder::kMixerHeadDim;
  Open(tiny);
  // Python writes infinities that are no JSON.
  std::string text = tiny.config.dump();
  const std::string number = R"({"__float__":"Infinity"})";
  text.replace(text.find(number), number.size(), "Infinity");
  WriteFile(In("config.json"), text);
  const ModelConfig config = Checkpoint::Open(path_)->Config();
  EXPECT_EQ(config.rotary_base, 5000);
  EXPECT_EQ(config.MambaLayers(), std::vector<int>{0});

  tiny = TinyFolder::Llama();
  for (const char* key : {"num_key_value_heads", "attention_bias", "mlp_bias", "rope_theta",
                          "rope_scaling", "architectures", "hidden_act"}) {
    tiny.config.erase(key);
  }
  ExpectRefused(tiny, ErrorCode::kCorruption, {"k_proj", "[16, 32]", "calls for [32, 32]"});
}

TEST_F(ModelFolderTest, RotaryScalingIsReadInBothSpellings) {
  TinyFolder tiny = TinyFolder::Llama();
  tiny.config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(Open(tiny)->Config().rotary_scaling, ParseRotaryScaling("linear:4"));
  tiny.config["rope_scaling"] = {
      {"rope_type", "yarn"},     {"factor", 4.0},   {"original_max_position_embeddings", 2048},
      {"attention_factor", 1.5}, {"beta_fast", 16}, {"beta_slow", 2}};
  const RotaryScaling yarn = Open(tiny)->Config().rotary_scaling;
  EXPECT_EQ(yarn.kind, RotaryScalingKind::kYarn);
  EXPECT_EQ(yarn.factor, 4);
  EXPECT_EQ(yarn.original_context, 2048);
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 2);
  EXPECT_EQ(RotaryLength(yarn), 1.5);
  tiny.config.erase("rope_scaling");
  tiny.config["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 2}, {"rope_theta", 5000}};
  tiny.config["max_position_embeddings"] = 4096;
  EXPECT_EQ(Open(tiny)->Config().rotary_scaling, ParseRotaryScaling("yarn:2:4096"));
  EXPECT_EQ(Open(tiny)->Config().rotary_base, 5000);
}

TEST_F(ModelFolderTest, AModelWithoutRotationIsToldByItsConfiguration) {
  TinyFolder tiny = TinyFolder::Granite();
  EXPECT_EQ(Open(tiny)->Config().rotary_dims, static_cast<int>(TinyFolder::kHeadDim));
  tiny.config["position_embedding_type"] = "nope";
  EXPECT_EQ(Open(tiny)->Config().rotary_dims, 0);
  tiny.config["position_embedding_type"] = nullptr;
  EXPECT_EQ(Open(tiny)->Config().rotary_dims, 0);
}

TEST_F(ModelFolderTest, ConfigurationsThatCannotBeComputedAreRefusedByKey) {
  const ErrorCode no = ErrorCode::kUnsupported, bad = ErrorCode::kCorruption;
  const std::tuple<const char*, json, ErrorCode> llama[] = {
      {"model_type", "mistral", no},
      {"model_type", nullptr, no},
      {"architectures", {"LlamaForSequenceClassification"}, no},
      {"hidden_act", "gelu", no},
      {"attention_bias", true, no},
      {"mlp_bias", true, no},
      {"mlp_bias", "yes", bad},
      {"quantization_config", {{"quant_method", "awq"}}, no},
      {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}, no},
      {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 8.0}, {"mscale", 1.0}}, no},
      {"rope_scaling", {{"rope_type", "linear"}}, bad},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", "4"}}, bad},
      {"rope_scaling",
       {{"rope_type", "yarn"}, {"factor", 4.0}, {"beta_fast", 1}, {"beta_slow", 2}},
       bad},
      {"rope_scaling", 8.0, bad},
      {"rope_parameters", {{"rope_theta", "many"}}, bad},
      {"partial_rotary_factor", 0.5, no},
      {"rope_theta", -1, bad},
      {"head_dim", 7, bad},
      {"head_dim", 1 << 24, bad},
      {"hidden_size", nullptr, bad},
      {"hidden_size", 33, bad},
      {"hidden_size", 32.5, bad},
      {"num_hidden_layers", 5000, bad},
      {"num_key_value_heads", 3, bad},
      {"vocab_size", -4, bad},
      {"vocab_size", 1e30, bad},
      {"rms_norm_eps", 0, bad}};
  const std::tuple<const char*, json, ErrorCode> granite[] = {
      {"num_local_experts", 8, no},
      {"position_embedding_type", "alibi", no},
      {"normalization_function", "layernorm", no},
      {"layer_types", {"mamba", "moe"}, no},
      {"layer_types", {"mamba", "mamba"}, no},
      {"layer_types", {"mamba"}, bad},
      {"layer_types", "mamba", bad},
      {"mamba_proj_bias", true, no},
      {"mamba_conv_bias", false, no},
      {"time_step_limit", {0.001, 0.1}, no},
      {"mamba_n_groups", 3, bad},
      {"mamba_n_heads", 5, bad},
      {"mamba_expand", 3.3, bad},
      {"mamba_d_state", 1 << 24, bad},
      {"logits_scaling", 0, bad}};
  const auto try_all = [&](const TinyFolder& good, const auto& changes) {
    for (const auto& [key, value, code] : changes) {
      TinyFolder tiny = good;
      tiny.config[key] = value;
      const bool heads = key == std::string("num_key_value_heads");
      ExpectRefused(tiny, code, {"config.json", heads ? "num_attention_heads" : key});
    }
  };
  try_all(TinyFolder::Llama(), llama);
  try_all(TinyFolder::Granite(), granite);
}

TEST_F(ModelFolderTest, AFileThatIsMissingIsNamed) {
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    TinyFolder::Llama().Write(path_);
    std::filesystem::remove(In(name));
    ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kNotFound, {path_, name});
    ExpectError([&] { Checkpoint::FilesOf(path_); }, ErrorCode::kNotFound, {path_, name});
  }
  std::filesystem::remove_all(path_);
  TinyFolder::Llama().Write(path_, 2);
  std::filesystem::remove(In("model-00002-of-00002.safetensors"));
  ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kNotFound,
              {"model-00002-of-00002.safetensors", "model.safetensors.index.json"});
  ExpectError([&] { Checkpoint::Open(folder_ / "none"); }, ErrorCode::kNotFound, {"none"});
}

TEST_F(ModelFolderTest, APatchIsToldFromAModel) {
  std::filesystem::create_directories(path_);
  WriteFile(In("config.json"), "{}");
  WriteFile(In("mixers.safetensors"), "x");
  try {
    Checkpoint::Open(path_);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(error.remedy().find("model merge"), std::string::npos) << error.remedy();
  }
}

TEST_F(ModelFolderTest, AnIndexThatLeavesTheFolderOrIsNoneIsRefused) {
  const TinyFolder tiny = TinyFolder::Llama();
  Open(tiny, 2);
  const std::string path = In("model.safetensors.index.json");
  const json good = json::parse(ReadFile(path));
  const std::string tensor = "model.norm.weight";
  std::filesystem::copy_file(In("model-00001-of-00002.safetensors"),
                             folder_ / "outside.safetensors");
  const json bad_names[] = {"../outside.safetensors",
                            folder_ / "outside.safetensors",
                            "sub/model-00001-of-00002.safetensors",
                            "..",
                            ".safetensors",
                            "",
                            "config.json",
                            std::string("a\0.safetensors", 14),
                            7,
                            nullptr};
  for (const json& name : bad_names) {
    json index = good;
    index["weight_map"][tensor] = name;
    WriteFile(path, index.dump());
    ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kCorruption,
                {"model.safetensors.index.json", tensor, "no safetensors file of this folder"});
    ExpectError([&] { Checkpoint::FilesOf(path_); }, ErrorCode::kCorruption, {tensor});
  }
  for (const char* text : {"", "[]", "{", R"({"weight_map":[]})", R"({"weight_map":{}})", "{}"}) {
    WriteFile(path, text);
    ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kCorruption,
                {"model.safetensors.index.json"});
  }
  // A tensor that is in another file than the index says, or in none.
  json index = good;
  const bool first = index["weight_map"][tensor] == "model-00001-of-00002.safetensors";
  const std::string other =
      std::string("model-0000") + (first ? "2" : "1") + "-of-00002.safetensors";
  index["weight_map"][tensor] = other;
  WriteFile(path, index.dump());
  ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kCorruption, {other, tensor});
  index = good;
  index["weight_map"].erase(tensor);
  WriteFile(path, index.dump());
  ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kCorruption,
              {"model.safetensors.index.json", tensor, "config.json"});
}

TEST_F(ModelFolderTest, LinksAreFollowedAsCachesOfDownloadsAreMadeOfThem) {
  const TinyFolder tiny = TinyFolder::Llama();
  tiny.Write(folder_ / "blobs", 2);
  std::filesystem::create_directories(path_);
  for (const auto& file : std::filesystem::directory_iterator(folder_ / "blobs")) {
    std::filesystem::create_symlink(file.path(), In(file.path().filename().string()));
  }
  EXPECT_EQ(Checkpoint::Open(path_)->files().size(), 5u);
}

TEST_F(ModelFolderTest, TensorsThatDoNotFitAreNamedWithTheirFile) {
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  TinyFolder tiny = TinyFolder::Llama();
  tiny.tensors.erase(name);
  ExpectRefused(tiny, ErrorCode::kCorruption, {"model.safetensors", "lacks", name});
  ExpectRefused(tiny, ErrorCode::kCorruption, {"model.safetensors.index.json", "not name", name},
                3);
  tiny = TinyFolder::Llama();
  std::swap(tiny.tensors[name].shape[0], tiny.tensors[name].shape[1]);
  ExpectRefused(tiny, ErrorCode::kCorruption,
                {"model.safetensors", name, "[48, 32]", "calls for [32, 48]"});
  tiny = TinyFolder::Llama();
  tiny.tensors.erase("lm_head.weight");
  ExpectRefused(tiny, ErrorCode::kCorruption, {"lacks", "lm_head.weight"});
  tiny = TinyFolder::Llama();
  tiny.config["tie_word_embeddings"] = true;
  ExpectRefused(tiny, ErrorCode::kCorruption, {"lm_head.weight", "tied"});
  tiny.tensors["lm_head.weight"] = tiny.tensors["model.embed_tokens.weight"];
  EXPECT_TRUE(Open(tiny)->Config().tied_embeddings);
}

TEST_F(ModelFolderTest, TensorsThatNothingReadsAreRefused) {
  TinyFolder tiny = TinyFolder::Llama();
  tiny.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{2}, {1, 2}};
  Open(tiny);  // of old writers, and implied by the configuration
  tiny.tensors["model.layers.0.self_attn.q_proj.bias"] = {{2}, {1, 2}};
  ExpectRefused(tiny, ErrorCode::kUnsupported,
                {"model.safetensors", "model.layers.0.self_attn.q_proj.bias"});
}

TEST_F(ModelFolderTest, OtherDtypesAreRefusedByNameOfTheTensor) {
  Open(TinyFolder::Llama());
  const std::string good = ReadFile(In("model.safetensors"));
  for (const char* dtype : {"I32", "U32"}) {  // as many bytes, and as long a name
    std::string bytes = good;
    bytes.replace(bytes.find("F32", bytes.find("model.norm.weight")), 3, dtype);
    WriteFile(In("model.safetensors"), bytes);
    ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kUnsupported,
                {"model.safetensors", "model.norm.weight", dtype});
  }
  std::string bytes = good;
  bytes.replace(bytes.find("F32", bytes.find("model.norm.weight")), 3, "F8X");
  WriteFile(In("model.safetensors"), bytes);
  ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kUnsupported,
              {"model.safetensors", "model.norm.weight", "F8X"});
}

TEST_F(ModelFolderTest, DamagedWeightsAreRefusedWhereverTheyEnd) {
  const TinyFolder tiny = TinyFolder::Llama();
  Open(tiny);
  const std::string good = ReadFile(In("model.safetensors"));
  for (const size_t length :
       {size_t{0}, size_t{7}, size_t{8}, size_t{100}, good.size() / 2, good.size() - 1}) {
    WriteFile(In("model.safetensors"), good.substr(0, length));
    ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kCorruption, {"model.safetensors"});
  }
  std::string bytes = good;
  bytes[4] = '\x7f';  // a header of 547 GB
  WriteFile(In("model.safetensors"), bytes);
  ExpectError([&] { Checkpoint::Open(path_); }, ErrorCode::kCorruption,
              {"model.safetensors", "claims a header"});
}

TEST_F(ModelFolderTest, ListsEveryFileItReadsAndNoOther) {
  const TinyFolder tiny = TinyFolder::Llama();
  tiny.Write(path_, 2);
  WriteFile(In("README.md"), "x");
  WriteFile(In("pytorch_model.bin"), "x");
  const std::vector<std::string> least = {In("config.json"), In("model-00001-of-00002.safetensors"),
                                          In("model-00002-of-00002.safetensors"),
                                          In("model.safetensors.index.json"), In("tokenizer.json")};
  EXPECT_EQ(Checkpoint::FilesOf(path_), least);
  for (const char* name : {"tokenizer_config.json", "generation_config.json"}) {
    WriteFile(In(name), "{}");
  }
  WriteFile(In("chat_template.jinja"), "x");
  EXPECT_EQ(Checkpoint::FilesOf(path_).size(), least.size() + 3);
  EXPECT_EQ(Checkpoint::Open(path_)->files(), Checkpoint::FilesOf(path_));
  // As in transformers, one file of weights comes before an index.
  WriteFile(In("model.safetensors"), "x");
  EXPECT_EQ(Checkpoint::FilesOf(path_).size(), 6u);
  EXPECT_EQ(Checkpoint::FilesOf("some.gguf"), std::vector<std::string>{"some.gguf"});
}

TEST_F(ModelFolderTest, MakesTheTokenizer) {
  const auto tokenizer = Open(TinyFolder::Llama())->ReadTokenizer();
  EXPECT_EQ(tokenizer->vocabulary(), static_cast<int>(TinyFolder::kVocabulary));
  EXPECT_EQ(tokenizer->Encode("ab ab a<x><|im_end|>", true), (Ids{3, 4, 3, 5, 6, 0}));
  EXPECT_EQ(tokenizer->Encode("a<x>", false), (Ids{1, 6}));
  EXPECT_EQ(tokenizer->Decode({3, 5, 2, 6, 0, 23}), "ab ab<x>");
  EXPECT_EQ(tokenizer->eos(), 0);
  EXPECT_TRUE(tokenizer->IsEnd(0));
  EXPECT_TRUE(tokenizer->IsControl(23));  // a row of the embedding without a token
  EXPECT_EQ(tokenizer->chat_template(), "");
}

TEST_F(ModelFolderTest, MergesMayBePairsOrText) {
  TinyFolder tiny = TinyFolder::Llama();
  const auto tokenizer = Open(tiny)->ReadTokenizer();
  tiny.tokenizer["model"]["merges"] =
      json::array({json::array({"a", "b"}), json::array({"\u0120", "a"})});
  const auto other = Open(tiny)->ReadTokenizer();
  EXPECT_EQ(other->Encode("ab ab", false), tokenizer->Encode("ab ab", false));
  EXPECT_EQ(other->FingerprintBytes(), tokenizer->FingerprintBytes());
  std::swap(tiny.tokenizer["model"]["merges"][0], tiny.tokenizer["model"]["merges"][1]);
  EXPECT_NE(Open(tiny)->ReadTokenizer()->FingerprintBytes(), tokenizer->FingerprintBytes());
}

TEST_F(ModelFolderTest, SettingsBesideTheTokenizerNameItsEndsAndItsTemplate) {
  const TinyFolder tiny = TinyFolder::Llama();
  Open(tiny);
  WriteFile(
      In("tokenizer_config.json"),
      json{{"eos_token", {{"content", "<x>"}, {"lstrip", false}}},
           {"bos_token", "a"},
           {"chat_template",
            {{{"name", "tools"}, {"template", "no"}}, {{"name", "default"}, {"template", "T"}}}}}
          .dump());
  WriteFile(In("generation_config.json"), json{{"eos_token_id", {2, 3}}}.dump());
  auto tokenizer = Checkpoint::Open(path_)->ReadTokenizer();
  EXPECT_EQ(tokenizer->eos(), 6);
  EXPECT_EQ(tokenizer->bos(), 1);
  for (const int32_t end : {0, 2, 3, 6}) EXPECT_TRUE(tokenizer->IsEnd(end)) << end;
  EXPECT_FALSE(tokenizer->IsEnd(1));
  EXPECT_EQ(tokenizer->chat_template(), "T");
  WriteFile(In("chat_template.jinja"), "{{ x }}\n");
  EXPECT_EQ(Checkpoint::Open(path_)->ReadTokenizer()->chat_template(), "{{ x }}\n");

  WriteFile(In("tokenizer_config.json"), R"({"eos_token": "nowhere"})");
  ExpectError([&] { Checkpoint::Open(path_)->ReadTokenizer(); }, ErrorCode::kCorruption,
              {"tokenizer_config.json", "eos_token", "nowhere", "tokenizer.json"});
  std::filesystem::remove(In("tokenizer_config.json"));
  WriteFile(In("generation_config.json"), R"({"eos_token_id": 24})");
  ExpectError([&] { Checkpoint::Open(path_)->ReadTokenizer(); }, ErrorCode::kCorruption,
              {"generation_config.json", "eos_token_id", "24"});
}

TEST_F(ModelFolderTest, TokenizersOfOtherRulesAreRefused) {
  const auto refuse = [&](const char* part, const auto& change) {
    TinyFolder tiny = TinyFolder::Llama();
    change(&tiny.tokenizer);
    ExpectTokenizerRefused(tiny, ErrorCode::kUnsupported, {"tokenizer.json", part});
  };
  refuse("normalizer", [](json* t) { (*t)["normalizer"] = {{"type", "NFC"}}; });
  refuse("decoder", [](json* t) { (*t)["decoder"] = {{"type", "Metaspace"}}; });
  refuse("decoder", [](json* t) { t->erase("decoder"); });
  refuse("pre_tokenizer", [](json* t) { (*t)["pre_tokenizer"] = nullptr; });
  refuse("pre_tokenizer", [](json* t) { (*t)["pre_tokenizer"]["type"] = "Whitespace"; });
  refuse("pre_tokenizer", [](json* t) {
    (*t)["pre_tokenizer"]["pretokenizers"][0] = {{"type", "Split"}, {"behavior", "Isolated"}};
  });
  refuse("pre_tokenizer",
         [](json* t) { (*t)["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false; });
  refuse("pre_tokenizer",
         [](json* t) { (*t)["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; });
  refuse("pre_tokenizer",
         [](json* t) { (*t)["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = false; });
  refuse("'\"Unigram\"'", [](json* t) { (*t)["model"]["type"] = "Unigram"; });
  refuse("byte_fallback", [](json* t) { (*t)["model"]["byte_fallback"] = true; });
  refuse("end_of_word_suffix", [](json* t) { (*t)["model"]["end_of_word_suffix"] = "</w>"; });
  refuse("unknown token", [](json* t) { (*t)["model"]["unk_token"] = "a"; });
  refuse("rstrip", [](json* t) { (*t)["added_tokens"][1]["rstrip"] = true; });
}

TEST_F(ModelFolderTest, TokenizersThatContradictThemselvesAreRefused) {
  const auto refuse = [&](const char* part, const auto& change) {
    TinyFolder tiny = TinyFolder::Llama();
    change(&tiny.tokenizer);
    ExpectTokenizerRefused(tiny, ErrorCode::kCorruption, {"tokenizer.json", part});
  };
  refuse("model", [](json* t) { t->erase("model"); });
  refuse("vocab", [](json* t) { (*t)["model"].erase("vocab"); });
  refuse("merges", [](json* t) { (*t)["model"].erase("merges"); });
  refuse("'ab'", [](json* t) { (*t)["model"]["vocab"]["ab"] = -1; });
  refuse("vocabulary of 24", [](json* t) { (*t)["model"]["vocab"]["ab"] = 24; });
  refuse("the id 1", [](json* t) { (*t)["model"]["vocab"]["ab"] = 1; });
  refuse("'<x>' the id of 'ab'", [](json* t) { (*t)["added_tokens"][1]["id"] = 3; });
  refuse("without content", [](json* t) { (*t)["added_tokens"][1].erase("content"); });
  refuse("not a pair", [](json* t) { (*t)["model"]["merges"][0] = "ab"; });
  refuse("not a pair", [](json* t) { (*t)["model"]["merges"][0] = json::array({"a"}); });
  refuse("needs 'c'", [](json* t) { (*t)["model"]["merges"][0] = "a c"; });
  refuse("no JSON object", [](json* t) { *t = json::array(); });
}

TEST_F(ModelFolderTest, AnyChangedByteOfItsTextsGivesAnErrorOrAModel) {
  const TinyFolder tiny = TinyFolder::Granite();
  tiny.Write(path_, 2);
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors.index.json"}) {
    const std::string good = ReadFile(In(name));
    for (size_t at = 0; at < good.size(); at += 11) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (at % 2 == 0 ? 0x01 : 0x80));
      WriteFile(In(name), bytes);
      try {
        const auto checkpoint = Checkpoint::Open(path_);
        checkpoint->ReadTokenizer()->Encode("ab 12 <x>", true);
      } catch (const Error& error) {
        EXPECT_FALSE(error.remedy().empty()) << error.what();
      }
    }
    WriteFile(In(name), good);
  }
}

// What the tokenizers library says of the tokenizer that it saved.
TEST(TransformersFolder, ItsTokenizerGivesTheRecordedTokens) {
  const std::string folder = std::string(EIDETIC_PARITY_DIR) + "/llama_folder";
  const auto tokenizer = Checkpoint::Open(folder)->ReadTokenizer();
  const json reference = json::parse(ReadFile(folder + "_reference.json"));
  ASSERT_GE(reference["texts"].size(), 5u);
  for (const json& entry : reference["texts"]) {
    const std::string text = entry["text"].get<std::string>();
    EXPECT_EQ(tokenizer->Encode(text, true), entry["ids"].get<Ids>()) << text;
  }
  EXPECT_EQ(tokenizer->eos(), 1);
  EXPECT_EQ(RenderChat(*tokenizer, {{"user", "hi"}}, true, true),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace eidetic::model
