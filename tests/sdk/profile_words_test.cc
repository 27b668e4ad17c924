// The part of a retrieval profile that is about words.
#include <gtest/gtest.h>

#include <fstream>

#include "sdk/retrieval_profile.h"
#include "tests/temporary_folder.h"

namespace eidetic::sdk {
namespace {

memory::Result<RetrievalProfile> Read(const std::string& words) {
  const tests::TemporaryFolder folder;
  const std::string path = folder / "model.profile.json";
  std::ofstream(path) << R"({"eidetic_retrieval_profile": 1, "fingerprint": "f",
    "span_layers": [1], "span_blocks": 16, "candidate_blocks": 128,
    "representative_tokens": 8, "query_offset": 1024)"
                      << (words.empty() ? "" : ", \"words\": " + words) << "}";
  model::ModelConfig config;
  config.layers.assign(2, model::LayerKind::kAttention);
  return ReadProfile(path, "f", config);
}

TEST(ProfileWords, AreOptionalAndChangeTheHash) {
  const auto without = Read("");
  ASSERT_TRUE(without.ok()) << without.status().message();
  EXPECT_EQ(without->policy, memory::RecallPolicy::kAttention);
  EXPECT_EQ(without->words.places, 3);
  const auto with = Read(R"({"policy": "both", "places": 2, "place_threshold": 0.5,
                             "attention_threshold": 0.25})");
  ASSERT_TRUE(with.ok()) << with.status().message();
  EXPECT_EQ(with->policy, memory::RecallPolicy::kBoth);
  EXPECT_EQ(with->words.places, 2);
  EXPECT_EQ(with->words.place_threshold, 0.5);
  EXPECT_EQ(with->words.attention_threshold, 0.25);
  EXPECT_NE(with->Hash(), without->Hash());
  const auto part = Read(R"({"places": 5})");
  ASSERT_TRUE(part.ok()) << part.status().message();
  EXPECT_EQ(part->words.places, 5);
  EXPECT_EQ(part->policy, memory::RecallPolicy::kAttention);
}

TEST(ProfileWords, OutOfRangeAreDamageThatNamesTheField) {
  for (const auto& [words, named] : std::vector<std::pair<std::string, std::string>>{
           {"3", "words"},
           {R"({"policy": "neither"})", "policy"},
           {R"({"policy": 1})", "policy"},
           {R"({"places": 0})", "places"},
           {R"({"place_threshold": 1.5})", "place_threshold"},
           {R"({"attention_threshold": "x"})", "attention_threshold"}}) {
    const auto profile = Read(words);
    ASSERT_FALSE(profile.ok()) << words;
    EXPECT_EQ(profile.status().code(), memory::Code::kCorruption) << words;
    EXPECT_NE(profile.status().message().find(named), std::string::npos)
        << profile.status().message();
  }
}

}  // namespace
}  // namespace eidetic::sdk
