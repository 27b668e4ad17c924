#include "sdk/retrieval_profile.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/temporary_folder.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using nlohmann::json;

// Six layers, of which 1, 3 and 4 are attention.
model::ModelConfig SixLayers() {
  model::ModelConfig config;
  config.layers.assign(6, model::LayerKind::kMamba2);
  for (const size_t layer : {1, 3, 4}) config.layers[layer] = model::LayerKind::kAttention;
  return config;
}

// Of RetrievalProfileTest::Whole().
constexpr const char* kHashOfBefore =
    "52597d1e2fae91e24258503f89261443dd3b0a57e5b4b18571d8235044d7b771";

class RetrievalProfileTest : public ::testing::Test {
 protected:
  static json Whole() {
    return {{"eidetic_retrieval_profile", 1},
            {"fingerprint", "f1"},
            {"span_layers", {1, 4}},
            {"span_blocks", 8},
            {"candidate_blocks", 64},
            {"representative_tokens", 8},
            {"query_offset", 512},
            {"focus_layer", 4}};
  }
  memory::Result<RetrievalProfile> Read(const std::string& text, const std::string& of = "f1") {
    std::ofstream(path_) << text;
    return ReadProfile(path_, of, SixLayers());
  }
  memory::Result<RetrievalProfile> ReadWith(const char* key, const json& value) {
    json content = Whole();
    content[key] = value;
    return Read(content.dump());
  }

  tests::TemporaryFolder folder_;
  std::string path_ = folder_ / "profile.json";
};

TEST_F(RetrievalProfileTest, EveryFieldIsRead) {
  const auto profile = Read(Whole().dump());
  ASSERT_TRUE(profile.ok()) << profile.status().message();
  EXPECT_EQ((std::vector<int>{1, 4}), profile->span_layers);
  EXPECT_EQ(8, profile->span_blocks);
  EXPECT_EQ(64, profile->candidate_blocks);
  EXPECT_EQ(8, profile->representative_tokens);
  EXPECT_EQ(512, profile->query_offset);
  EXPECT_EQ(4, profile->focus_layer);
  EXPECT_TRUE(profile->calibrated);
  EXPECT_EQ(path_, profile->path);
}

TEST_F(RetrievalProfileTest, AProfileOfBeforeLayersSharedAChoiceKeepsItsHash) {
  const auto before = Read(Whole().dump());
  ASSERT_TRUE(before.ok()) << before.status().message();
  EXPECT_EQ(1, before->layer_group);
  EXPECT_EQ(ReadWith("layer_group", 1)->Hash(), before->Hash());
  const auto grouped = ReadWith("layer_group", 3);
  ASSERT_TRUE(grouped.ok()) << grouped.status().message();
  EXPECT_EQ(3, grouped->layer_group);
  EXPECT_NE(grouped->Hash(), before->Hash());
}

TEST_F(RetrievalProfileTest, AQuarterOfASpanBringsOtherBlocksUnlessTheProfileSaysHowMany) {
  const auto silent = Read(Whole().dump());
  ASSERT_TRUE(silent.ok()) << silent.status().message();
  EXPECT_EQ(2, silent->SuccessorsOf(silent->span_blocks));
  EXPECT_EQ(4, silent->SuccessorsOf(16));
  EXPECT_EQ(0, silent->SuccessorsOf(3));
  const auto none = ReadWith("successor_blocks", 0), two = ReadWith("successor_blocks", 2);
  ASSERT_TRUE(none.ok() && two.ok());
  EXPECT_EQ(0, none->SuccessorsOf(16));
  EXPECT_EQ(2, two->SuccessorsOf(16));
  EXPECT_EQ(3u, (std::set{silent->Hash(), none->Hash(), two->Hash()}).size());
}

TEST_F(RetrievalProfileTest, HalfOfAChoiceLingersUnlessTheProfileSaysHowMuch) {
  const auto silent = Read(Whole().dump());
  ASSERT_TRUE(silent.ok()) << silent.status().message();
  EXPECT_EQ(.5, silent->LingerOf(silent->span_blocks));
  EXPECT_EQ(0, silent->LingerOf(3));
  const auto none = ReadWith("linger", 0), most = ReadWith("linger", .9);
  ASSERT_TRUE(none.ok() && most.ok());
  EXPECT_EQ(0, none->LingerOf(16));
  EXPECT_EQ(.9, most->LingerOf(16));
  EXPECT_EQ(3u, (std::set{silent->Hash(), none->Hash(), most->Hash()}).size());
}

TEST_F(RetrievalProfileTest, WhatRecallsAsBeforeHasTheHashOfBefore) {
  json content = Whole();
  content["successor_blocks"] = 0;
  content["linger"] = 0;
  const auto profile = Read(content.dump());
  ASSERT_TRUE(profile.ok()) << profile.status().message();
  EXPECT_EQ(kHashOfBefore, profile->Hash());
}

