#include "model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SamplingOptions Hot(float temperature = 1) {
  SamplingOptions options;
  options.temperature = temperature;
  return options;
}

// How often each token is drawn.
std::map<int32_t, int> Draws(const std::vector<float>& logits, const SamplingOptions& options,
                             int draws = 2000, const std::vector<int32_t>& recent = {}) {
  Sampler sampler(42);
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sampler.Sample(logits, recent, options)];
  return counts;
}

std::set<int32_t> Drawn(const std::vector<float>& logits, const SamplingOptions& options,
                        const std::vector<int32_t>& recent = {}) {
  std::set<int32_t> tokens;
  for (const auto& [token, count] : Draws(logits, options, 2000, recent)) tokens.insert(token);
  return tokens;
}

// Probabilities to logits.
std::vector<float> Logits(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double each : probabilities) logits.push_back(static_cast<float>(std::log(each)));
  return logits;
}

TEST(Sampler, GreedyTakesTheHighestLogitAndOfEqualsTheLowestId) {
  Sampler sampler(1);
  EXPECT_EQ(sampler.Sample({0, 3, -1, 3, 2}, {}, {}), 1);
  EXPECT_EQ(sampler.Sample({-5, -4}, {}, {}), 1);
}

TEST(Sampler, GreedyDrawsNothing) {
  Sampler sampler(1);
  const std::string before = sampler.Serialize();
  sampler.Sample({1, 2, 3}, {}, {});
  EXPECT_EQ(sampler.Serialize(), before);
}

// Known first outputs: state seeded by splitmix64(0), as the generator's authors publish both.
TEST(Sampler, TheGeneratorIsSplitMixSeededXoshiro) {
  const std::string state = Sampler(0).Serialize();
  const uint64_t words[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u, 0x06c45d188009454fu,
                            0xf88bb8a8724c81ecu};
  ASSERT_EQ(state.size(), 33u);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(static_cast<uint8_t>(state[1 + i]), words[i / 8] >> (i % 8 * 8) & 0xff) << i;
  }
}

// With 10 tokens and N draws each count is binomial; five standard deviations are left by chance
// once in about 10^6 such counts, and the seed is fixed.
TEST(Sampler, DrawsFollowTheSoftmaxOfLogitsOverTemperature) {
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, -3.0f, 1.5f, 0.1f, -0.7f, 2.2f};
  constexpr int kDraws = 200000;
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    std::vector<double> weights;
    for (const float logit : logits) weights.push_back(std::exp(logit / temperature));
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::map<int32_t, int> counts = Draws(logits, Hot(temperature), kDraws);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double p = weights[i] / total;
      EXPECT_NEAR(counts[static_cast<int32_t>(i)], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)))
          << "token " << i << " at temperature " << temperature;
    }
  }
}

TEST(Sampler, TheSameSeedGivesTheSameDrawsAndAnotherSeedOthers) {
  const std::vector<float> logits(100, 0.0f);
  std::vector<int32_t> draws[3];
  const uint64_t seeds[] = {7, 7, 8};
  for (int i = 0; i < 3; ++i) {
    Sampler sampler(seeds[i]);
    for (int j = 0; j < 50; ++j) draws[i].push_back(sampler.Sample(logits, {}, Hot()));
  }
  EXPECT_EQ(draws[0], draws[1]);
  EXPECT_NE(draws[0], draws[2]);
}

TEST(Sampler, ARestoredGeneratorGoesOnWhereTheSavedOneWas) {
  const std::vector<float> logits(1000, 0.0f);
  Sampler sampler(3);
  for (int i = 0; i < 17; ++i) sampler.Sample(logits, {}, Hot());
  Sampler restored(99);
  restored.Restore(sampler.Serialize());
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(restored.Sample(logits, {}, Hot()), sampler.Sample(logits, {}, Hot())) << i;
  }
}

TEST(Sampler, ADamagedStateIsRefused) {
  Sampler sampler(3);
  const std::string good = sampler.Serialize();
  std::string other_version = good, zeros(good.size(), '\0');
  other_version[0] = 2;
  zeros[0] = good[0];
  for (const std::string& bad : {std::string(), good.substr(1), good + "x", other_version, zeros}) {
    try {
      sampler.Restore(bad);
      ADD_FAILURE() << "restored " << bad.size() << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruption);
    }
  }
  EXPECT_EQ(sampler.Serialize(), good);  // untouched by what was refused
}

TEST(Sampler, TopKLeavesTheKMostProbable) {
  SamplingOptions options = Hot(5);
  options.top_k = 3;
  EXPECT_EQ(Drawn({1, 5, 3, 4, 2}, options), (std::set<int32_t>{1, 2, 3}));
  options.top_k = 1;
  EXPECT_EQ(Drawn({1, 5, 3, 4, 2}, options), (std::set<int32_t>{1}));
  options.top_k = 50;  // more than there are
  EXPECT_EQ(Drawn({1, 1, 1}, options), (std::set<int32_t>{0, 1, 2}));
}

TEST(Sampler, TopKOfEqualsKeepsTheLowestIds) {
  SamplingOptions options = Hot();
  options.top_k = 2;
  EXPECT_EQ(Drawn({0, 1, 1, 1, 1}, options), (std::set<int32_t>{1, 2}));
}

TEST(Sampler, TopPLeavesTheFewestThatReachIt) {
  const std::vector<float> logits = Logits({0.15, 0.5, 0.05, 0.3});
  SamplingOptions options = Hot();
  options.top_p = 0.4f;
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{1}));
  options.top_p = 0.6f;
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{1, 3}));
  options.top_p = 0.9f;
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{0, 1, 3}));
  options.top_p = 1;
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{0, 1, 2, 3}));
  options.top_p = 1e-6f;  // one always stays
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{1}));
}

