#include "memory/retriever.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/memory/retrieval_fixture.h"

namespace eidetic::memory {
namespace {

constexpr int kHeads = 6;  // three to a kv head

RetrievalOptions TestOptions(int k, int candidates) {
  RetrievalOptions options;
  options.k = k;
  options.candidates = candidates;
  options.scale = 0.25f;
  options.threads = 2;
  return options;
}

// A memory with all its lineages in an index.
struct Searchable {
  explicit Searchable(Layout layout = TestLayout(), IndexKind kind = IndexKind::kExact)
      : memory(layout), index(layout, kind, 2) {}
  LineageId Add(const std::vector<int>& tokens, std::mt19937* random) {
    const LineageId lineage = memory.AddLineage(tokens, random);
    EXPECT_TRUE(index.AddLineage(memory.store(), lineage).ok());
    return lineage;
  }
  RetrievalSource source() { return {&index, &memory.store()}; }
  SlowSource slow() { return {&memory.known(), &memory.layout()}; }

  TestMemory memory;
  RepresentativeIndex index;
};

struct Queries {
  Queries(int layer, int tokens, std::mt19937* random)
      : numbers(RandomNumbers(static_cast<size_t>(tokens) * kHeads * 16, random)),
        view{layer, numbers.data(), tokens, kHeads} {}
  std::vector<float> numbers;
  LayerQueries view;
};

void ExpectChoice(const std::map<SlowKey, double>& wanted, const std::vector<ChosenBlock>& chosen) {
  ASSERT_EQ(wanted.size(), chosen.size());
  auto next = wanted.begin();  // by source, lineage, position: the order of the choice
  for (const ChosenBlock& one : chosen) {
    EXPECT_EQ(next->first, SlowKey(one.source, one.block.lineage, one.block.position));
    EXPECT_NEAR(next->second, one.weight(), 1e-4);
    ++next;
  }
}

std::vector<SlowKey> Places(const std::vector<ChosenBlock>& chosen) {
  std::vector<SlowKey> places;
  for (const ChosenBlock& one : chosen) {
    places.emplace_back(one.source, one.block.lineage, one.block.position);
  }
  return places;
}

TEST(ChooseBlocks, EqualsTheFormulasWrittenOutInDoublePrecision) {
  std::mt19937 random(1);
  for (const auto codec : {kernels::Codec::kInt8, kernels::Codec::kFp16}) {
    Layout layout = TestLayout();
    layout.codec = codec;
    Searchable memory(layout);
    memory.Add(Blocks(80), &random);
    memory.Add({32, 32, 3}, &random);
    memory.Add(Blocks(100), &random);
    for (const int layer : layout.layers) {
      for (const int tokens : {1, 7}) {
        for (const auto& [candidates, successors] :
             {std::pair(0, 0), {40, 0}, {1000, 0}, {0, 8}, {40, 1}, {40, 8}, {1000, 16}}) {
          // Written out it is slow: successors once for each number of queries.
          if (successors > 0 && (layer != 5 || codec != kernels::Codec::kInt8)) continue;
          const Queries queries(layer, tokens, &random);
          RetrievalOptions options = TestOptions(16, candidates);
          options.successors = successors;
          std::vector<ChosenBlock> chosen;
          ASSERT_TRUE(ChooseBlocks({memory.source()}, options, queries.view, &chosen).ok());
          EXPECT_EQ(16u, chosen.size());
          ExpectChoice(SlowChoice({memory.slow()}, options, queries.view), chosen);
        }
      }
    }
  }
}

TEST(ChooseBlocks, TheFaissIndexGivesTheSameChoice) {
  std::mt19937 random(2);
  Searchable memory(TestLayout(), IndexKind::kFaiss);
  memory.Add(Blocks(150), &random);
  const Queries queries(5, 12, &random);
  const RetrievalOptions options = TestOptions(16, 40);
  std::vector<ChosenBlock> chosen;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, options, queries.view, &chosen).ok());
  ExpectChoice(SlowChoice({memory.slow()}, options, queries.view), chosen);
}