TEST_F(RetrievalProfileTest, TheFocusLayerMayBeLeftOut) {
  json content = Whole();
  content.erase("focus_layer");
  const auto profile = Read(content.dump());
  ASSERT_TRUE(profile.ok()) << profile.status().message();
  EXPECT_EQ(-1, profile->focus_layer);
}

TEST_F(RetrievalProfileTest, WhatIsOutOfRangeOrOfAnotherModelIsNamed) {
  const struct {
    const char* key;
    json value;
    Code code;
    const char* said;
  } cases[] = {
      {"eidetic_retrieval_profile", 2, Code::kUnsupported, "version 2"},
      {"eidetic_retrieval_profile", "1", Code::kCorruption, "eidetic_retrieval_profile"},
      {"fingerprint", "f2", Code::kFingerprintMismatch, "f2"},
      {"fingerprint", 7, Code::kCorruption, "fingerprint"},
      {"span_layers", json::array(), Code::kCorruption, "span_layers"},
      {"span_layers", {1, 2}, Code::kInvalidArgument, "span layer 2"},
      {"span_layers", {-1}, Code::kInvalidArgument, "span layer -1"},
      {"span_layers", {1e99}, Code::kCorruption, "no number"},
      {"span_layers", {4, 1}, Code::kCorruption, "out of order"},
      {"span_layers", {1, 1}, Code::kCorruption, "out of order"},
      {"span_blocks", 0, Code::kCorruption, "span_blocks 0"},
      {"layer_group", 0, Code::kCorruption, "layer_group 0"},
      {"layer_group", "2", Code::kCorruption, "layer_group"},
      {"successor_blocks", -1, Code::kCorruption, "successor_blocks -1"},
      {"successor_blocks", "2", Code::kCorruption, "successor_blocks"},
      {"linger", -.1, Code::kCorruption, "linger"},
      {"linger", 1.1, Code::kCorruption, "linger"},
      {"linger", ".5", Code::kCorruption, "linger"},
      {"span_blocks", 1.5, Code::kCorruption, "span_blocks"},
      {"candidate_blocks", 7, Code::kCorruption, "fewer candidate_blocks"},
      {"representative_tokens", 4, Code::kCorruption, "representative_tokens 4"},
      {"query_offset", -1, Code::kCorruption, "query_offset -1"},
      {"focus_layer", 3, Code::kCorruption, "focus_layer 3"},  // attention, but without a span
      {"focus_layer", nullptr, Code::kCorruption, "focus_layer"},
  };
  for (const auto& c : cases) {
    const auto profile = ReadWith(c.key, c.value);
    ASSERT_FALSE(profile.ok()) << c.key << " " << c.value;
    EXPECT_EQ(c.code, profile.status().code()) << c.key << " " << c.value;
    EXPECT_NE(std::string::npos, profile.status().message().find(c.said))
        << profile.status().message();
    EXPECT_NE(std::string::npos, profile.status().message().find(path_));
    EXPECT_FALSE(profile.status().remedy().empty());
  }
}

TEST_F(RetrievalProfileTest, EveryFieldButTheFocusLayerIsRequired) {
  const json whole = Whole();
  for (const auto& [key, value] : whole.items()) {
    if (key == "focus_layer") continue;
    json content = Whole();
    content.erase(key);
    EXPECT_EQ(Code::kCorruption, Read(content.dump()).status().code()) << key;
  }
}

TEST_F(RetrievalProfileTest, WhatIsNoJsonObjectIsDamage) {
  for (const std::string text : {"", "[]", "{", "7", "\xff\xfe"}) {
    EXPECT_EQ(Code::kCorruption, Read(text).status().code()) << text;
  }
  EXPECT_EQ(Code::kCorruption, Read(Whole().dump() + std::string(2 << 20, ' ')).status().code());
  EXPECT_EQ(Code::kNotFound, ReadProfile(path_ + "x", "f1", SixLayers()).status().code());
}

TEST_F(RetrievalProfileTest, TheHashFollowsWhatIsRecalled) {
  const std::string hash = Read(Whole().dump())->Hash();
  EXPECT_EQ(hash, ReadWith("focus_layer", 1)->Hash());
  EXPECT_NE(hash, ReadWith("span_layers", {1, 3, 4})->Hash());
  EXPECT_NE(hash, ReadWith("span_blocks", 9)->Hash());
  EXPECT_NE(hash, ReadWith("candidate_blocks", 65)->Hash());
  EXPECT_NE(hash, ReadWith("query_offset", 513)->Hash());
}

}  // namespace
}  // namespace eidetic::sdk
