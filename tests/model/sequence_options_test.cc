#include "model/sequence_options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "model/error.h"

namespace eidetic::model {
namespace {

TEST(SequenceOptions, EveryModeIsFoundByItsName) {
  std::set<std::string_view> names;
  for (const auto mode :
       {SequenceMode::kFull, SequenceMode::kWindow, SequenceMode::kShiftedSparse,
        SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kPaperNoMemory,
        SequenceMode::kPaperLandmark, SequenceMode::kStream}) {
    EXPECT_EQ(FindSequenceMode(SequenceModeName(mode)), mode);
    names.insert(SequenceModeName(mode));
  }
  EXPECT_EQ(names, (std::set<std::string_view>{"full", "window", "s2", "paper", "paper-random",
                                               "paper-landmark", "se-stream", "paper-no-memory"}));
  EXPECT_EQ(FindSequenceMode("se"), SequenceMode::kPaper);
  EXPECT_EQ(FindSequenceMode("se-random"), SequenceMode::kPaperRandom);
  EXPECT_EQ(FindSequenceMode("se-no-memory"), SequenceMode::kPaperNoMemory);
  EXPECT_EQ(FindSequenceMode("se-landmark"), SequenceMode::kPaperLandmark);
  EXPECT_EQ(FindSequenceMode("Paper"), std::nullopt);
  EXPECT_EQ(FindSequenceMode(""), std::nullopt);
}

TEST(SequenceOptions, OutOfRangeAreNamedWithTheirValue) {
  const auto refuse = [](SequenceMode mode, const char* name, auto change) {
    SequenceAttentionOptions options;
    options.mode = mode;
    CheckSequenceOptions(options);
    change(&options);
    try {
      CheckSequenceOptions(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << name << " was taken";
  };
  using Options = SequenceAttentionOptions;
  refuse(SequenceMode::kFull, "scale is -1", [](Options* o) { o->scale = -1; });
  refuse(SequenceMode::kFull, "scale is nan", [](Options* o) { o->scale = NAN; });
  refuse(SequenceMode::kFull, "scale is inf", [](Options* o) { o->scale = INFINITY; });
  refuse(SequenceMode::kFull, "mode is 77", [](Options* o) { o->mode = SequenceMode{77}; });
  refuse(SequenceMode::kWindow, "window is 0", [](Options* o) { o->window = 0; });
  refuse(SequenceMode::kShiftedSparse, "groups is 0", [](Options* o) { o->groups = 0; });
  refuse(SequenceMode::kPaper, "block_tokens is 0", [](Options* o) { o->block_tokens = 0; });
  refuse(SequenceMode::kPaperRandom, "span_blocks is -8", [](Options* o) { o->span_blocks = -8; });
  refuse(SequenceMode::kPaper, "chunk_sizes is empty", [](Options* o) { o->chunk_sizes = {}; });
  refuse(SequenceMode::kPaperNoMemory, "chunk_sizes is 0", [](Options* o) {
    o->chunk_sizes = {64, 0};
  });
}

TEST(SequenceOptions, OfALayerHaveItsSeedTheModelsScaleAndASpanWhereItIsNamed) {
  SequenceAttentionOptions options;
  options.mode = SequenceMode::kStream;
  options.seed = 4;
  EXPECT_EQ(OptionsOfLayer(options, 0.5, 3).scale, 0.5);
  EXPECT_EQ(OptionsOfLayer(options, 0.5, 3).seed, SeedOfLayer(4, 3));
  EXPECT_EQ(OptionsOfLayer(options, 0.5, 3).stream.span_blocks, 16);
  options.scale = 0.25;
  options.stream.span_layers = {1, 5};
  EXPECT_EQ(OptionsOfLayer(options, 0.5, 5).scale, 0.25);
  EXPECT_EQ(OptionsOfLayer(options, 0.5, 5).stream.span_blocks, 16);
  EXPECT_EQ(OptionsOfLayer(options, 0.5, 3).stream.span_blocks, 0);
}

TEST(SequenceOptions, ThatTheModeDoesNotReadAreNotLookedAt) {
  SequenceAttentionOptions options;
  options.mode = SequenceMode::kFull;
  options.window = options.groups = options.span_blocks = 0;
  options.chunk_sizes.clear();
  EXPECT_NO_THROW(CheckSequenceOptions(options));
}

// 24 degrees of freedom and fewer: 60 is passed by chance once in 10,000 seeds; the seeds are
// fixed.
constexpr double kChiSquareBound = 60;

template <typename Counts>
double ChiSquare(const Counts& counts, double expected, size_t cells) {
  double sum = static_cast<double>(cells - counts.size()) * expected;  // cells never hit
  for (const auto& [cell, count] : counts)
    sum += (count - expected) * (count - expected) / expected;
  return sum;
}

TEST(SequenceOptions, DrawEverySubsetAsOftenAsAnyOther) {
  uint64_t state = 1;
  std::map<std::vector<int64_t>, int> subsets;
  for (int i = 0; i < 20000; ++i) ++subsets[DrawSubset(6, 3, &state)];
  EXPECT_EQ(subsets.size(), 20u);  // 6 over 3
  for (const auto& [subset, count] : subsets) {
    EXPECT_TRUE(subset[0] >= 0 && subset[0] < subset[1] && subset[1] < subset[2] && subset[2] < 6);
  }
  EXPECT_LT(ChiSquare(subsets, 1000, 20), kChiSquareBound);
}

TEST(SequenceOptions, DrawEveryNumberAsOftenAcrossSeeds) {
  std::map<int64_t, int> numbers;
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    uint64_t state = ~seed;
    for (const int64_t number : DrawSubset(25, 8, &state)) ++numbers[number];
  }
  EXPECT_LT(ChiSquare(numbers, 1600, 25), kChiSquareBound);
}

TEST(SequenceOptions, DrawAllWhereThereAreNoMore) {
  uint64_t state = 3;
  EXPECT_EQ(DrawSubset(3, 8, &state), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(DrawSubset(3, 3, &state), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_TRUE(DrawSubset(0, 8, &state).empty());
}

TEST(SequenceOptions, DrawEachChunkSizeAsOftenAndEachLayerApart) {
  SequenceAttentionOptions options;
  EXPECT_EQ(ChunkOfCall(options), 4096);
  options.chunk_sizes = {2048, 4096};
  std::map<int64_t, int> sizes;
  std::set<uint64_t> seeds;
  int alike = 0;
  for (uint64_t step = 0; step < 100; ++step) {
    int64_t of_first = 0;
    for (int layer = 0; layer < 20; ++layer) {
      options.seed = SeedOfLayer(step, layer);
      seeds.insert(options.seed);
      const int64_t size = ChunkOfCall(options);
      EXPECT_EQ(ChunkOfCall(options), size);
      ++sizes[size];
      if (layer == 0) of_first = size;
      if (layer == 1) alike += size == of_first;
    }
  }
  EXPECT_EQ(seeds.size(), 2000u);
  EXPECT_EQ(sizes.size(), 2u);
  EXPECT_NEAR(sizes[2048], 1000, 100);  // 4.5 standard deviations
  EXPECT_NEAR(alike, 50, 23);           // likewise
}

}  // namespace
}  // namespace eidetic::model