TEST(ChooseBlocks, SeveralSourcesAreSearchedAsOne) {
  std::mt19937 random(3);
  Searchable first, second, third;
  first.Add(Blocks(60), &random);
  second.Add(Blocks(90), &random);
  second.Add({5}, &random);
  third.Add(Blocks(40), &random);
  for (const int candidates : {0, 30, 1000}) {
    const Queries queries(2, 5, &random);
    const RetrievalOptions options = TestOptions(16, candidates);
    std::vector<ChosenBlock> chosen;
    ASSERT_TRUE(ChooseBlocks({first.source(), second.source(), third.source()}, options,
                             queries.view, &chosen)
                    .ok());
    ExpectChoice(SlowChoice({first.slow(), second.slow(), third.slow()}, options, queries.view),
                 chosen);
  }
}

TEST(ChooseBlocks, TwoSourcesEqualOneThatHoldsBoth) {
  Searchable both, first, second;
  // The same seeds, so the same blocks, once in one store and once in two.
  std::mt19937 one(4), two(5), again_one(4), again_two(5), random(6);
  both.Add(Blocks(70), &one);
  both.Add(Blocks(50), &two);
  first.Add(Blocks(70), &again_one);
  second.Add(Blocks(50), &again_two);
  const Queries queries(5, 3, &random);
  std::vector<ChosenBlock> merged, split;
  ASSERT_TRUE(ChooseBlocks({both.source()}, TestOptions(16, 48), queries.view, &merged).ok());
  ASSERT_TRUE(
      ChooseBlocks({first.source(), second.source()}, TestOptions(16, 48), queries.view, &split)
          .ok());
  ASSERT_EQ(merged.size(), split.size());
  const LineageId first_lineage = both.memory.known()[0].header.lineage;
  for (size_t i = 0; i < merged.size(); ++i) {
    EXPECT_EQ(merged[i].block.position, split[i].block.position);
    EXPECT_EQ(merged[i].block.lineage == first_lineage ? 0 : 1, split[i].source);
    EXPECT_EQ(merged[i].mass, split[i].mass);  // the same sums in the same order
  }
}

TEST(ChooseBlocks, FindsAPlantedBlockAmongThousands) {
  std::mt19937 random(7);
  Searchable memory;
  const Queries queries(5, 1, &random);
  // Token 13 of block 1234 has, in both kv heads, keys along the query of the group's first head.
  const LineageId lineage = memory.memory.AddLineage(
      Blocks(2000), &random, [&](size_t block, size_t layer, std::vector<float>* keys) {
        if (block != 1234 || layer != 1) return;
        for (size_t kv_head = 0; kv_head < 2; ++kv_head) {
          for (size_t d = 0; d < 16; ++d) {
            (*keys)[(13 * 2 + kv_head) * 16 + d] = 4 * queries.numbers[kv_head * 3 * 16 + d];
          }
        }
      });
  ASSERT_TRUE(memory.index.AddLineage(memory.memory.store(), lineage).ok());
  std::vector<ChosenBlock> chosen;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, TestOptions(16, 128), queries.view, &chosen).ok());
  double mass = 0;
  for (const ChosenBlock& one : chosen) {
    if (one.block.position == 1234 * 32) mass = one.mass;
  }
  EXPECT_GT(mass, 0.3);  // two heads of six see it, and nearly nothing else
  std::vector<ChosenBlock> other_layer;
  const LayerQueries in_other{2, queries.numbers.data(), 1, kHeads};
  ASSERT_TRUE(ChooseBlocks({memory.source()}, TestOptions(16, 128), in_other, &other_layer).ok());
  for (const ChosenBlock& one : other_layer) EXPECT_LT(one.mass, 0.3);
}