TEST(Sampler, WhatTopPLeavesKeepsItsProportions) {
  SamplingOptions options = Hot();
  options.top_p = 0.7f;
  constexpr int kDraws = 100000;
  std::map<int32_t, int> counts = Draws(Logits({0.5, 0.3, 0.15, 0.05}), options, kDraws);
  const double p = 0.5 / 0.8;
  EXPECT_NEAR(counts[0], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)));
  EXPECT_EQ(counts[0] + counts[1], kDraws);
}

TEST(Sampler, MinPDropsWhatIsFarBelowTheMostProbable) {
  const std::vector<float> logits = Logits({0.6, 0.05, 0.25, 0.1});
  SamplingOptions options = Hot();
  options.min_p = 0.3f;  // of 0.6: 0.18
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{0, 2}));
  options.min_p = 1;
  EXPECT_EQ(Drawn(logits, options), (std::set<int32_t>{0}));
}

// At temperature 2 the same logits are flatter: more tokens are needed for the same top_p.
TEST(Sampler, TemperatureComesBeforeTopPAndMinP) {
  const std::vector<float> logits = Logits({0.81, 0.09, 0.1});
  SamplingOptions options = Hot(1);
  options.top_p = 0.8f;
  EXPECT_EQ(Drawn(logits, options).size(), 1u);
  options.temperature = 2;  // 0.9 : 0.3 : 0.316
  EXPECT_EQ(Drawn(logits, options).size(), 2u);
  options.top_p = 0;
  options.min_p = 0.2f;
  EXPECT_EQ(Drawn(logits, options).size(), 3u);
  options.temperature = 1;
  EXPECT_EQ(Drawn(logits, options).size(), 1u);
}

// Among the three that top_k leaves, the first has half of the probability.
TEST(Sampler, TopPCountsWhatTopKLeft) {
  SamplingOptions options = Hot();
  options.top_k = 3;
  options.top_p = 0.45f;
  EXPECT_EQ(Drawn(Logits({0.3, 0.15, 0.15, 0.1, 0.1, 0.1, 0.1}), options), (std::set<int32_t>{0}));
  options.top_k = 0;
  EXPECT_EQ(Drawn(Logits({0.3, 0.15, 0.15, 0.1, 0.1, 0.1, 0.1}), options),
            (std::set<int32_t>{0, 1}));
}

TEST(Sampler, ThePenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  Sampler sampler(1);
  SamplingOptions options;
  options.repetition_penalty = 2;
  EXPECT_EQ(sampler.Sample({3, 2}, {0}, options), 1);
  EXPECT_EQ(sampler.Sample({3, 1}, {0, 0, 0}, options), 0);  // 1.5, not 0.375
  EXPECT_EQ(sampler.Sample({-1, -1.5f}, {0}, options), 1);
  EXPECT_EQ(sampler.Sample({-1, -2.5f}, {0}, options), 0);
  EXPECT_EQ(sampler.Sample({3, 2}, {}, options), 0);
}

TEST(Sampler, LogitsThatAreNotFiniteAreNeverChosen) {
  const std::vector<float> logits = {NAN, 1, -kInfinity, kInfinity, 0};
  EXPECT_EQ(Sampler(1).Sample(logits, {}, {}), 1);
  EXPECT_EQ(Drawn(logits, Hot()), (std::set<int32_t>{1, 4}));
}

TEST(Sampler, ExtremeOptionsStillGiveATokenThatIsAllowed) {
  std::vector<float> logits(49152);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 97) - 48;
  SamplingOptions options = Hot(1e-30f);
  EXPECT_EQ(Sampler(1).Sample(logits, {}, options) % 97, 96);
  options.temperature = 1e30f;
  options.top_k = 10;
  options.top_p = 0.99f;
  options.min_p = 0.5f;
  EXPECT_EQ(Sampler(1).Sample(logits, {}, options) % 97, 96);
  EXPECT_EQ(Sampler(1).Sample({-3e38f, 3e38f}, {}, Hot(1e-30f)), 1);
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const std::vector<std::pair<std::string, std::function<void(SamplingOptions*)>>> cases = {
      {"temperature", [](SamplingOptions* o) { o->temperature = -1; }},
      {"temperature", [](SamplingOptions* o) { o->temperature = NAN; }},
      {"temperature", [](SamplingOptions* o) { o->temperature = kInfinity; }},
      {"top_k", [](SamplingOptions* o) { o->top_k = -1; }},
      {"top_p", [](SamplingOptions* o) { o->top_p = 1.5f; }},
      {"top_p", [](SamplingOptions* o) { o->top_p = NAN; }},
      {"min_p", [](SamplingOptions* o) { o->min_p = -0.1f; }},
      {"repetition_penalty", [](SamplingOptions* o) { o->repetition_penalty = 0; }},
      {"repetition_penalty", [](SamplingOptions* o) { o->repetition_penalty = kInfinity; }}};
  for (const auto& [name, change] : cases) {
    SamplingOptions options;
    change(&options);
    try {
      Sampler(1).Sample({1, 2}, {}, options);
      ADD_FAILURE() << name << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
}

TEST(Sampler, LogitsAndRecentTokensAreChecked) {
  EXPECT_THROW(Sampler(1).Sample({}, {}, {}), Error);
  EXPECT_THROW(Sampler(1).Sample({NAN, -kInfinity}, {}, {}), Error);
  EXPECT_THROW(Sampler(1).Sample({1, 2}, {2}, {}), Error);
  EXPECT_THROW(Sampler(1).Sample({1, 2}, {-1}, {}), Error);
}

}  // namespace
}  // namespace eidetic::model
