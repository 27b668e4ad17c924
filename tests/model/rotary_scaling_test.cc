// Scaled rotary frequencies against the formulas of the papers.
#include "model/rotary_scaling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr int kDims = 64;
constexpr double kRotaryBase = 100000;

TEST(RotaryScaling, WithoutOneFrequenciesAreThoseOfTheBase) {
  const std::vector<double> frequencies = RotaryFrequencies(kDims, kRotaryBase, {});
  ASSERT_EQ(frequencies.size(), 32u);
  for (int pair = 0; pair < 32; ++pair) {
    EXPECT_EQ(frequencies[pair], std::pow(kRotaryBase, -2.0 * pair / kDims));
  }
  EXPECT_EQ(RotaryLength({}), 1);
  EXPECT_EQ(DescribeRotaryScaling({}), "");
}

TEST(RotaryScaling, ItsTextIsReadBackAsTheSame) {
  for (const char* text : {"none", "linear:4", "ntk:2.5", "yarn:4", "yarn:1.5:8192"}) {
    EXPECT_EQ(RotaryScalingText(ParseRotaryScaling(text)), text);
  }
}

TEST(RotaryScaling, LinearMakesAPositionTheFactorTimesAsClose) {
  const std::vector<double> own = RotaryFrequencies(kDims, kRotaryBase, {});
  const RotaryScaling scaling = ParseRotaryScaling("linear:4");
  const std::vector<double> scaled = RotaryFrequencies(kDims, kRotaryBase, scaling);
  for (size_t pair = 0; pair < own.size(); ++pair) EXPECT_DOUBLE_EQ(scaled[pair] * 4, own[pair]);
  EXPECT_EQ(RotaryLength(scaling), 1);
}

TEST(RotaryScaling, NtkLeavesTheFastestPairAndSlowsTheSlowestByTheFactor) {
  const std::vector<double> own = RotaryFrequencies(kDims, kRotaryBase, {});
  const std::vector<double> scaled =
      RotaryFrequencies(kDims, kRotaryBase, ParseRotaryScaling("ntk:4"));
  EXPECT_EQ(scaled[0], own[0]);
  EXPECT_NEAR(scaled[31] * 4, own[31], 1e-12 * own[31]);
  for (size_t pair = 1; pair < own.size(); ++pair) {
    // Of the paper: b' = b s^(|D| / (|D| - 2)).
    const double base = kRotaryBase * std::pow(4, 64.0 / 62);
    EXPECT_NEAR(scaled[pair], std::pow(base, -2.0 * static_cast<double>(pair) / 64),
                1e-12 * scaled[pair]);
    EXPECT_LT(scaled[pair] / own[pair], scaled[pair - 1] / own[pair - 1]);
  }
}

TEST(RotaryScaling, YarnMixesBetweenThePairsThatTurnOftenAndThoseThatTurnSeldom) {
  const double context = 8192;
  const RotaryScaling scaling = ParseRotaryScaling("yarn:4:8192");
  const std::vector<double> own = RotaryFrequencies(kDims, kRotaryBase, {});
  const std::vector<double> scaled = RotaryFrequencies(kDims, kRotaryBase, scaling);
  int left = 0, slowed = 0;
  for (int pair = 0; pair < 32; ++pair) {
    // r(d) = L / lambda_d: how often the pair turns within the original context.
    const double turns = context * own[pair] / (2 * std::numbers::pi);
    // The ramp is a straight line over pairs, from the whole pair at or below the one that turns 32
    // times to the one at or above that which turns once.
    const double first =
        std::floor(32 * std::log(context / (32 * 2 * std::numbers::pi)) / std::log(kRotaryBase));
    const double last =
        std::ceil(32 * std::log(context / (2 * std::numbers::pi)) / std::log(kRotaryBase));
    const double share = std::min(std::max((pair - first) / (last - first), 0.0), 1.0);
    EXPECT_NEAR(scaled[pair], own[pair] * (1 - share) + own[pair] / 4 * share, 1e-15);
    if (turns >= 64) {
      EXPECT_EQ(scaled[pair], own[pair]) << pair;
      ++left;
    }
    if (turns <= 0.5) {
      EXPECT_EQ(scaled[pair], own[pair] / 4) << pair;
      ++slowed;
    }
  }
  EXPECT_GT(left, 5);
  EXPECT_GT(slowed, 5);
  // The attention temperature: sqrt(1 / t) = 0.1 ln s + 1.
  EXPECT_DOUBLE_EQ(RotaryLength(scaling), 0.1 * std::log(4) + 1);
}

TEST(RotaryScaling, YarnGivesTheFrequenciesOfTransformers) {
  // As rope_type "yarn" has it: factor 4, original context 32,768, base 1,000,000, 128
  // numbers: its ramp begins at pair 23 and ends at pair 40.
  const std::vector<double> scaled =
      RotaryFrequencies(128, 1e6, ParseRotaryScaling("yarn:4:32768"));
  const std::vector<double> own = RotaryFrequencies(128, 1e6, {});
  for (int pair = 0; pair <= 23; ++pair) EXPECT_EQ(scaled[pair], own[pair]);
  for (int pair = 24; pair < 40; ++pair) {
    const double share = (pair - 23) / 17.0;
    EXPECT_NEAR(scaled[pair], own[pair] * (1 - share) + own[pair] / 4 * share, 1e-15);
  }
  for (int pair = 40; pair < 64; ++pair) EXPECT_EQ(scaled[pair], own[pair] / 4);
}

TEST(RotaryScaling, OfAModelCanBeWrittenAsAWord) {
  EXPECT_EQ(ParseRotaryScaling("none"), RotaryScaling());
  EXPECT_EQ(ParseRotaryScaling("yarn:4").original_context, 0);
  for (const char* text : {"", "linear", "linear:", "linear:x", "linear:0.5", "linear:nan",
                           "linear:4:5", "yarn:4:5:6", "dynamic:4", "none:1", "yarn:4:-1"}) {
    try {
      ParseRotaryScaling(text);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("'" + std::string(text) + "'"), std::string::npos)
          << error.what();
    }
  }
}

TEST(RotaryScaling, StandsInFingerprintsWithAllThatChangesKeys) {
  const std::string yarn = DescribeRotaryScaling(ParseRotaryScaling("yarn:4:8192"));
  for (const char* other : {"linear:4", "ntk:4", "yarn:8:8192", "yarn:4:4096"}) {
    EXPECT_NE(DescribeRotaryScaling(ParseRotaryScaling(other)), yarn);
  }
  RotaryScaling warmer = ParseRotaryScaling("yarn:4:8192");
  warmer.attention_factor = 1.5;
  EXPECT_NE(DescribeRotaryScaling(warmer), yarn);
}

}  // namespace
}  // namespace eidetic::model