TEST(ChooseBlocks, TheHeaviestBringTheBlockAfterThemInThePlaceOfTheLightest) {
  std::mt19937 random(17);
  Searchable memory;
  Queries queries(5, 1, &random);
  for (size_t i = 0; i < queries.numbers.size(); ++i) {  // the heads of a kv head ask alike
    queries.numbers[i] = queries.numbers[i / 48 * 48 + i % 16];
  }
  // Blocks 10, 39 (the last of its lineage) and 20 are liked, in this order; nothing else is.
  LineageId lineage = memory.memory.AddLineage(
      Blocks(40), &random, [&](size_t block, size_t, std::vector<float>* keys) {
        const float like = block == 10 ? 2.2f : block == 39 ? 2.1f : block == 20 ? 2 : 0;
        for (size_t i = 0; i < keys->size(); ++i) {
          const size_t kv_head = i / 16 % 2;
          (*keys)[i] = like * queries.numbers[kv_head * 3 * 16 + i % 16];
        }
      });
  ASSERT_TRUE(memory.index.AddLineage(memory.memory.store(), lineage).ok());
  memory.Add(Blocks(40), &random);  // begins where no block of the first lineage ends
  const auto chosen_with = [&](int k, int successors) {
    RetrievalOptions options = TestOptions(k, 80);
    options.successors = successors;
    std::vector<ChosenBlock> chosen;
    EXPECT_TRUE(ChooseBlocks({memory.source()}, options, queries.view, &chosen).ok());
    std::string seen;
    for (const ChosenBlock& one : chosen) {
      EXPECT_EQ(lineage, one.block.lineage);
      seen += std::to_string(one.block.position / 32) + (one.bringer_weight > 0 ? "s " : " ");
    }
    return seen;
  };
  EXPECT_EQ("10 20 39 ", chosen_with(3, 0));
  EXPECT_EQ("10 11s 39 ", chosen_with(3, 1));
  EXPECT_EQ("10 11s 39 ", chosen_with(3, 3));
  EXPECT_EQ("10 11s 20 39 ", chosen_with(4, 2));  // there is none after the last
  EXPECT_EQ("10 11s 20 21s 39 ", chosen_with(5, 3));
}

TEST(ChooseBlocks, WhatLingersOfTheLastChoiceCompetesByTheFormula) {
  std::mt19937 random(21);
  Searchable first, second;
  first.Add(Blocks(60), &random);
  second.Add(Blocks(70), &random);
  for (const int candidates : {0, 24, 1000}) {
    RetrievalOptions options = TestOptions(5, candidates);
    options.successors = 2;
    options.linger = 0.9;
    std::vector<ChosenBlock> last;
    int stayed = 0;
    for (int token = 0; token < 5; ++token) {
      Queries queries(5, 1, &random);
      std::vector<ChosenBlock> alone, chosen;
      ASSERT_TRUE(
          ChooseBlocks({first.source(), second.source()}, options, queries.view, &alone).ok());
      queries.view.last = &last;
      ASSERT_TRUE(
          ChooseBlocks({first.source(), second.source()}, options, queries.view, &chosen).ok());
      ExpectChoice(SlowChoice({first.slow(), second.slow()}, options, queries.view), chosen);
      stayed += Places(alone) != Places(chosen);
      double sum = 0;  // of masses: those are of this token's queries alone
      for (const ChosenBlock& one : chosen) sum += one.mass;
      EXPECT_LE(sum, 1 + 1e-6);
      last = chosen;
    }
    EXPECT_GT(stayed, 0) << candidates;
  }
}

TEST(ChooseBlocks, WhatIsNoLongerThereDoesNotLinger) {
  std::mt19937 random(22);
  Searchable memory;
  const LineageId goes = memory.Add(Blocks(60), &random);
  memory.Add(Blocks(60), &random);
  RetrievalOptions options = TestOptions(16, 48);
  options.linger = 1;
  Queries before(5, 1, &random), now(5, 1, &random);
  std::vector<ChosenBlock> last, chosen, alone;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, options, before.view, &last).ok());
  for (ChosenBlock& one : last) one.mass = 1;  // nothing could displace them
  now.view.last = &last;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, options, now.view, &chosen).ok());
  EXPECT_EQ(Places(last), Places(chosen));
  ASSERT_TRUE(memory.index.RemoveLineage(goes).ok());
  std::erase_if(last, [&](const ChosenBlock& one) { return one.block.lineage != goes; });
  ASSERT_FALSE(last.empty());
  ASSERT_TRUE(ChooseBlocks({memory.source()}, options, now.view, &chosen).ok());
  for (const ChosenBlock& one : chosen) EXPECT_NE(goes, one.block.lineage);
  // Nor what is of a source that is none.
  for (ChosenBlock& one : last) one.source = 7;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, options, now.view, &chosen).ok());
  now.view.last = nullptr;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, options, now.view, &alone).ok());
  EXPECT_EQ(Places(alone), Places(chosen));
}

