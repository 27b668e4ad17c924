// Targets, ranks, alphas and dropouts by pattern, as PEFT reads them.
#include "model/train/adapter_targets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/error.h"

namespace eidetic::model {
namespace {

const std::vector<std::string> kModules = {
    "model.layers.0.mamba.in_proj",       "model.layers.0.mamba.out_proj",
    "model.layers.1.self_attn.q_proj",    "model.layers.1.self_attn.v_proj",
    "model.layers.10.self_attn.q_proj",   "model.layers.10.self_attn.v_proj",
    "model.layers.1.shared_mlp.gate_proj"};

AdapterOptions Attention() {
  AdapterOptions options;
  options.rank = 4;
  options.alpha = 8;
  options.dropout = 0.5;
  options.targets = {"q_proj", "v_proj"};
  return options;
}

std::vector<std::string> ModulesOf(const AdapterOptions& options) {
  std::vector<std::string> modules;
  for (const AdapterTarget& target : TargetsOf(options, kModules)) modules.push_back(target.module);
  return modules;
}

std::string FailureOf(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    EXPECT_LT(error.remedy().size(), 250u) << error.remedy();  // as much as an eid_error holds
    return std::string(error.what()) + " -> " + error.remedy();
  }
  return "no error";
}

void ExpectRefused(const AdapterOptions& options, const std::vector<std::string>& words) {
  const std::string failure = FailureOf([&] { TargetsOf(options, kModules); });
  for (const std::string& word : words) {
    EXPECT_NE(failure.find(word), std::string::npos) << word << " is not in: " << failure;
  }
}

TEST(AdapterTargets, HaveWhatTheirPatternSays) {
  AdapterOptions options = Attention();
  options.ranks = {{"q_proj", 16}, {R"(layers\.1\.self_attn\.v_proj)", 2}};
  options.alphas = {{R"(layers\.10\..*)", 3}};
  options.dropouts = {{"v_proj", 0}};
  const std::vector<AdapterTarget> targets = TargetsOf(options, kModules);
  ASSERT_EQ(targets.size(), 4u);
  const struct {
    const char* module;
    int rank;
    double scale, dropout;
  } expected[] = {{"model.layers.1.self_attn.q_proj", 16, 0.5, 0.5},
                  {"model.layers.1.self_attn.v_proj", 2, 4, 0},
                  {"model.layers.10.self_attn.q_proj", 16, 3.0 / 16, 0.5},
                  {"model.layers.10.self_attn.v_proj", 4, 0.75, 0}};
  for (size_t i = 0; i < targets.size(); ++i) {
    EXPECT_EQ(targets[i].module, expected[i].module);
    EXPECT_EQ(targets[i].rank, expected[i].rank) << targets[i].module;
    EXPECT_EQ(targets[i].scale, expected[i].scale) << targets[i].module;
    EXPECT_EQ(targets[i].dropout, expected[i].dropout) << targets[i].module;
  }
  options.rslora = true;
  EXPECT_EQ(TargetsOf(options, kModules)[0].scale, 8 / std::sqrt(16));
}

TEST(AdapterTargets, AreEndsOfPathsOrOnePatternOrAll) {
  AdapterOptions options = Attention();
  options.targets = {"self_attn.q_proj", "model.layers.0.mamba.in_proj"};
  EXPECT_EQ(ModulesOf(options), (std::vector<std::string>{kModules[0], kModules[2], kModules[4]}));
  options.targets = {};
  options.target_pattern = R"(model\.layers\.1\..*)";
  EXPECT_EQ(ModulesOf(options), (std::vector<std::string>{kModules[2], kModules[3], kModules[6]}));
  options.target_pattern.clear();
  options.targets = {"all-linear"};
  EXPECT_EQ(ModulesOf(options), kModules);
  EXPECT_EQ(TargetNames(options, kModules, {}).pattern, "all-linear");
}

// PEFT holds an expression against every module, and has no LoRA for some.
TEST(AdapterTargets, APatternThatFitsOtherModulesTooIsToldByPaths) {
  std::set<std::string> parameters = {"model.embed_tokens.weight", "model.layers.1.mlp_norm.weight",
                                      "lm_head.weight"};
  for (const std::string& module : kModules) parameters.insert(module + ".weight");
  AdapterOptions options = Attention();
  options.targets = {};
  for (const char* precise : {R"(.*\.(q|v)_proj)", R"(.*_proj)", R"(model\.layers\.1\..*proj)"}) {
    options.target_pattern = precise;
    const ModuleNames names = TargetNames(options, kModules, parameters);
    EXPECT_EQ(names.pattern, precise);
    EXPECT_TRUE(names.names.empty());
  }
  for (const char* broad :
       {R"(model\.layers\.1\..*)", ".*", R"(.*\.layers\.1\.(self_attn|mlp)\..+)", ".*(q_proj|norm)",
        ".*q_proj|lm_head"}) {
    options.target_pattern = broad;
    const ModuleNames names = TargetNames(options, kModules, parameters);
    EXPECT_EQ(names.pattern, "") << broad;
    EXPECT_EQ(names.names, ModulesOf(options)) << broad;
  }
}

TEST(AdapterTargets, APatternThatFitsNoneIsNamedWithWhatIsNearby) {
  AdapterOptions options = Attention();
  options.targets = {"q_proj", "in_prj"};
  ExpectRefused(options, {"target 'in_prj' names no linear map", "near it are", kModules[0],
                          "in_proj, out_proj, q_proj, v_proj, gate_proj"});
  options = Attention();
  options.targets = {};
  options.target_pattern = R"(.*\.self_atn\.q_proj)";
  ExpectRefused(options,
                {R"('.*\.self_atn\.q_proj' fits no linear map)", "near it are " + kModules[2]});
  options.target_pattern = "q_proj";
  ExpectRefused(options, {"whole paths, such as " + kModules[2], "put .* before it"});
  options = Attention();
  options.ranks = {{"qproj", 2}};
  ExpectRefused(options, {"rank is given for 'qproj', which fits no target", kModules[2]});
  options = Attention();
  options.alphas = {{R"(layers\.2\.self_attn\.v_proj)", 2}};
  ExpectRefused(options, {"alpha is given for", "near it are " + kModules[3]});
  options = Attention();
  options.dropouts = {{"gate_proj", 0.5}};
  ExpectRefused(options, {"dropout is given for 'gate_proj'", "it fits " + kModules[6]});
}

// PEFT takes the first of a dictionary that its files keep in another order.
TEST(AdapterTargets, PatternsThatFitOneTargetAgree) {
  AdapterOptions options = Attention();
  options.ranks = {{"q_proj", 2}, {R"(layers\.1\.self_attn\..*)", 3}};
  ExpectRefused(options, {"'q_proj'", R"('layers\.1\.self_attn\..*')", kModules[2], "rank 3", "2"});
  options.ranks[R"(layers\.1\.self_attn\..*)"] = 2;
  EXPECT_EQ(TargetsOf(options, kModules)[1].rank, 2);
  options.alphas = {{"q_proj", 2}, {"self_attn.q_proj", 3}};
  ExpectRefused(options, {"alpha 2", "3"});
}

TEST(AdapterTargets, NumbersOutOfRangeAreNamedWithTheirPattern) {
  const auto expect = [](const std::string& words, const AdapterOptions& options) {
    const std::string failure = FailureOf([&] { CheckAdapterOptions(options); });
    EXPECT_NE(failure.find(words), std::string::npos) << failure;
  };
  AdapterOptions options = Attention();
  options.ranks = {{"q_proj", 0}};
  expect("rank of 'q_proj' is 0; it must be 1 or more", options);
  options = Attention();
  options.alphas = {{"v_proj", std::numeric_limits<double>::infinity()}};
  expect("alpha of 'v_proj' is inf", options);
  options = Attention();
  options.dropouts = {{"v_proj", 1}};
  expect("dropout of 'v_proj' is 1", options);
  options = Attention();
  options.ranks = {{"(q_proj", 2}};
  expect("'(q_proj' is no regular expression", options);
  options.kind = AdapterKind::kMixers;
  CheckAdapterOptions(options);
}

TEST(AdapterTargets, APatternThatPeftWouldNotReadIsRefused) {
  const auto failure = [](const AdapterOptions& options) {
    return FailureOf([&] { CheckAdapterPatterns(options); });
  };
  AdapterOptions options = Attention();
  options.target_pattern = "(q_proj";
  EXPECT_NE(failure(options).find("'(q_proj' for targets"), std::string::npos) << failure(options);
  options = Attention();
  options.dropouts = {{R"(\hq)", 0.5}};
  EXPECT_NE(failure(options).find(R"('\hq' for dropout)"), std::string::npos) << failure(options);
}

}  // namespace
}  // namespace eidetic::model
