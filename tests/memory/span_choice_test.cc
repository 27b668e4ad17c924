#include "memory/span_choice.h"

#include <gtest/gtest.h>

#include <string>

namespace eidetic::memory {
namespace {

IndexedBlock At(uint64_t position, LineageId lineage = 1) {
  return {1000 * lineage + position, lineage, position, 32, position * 4, (position + 32) * 4};
}

FoundPlace Place(double score, std::vector<uint64_t> positions, int source = 0) {
  FoundPlace place;
  place.source = source;
  place.score = score;
  for (const uint64_t position : positions) place.blocks.push_back(At(position));
  return place;
}

std::vector<uint64_t> Positions(const std::vector<PinnedBlock>& pinned) {
  std::vector<uint64_t> positions;
  for (const PinnedBlock& one : pinned) positions.push_back(one.block.position);
  return positions;
}

using Numbers = std::vector<uint64_t>;

TEST(SpanChoice, PoliciesHaveNames) {
  for (RecallPolicy policy :
       {RecallPolicy::kAttention, RecallPolicy::kWords, RecallPolicy::kBoth}) {
    RecallPolicy parsed = RecallPolicy::kAttention;
    EXPECT_TRUE(ParseRecallPolicy(RecallPolicyName(policy), &parsed));
    EXPECT_EQ(parsed, policy);
  }
  RecallPolicy untouched = RecallPolicy::kBoth;
  EXPECT_FALSE(ParseRecallPolicy("neither", &untouched));
  EXPECT_EQ(untouched, RecallPolicy::kBoth);
}

TEST(SpanChoice, TheBestPlacesArePinnedInTheOrderOfTheText) {
  WordShare share;
  share.places = 2;
  const auto pinned = PinPlaces(
      {Place(5, {96, 128}), Place(9, {320, 352}), Place(1, {0}), Place(9, {64}, /*source=*/1)},
      share);
  EXPECT_EQ(Positions(pinned), (Numbers{320, 352, 64}));
  EXPECT_EQ(pinned[2].source, 1);
  EXPECT_EQ(pinned[0].score, 9);
  EXPECT_TRUE(PinPlaces({}, share).empty());
  share.places = 0;
  EXPECT_TRUE(PinPlaces({Place(5, {96})}, share).empty());
}

TEST(SpanChoice, APlaceMuchWorseThanTheBestIsNotPinned) {
  WordShare share;
  share.place_threshold = 0.5;
  EXPECT_EQ(Positions(PinPlaces({Place(4, {0}), Place(2, {64}), Place(1.9, {128})}, share)),
            (Numbers{0, 64}));
}

TEST(SpanChoice, ABlockOfTwoPlacesIsPinnedOnceWithTheBetterScore) {
  const auto pinned = PinPlaces({Place(3, {32, 64}), Place(7, {64, 96})}, WordShare());
  EXPECT_EQ(Positions(pinned), (Numbers{32, 64, 96}));
  EXPECT_EQ(pinned[1].score, 7);
}

TEST(SpanChoice, PinnedBlocksJoinAttentionsChoiceAndEachSaysWhy) {
  std::vector<ChosenBlock> chosen = {{0, At(0), 0.5}, {0, At(64), 0.2}, {0, At(128), 0.1}};
  WordShare all;
  all.attention_threshold = 0;
  MergePinned(PinPlaces({Place(6, {32, 64, 96})}, all), all, &chosen);
  std::string seen;
  for (const ChosenBlock& block : chosen) {
    seen += std::to_string(block.block.position) + (block.by_attention ? "a" : "") +
            (block.by_words ? "w" : "") + " ";
    EXPECT_EQ(block.word_score, block.by_words ? 6 : 0);
  }
  EXPECT_EQ(seen, "0a 32w 64aw 96w 128a ");
  EXPECT_EQ(chosen[2].mass, 0.2);
  EXPECT_EQ(chosen[1].mass, 0);
}

TEST(SpanChoice, WhatLingersIsNoBarForWhatIsAskedForNow) {
  WordShare share;
  share.attention_threshold = 0.7;
  std::vector<ChosenBlock> chosen = {{0, At(0), 0.3}, {0, At(64), 0}, {0, At(128), 0.2}};
  chosen[1].lingering = 0.45;
  MergePinned(PinPlaces({Place(6, {160})}, share), share, &chosen);
  ASSERT_EQ(chosen.size(), 3u);
  EXPECT_EQ(chosen[0].block.position, 0u);   // the best of this token
  EXPECT_EQ(chosen[1].block.position, 64u);  // what lingers, and has more than that
}

TEST(SpanChoice, WhatAttentionHardlyChoseGivesWayToWhatIsPinned) {
  WordShare share;
  share.attention_threshold = 0.4;
  const std::vector<ChosenBlock> attention = {{0, At(0), 0.5}, {0, At(64), 0.2}, {0, At(128), 0.1}};
  std::vector<ChosenBlock> chosen = attention;
  MergePinned({}, share, &chosen);
  EXPECT_EQ(chosen.size(), 3u);  // nothing is pinned: nothing gives way
  MergePinned(PinPlaces({Place(6, {128, 160})}, share), share, &chosen);
  ASSERT_EQ(chosen.size(), 4u);
  EXPECT_EQ(chosen[2].block.position, 128u);  // below the threshold, but pinned
  EXPECT_TRUE(chosen[2].by_attention && chosen[2].by_words);
  share.attention_threshold = 0.41;
  chosen = attention;
  MergePinned(PinPlaces({Place(6, {160})}, share), share, &chosen);
  EXPECT_EQ(chosen.size(), 2u);
}

TEST(SpanChoice, ASuccessorStaysWithTheBlockThatBroughtIt) {
  WordShare share;
  share.attention_threshold = 0.4;
  const auto successor = [](uint64_t position, double mass, double bringer_weight) {
    ChosenBlock block{0, At(position), mass};
    block.bringer_weight = bringer_weight;
    return block;
  };
  std::vector<ChosenBlock> chosen = {
      {0, At(0), 0.5},        successor(32, 0.1, 0.5), successor(64, 0, 0.1),   {0, At(128), 0.1},
      successor(160, 0, 0.1), {0, At(256), 0.1},       successor(288, 0.3, 0.1)};
  MergePinned(PinPlaces({Place(6, {128, 512})}, share), share, &chosen);
  std::string seen;
  for (const ChosenBlock& block : chosen) seen += std::to_string(block.block.position) + " ";
  // 64 was brought by what was brought itself. 128 stays because words want it; what follows it was
  // brought by attention, which does not. 288
  // stays for its own mass, without the block that brought it.
  EXPECT_EQ(seen, "0 32 128 288 512 ");
}

TEST(SpanChoice, WordsAloneMakeASpanOfWhatIsPinned) {
  std::vector<ChosenBlock> chosen;
  MergePinned(PinPlaces({Place(6, {128, 160})}, WordShare()), WordShare(), &chosen);
  ASSERT_EQ(chosen.size(), 2u);
  EXPECT_FALSE(chosen[0].by_attention);
  EXPECT_TRUE(chosen[0].by_words);
}

}  // namespace
}  // namespace eidetic::memory