TEST(ChooseBlocks, MassesAreSharesOfOne) {
  std::mt19937 random(8);
  Searchable memory;
  memory.Add(Blocks(10), &random);
  const Queries queries(2, 4, &random);
  for (const int candidates : {0, 128}) {
    std::vector<ChosenBlock> all, some;
    ASSERT_TRUE(
        ChooseBlocks({memory.source()}, TestOptions(10, candidates), queries.view, &all).ok());
    double sum = 0;
    for (const ChosenBlock& one : all) sum += one.mass;
    EXPECT_NEAR(1.0, sum, 1e-6);
    ASSERT_TRUE(
        ChooseBlocks({memory.source()}, TestOptions(3, candidates), queries.view, &some).ok());
    for (const ChosenBlock& one : some) {
      EXPECT_GT(one.mass, 0);
      sum -= one.mass;
    }
    EXPECT_GT(sum, 0);
  }
}

TEST(ChooseBlocks, FewerBlocksThanTheSpanHoldsAreAllChosen) {
  std::mt19937 random(9);
  Searchable memory;
  memory.Add({32, 32, 9}, &random);
  const Queries queries(2, 1, &random);
  std::vector<ChosenBlock> chosen;
  ASSERT_TRUE(ChooseBlocks({memory.source()}, TestOptions(16, 128), queries.view, &chosen).ok());
  EXPECT_EQ(3u, chosen.size());
  EXPECT_EQ(9, chosen[2].block.tokens);
  ExpectChoice(SlowChoice({memory.slow()}, TestOptions(16, 128), queries.view), chosen);
}

TEST(ChooseBlocks, NothingStoredGivesAnEmptyChoice) {
  std::mt19937 random(10);
  Searchable empty;
  const Queries queries(2, 1, &random);
  std::vector<ChosenBlock> chosen(3);
  EXPECT_TRUE(ChooseBlocks({}, TestOptions(16, 128), queries.view, &chosen).ok());
  EXPECT_TRUE(chosen.empty());
  chosen.resize(3);
  EXPECT_TRUE(ChooseBlocks({empty.source()}, TestOptions(16, 128), queries.view, &chosen).ok());
  EXPECT_TRUE(chosen.empty());
}

TEST(ChooseBlocks, NeitherThreadsNorThePoolChangeTheChoice) {
  std::mt19937 random(11);
  Searchable memory;
  memory.Add(Blocks(400), &random);
  for (const int tokens : {1, 100}) {
    const Queries queries(5, tokens, &random);
    RetrievalOptions options = TestOptions(16, 100);
    options.threads = 1;
    std::vector<ChosenBlock> first;
    ASSERT_TRUE(ChooseBlocks({memory.source()}, options, queries.view, &first).ok());
    for (const int threads : {2, 3, 8, 0}) {  // the first time fills the pool
      options.threads = threads;
      std::vector<ChosenBlock> again;
      ASSERT_TRUE(ChooseBlocks({memory.source()}, options, queries.view, &again).ok());
      ASSERT_EQ(Places(first), Places(again));
      for (size_t i = 0; i < first.size(); ++i) ASSERT_EQ(first[i].mass, again[i].mass);
    }
  }
}

TEST(ChooseBlocks, DamagedKeysAreAnErrorThatNamesTheBlock) {
  std::mt19937 random(12);
  Searchable memory;
  memory.Add(Blocks(3), &random);
  ASSERT_GT(memory.memory.Damage(Family::kBlocks, [](std::string_view) { return true; }), 0);
  const Queries queries(2, 1, &random);
  std::vector<ChosenBlock> chosen;
  const Status status =
      ChooseBlocks({memory.source()}, TestOptions(16, 128), queries.view, &chosen);
  EXPECT_EQ(Code::kCorruption, status.code());
  EXPECT_NE(std::string::npos, status.message().find("block")) << status.message();
  EXPECT_TRUE(chosen.empty());
}

TEST(ChooseBlocks, APayloadThatIsNotWhatTheIndexSaysIsDamage) {
  std::mt19937 random(13);
  Searchable memory;
  memory.memory.AddLineage({32}, &random);
  KnownBlock known = memory.memory.known()[0];
  known.header.tokens.assign(31, 1);  // the index believes in one token less
  ASSERT_TRUE(memory.index.Add(known.header, known.representatives).ok());
  const Queries queries(2, 1, &random);
  std::vector<ChosenBlock> chosen;
  const Status status =
      ChooseBlocks({memory.source()}, TestOptions(16, 128), queries.view, &chosen);
  EXPECT_EQ(Code::kCorruption, status.code());
  EXPECT_NE(std::string::npos, status.message().find("31 tokens")) << status.message();
}

TEST(ChooseBlocks, ALayerThatWasNotStoredIsRefused) {
  std::mt19937 random(14);
  Searchable memory;
  memory.Add(Blocks(2), &random);
  const Queries queries(3, 1, &random);
  std::vector<ChosenBlock> chosen;
  const Status status =
      ChooseBlocks({memory.source()}, TestOptions(16, 128), queries.view, &chosen);
  EXPECT_EQ(Code::kInvalidArgument, status.code());
  EXPECT_NE(std::string::npos, status.message().find("layer 3")) << status.message();
}

TEST(ChooseBlocks, SourcesOfDifferentModelsAreRefused) {
  std::mt19937 random(15);
  Layout other = TestLayout();
  other.fingerprint = std::string(64, 'b');
  Searchable memory, foreign(other);
  memory.Add(Blocks(2), &random);
  foreign.Add(Blocks(2), &random);
  const Queries queries(2, 1, &random);
  std::vector<ChosenBlock> chosen;
  EXPECT_EQ(Code::kFingerprintMismatch, ChooseBlocks({memory.source(), foreign.source()},
                                                     TestOptions(16, 128), queries.view, &chosen)
                                            .code());
}

TEST(ChooseBlocks, BadQueriesAndOptionsAreRefused) {
  std::mt19937 random(16);
  Searchable memory;
  memory.Add(Blocks(2), &random);
  const auto code = [&](const RetrievalOptions& options, const LayerQueries& queries) {
    std::vector<ChosenBlock> chosen;
    return ChooseBlocks({memory.source()}, options, queries, &chosen).code();
  };
  Queries good(2, 3, &random);
  ASSERT_EQ(Code::kOk, code(TestOptions(16, 128), good.view));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), 1e31f, -std::numeric_limits<float>::infinity()}) {
    Queries queries = good;
    queries.numbers[(2 * kHeads + 4) * 16 + 15] = bad;
    queries.view.data = queries.numbers.data();
    std::vector<ChosenBlock> chosen;
    const Status status =
        ChooseBlocks({memory.source()}, TestOptions(16, 128), queries.view, &chosen);
    EXPECT_EQ(Code::kInvalidArgument, status.code());
    EXPECT_NE(std::string::npos, status.message().find("token 2, head 4")) << status.message();
  }
  LayerQueries odd_heads = good.view;
  odd_heads.heads = 5;
  EXPECT_EQ(Code::kInvalidArgument, code(TestOptions(16, 128), odd_heads));
  LayerQueries no_tokens = good.view;
  no_tokens.tokens = 0;
  EXPECT_EQ(Code::kInvalidArgument, code(TestOptions(16, 128), no_tokens));
  EXPECT_EQ(Code::kInvalidArgument, code(TestOptions(0, 128), good.view));
  EXPECT_EQ(Code::kInvalidArgument, code(TestOptions(16, -1), good.view));
  RetrievalOptions options = TestOptions(16, 128);
  options.votes = 0;
  EXPECT_EQ(Code::kInvalidArgument, code(options, good.view));
  options = TestOptions(16, 128);
  options.successors = -1;
  EXPECT_EQ(Code::kInvalidArgument, code(options, good.view));
  for (const double linger : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    options = TestOptions(16, 128);
    options.linger = linger;
    EXPECT_EQ(Code::kInvalidArgument, code(options, good.view));
  }
  options = TestOptions(16, 128);
  options.scale = 0;
  EXPECT_EQ(Code::kInvalidArgument, code(options, good.view));
}

TEST(ChooseBlocks, QueriesAtTheLargestAllowedSizeGiveMassesThatAreNumbers) {
  std::mt19937 random(17);
  Searchable memory;
  memory.Add(Blocks(40), &random);
  Queries queries(2, 2, &random);
  for (float& number : queries.numbers) number = number < 0 ? -1e30f : 1e30f;
  for (const int candidates : {0, 20, 128}) {
    std::vector<ChosenBlock> chosen;
    ASSERT_TRUE(
        ChooseBlocks({memory.source()}, TestOptions(16, candidates), queries.view, &chosen).ok());
    double sum = 0;
    for (const ChosenBlock& one : chosen) sum += one.mass;
    EXPECT_GT(sum, 0);
    EXPECT_LE(sum, 1 + 1e-6);
  }
}

TEST(ChooseRandomBlocks, EveryBlockIsEquallyLikelyAndNoneComesTwice) {
  std::mt19937 random(18);
  Searchable first, second;
  first.Add(Blocks(3, 8), &random);
  second.Add(Blocks(7, 8), &random);
  const LineageId removed = second.Add(Blocks(5, 8), &random);
  ASSERT_TRUE(second.index.RemoveLineage(removed).ok());
  constexpr int kDraws = 20000, kPerDraw = 4, kAll = 10;
  std::map<SlowKey, int> counts;
  uint64_t state = 42;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::vector<ChosenBlock> chosen;
    ASSERT_TRUE(
        ChooseRandomBlocks({first.source(), second.source()}, kPerDraw, &state, &chosen).ok());
    const std::vector<SlowKey> places = Places(chosen);
    ASSERT_EQ(4u, std::set<SlowKey>(places.begin(), places.end()).size());
    ASSERT_TRUE(std::is_sorted(places.begin(), places.end()));
    for (const SlowKey& place : places) ++counts[place];
  }
  ASSERT_EQ(static_cast<size_t>(kAll), counts.size());
  // Each is in a draw with probability .4: six standard deviations of a count are 6 * 69.
  for (const auto& [place, count] : counts) EXPECT_NEAR(0.4 * kDraws, count, 6 * 69.3);
}

TEST(ChooseRandomBlocks, TheSameStateGivesTheSameDrawAndAdvances) {
  std::mt19937 random(19);
  Searchable memory;
  memory.Add(Blocks(200, 8), &random);
  uint64_t one = 7, two = 7, other = 8;
  std::vector<ChosenBlock> a, b, c, next;
  ASSERT_TRUE(ChooseRandomBlocks({memory.source()}, 16, &one, &a).ok());
  ASSERT_TRUE(ChooseRandomBlocks({memory.source()}, 16, &two, &b).ok());
  ASSERT_TRUE(ChooseRandomBlocks({memory.source()}, 16, &other, &c).ok());
  EXPECT_EQ(Places(a), Places(b));
  EXPECT_EQ(one, two);
  EXPECT_NE(Places(a), Places(c));
  ASSERT_TRUE(ChooseRandomBlocks({memory.source()}, 16, &one, &next).ok());
  EXPECT_NE(Places(a), Places(next));
}

TEST(ChooseRandomBlocks, FewerBlocksThanAskedForAreAllDrawn) {
  std::mt19937 random(20);
  Searchable memory;
  memory.Add(Blocks(3, 8), &random);
  uint64_t state = 1;
  std::vector<ChosenBlock> chosen;
  ASSERT_TRUE(ChooseRandomBlocks({memory.source()}, 16, &state, &chosen).ok());
  EXPECT_EQ(3u, chosen.size());
  ASSERT_TRUE(ChooseRandomBlocks({}, 16, &state, &chosen).ok());
  EXPECT_TRUE(chosen.empty());
  EXPECT_EQ(Code::kInvalidArgument,
            ChooseRandomBlocks({memory.source()}, 0, &state, &chosen).code());
}

}  // namespace
}  // namespace eidetic::memory
