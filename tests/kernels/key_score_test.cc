#include "kernels/key_score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/score_tile.h"

namespace eidetic::kernels {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

std::vector<InstructionSet> SupportedSets() {
  std::vector<InstructionSet> sets;
  for (const InstructionSet set :
       {InstructionSet::kPortable, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (Supports(set)) sets.push_back(set);
  }
  return sets;
}

std::vector<float> RandomNumbers(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(count);
  for (float& number : numbers) number = normal(random);
  return numbers;
}

// Small whole numbers: their inner products are exact in fp32, so ties are ties and every
// instruction set must agree to the bit.
std::vector<float> RandomWholeNumbers(size_t count, int largest, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> uniform(-largest, largest);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(uniform(random));
  return numbers;
}

std::vector<uint16_t> Halves(const std::vector<float>& numbers) {
  std::vector<uint16_t> halves(numbers.size());
  FloatToHalf(numbers.data(), numbers.size(), halves.data());
  return halves;
}

std::vector<uint16_t> Grouped(const std::vector<uint16_t>& vectors, int dim) {
  const int64_t count = static_cast<int64_t>(vectors.size()) / dim;
  std::vector<uint16_t> groups(GroupedSize(count, dim), 0);
  PutIntoGroups(vectors.data(), count, dim, 0, groups.data());
  return groups;
}

struct Best {
  std::vector<int64_t> rows;
  std::vector<float> scores;
};

Best Search(const std::vector<float>& queries, int dim, const std::vector<VectorRun>& runs, int k,
            int threads, InstructionSet set) {
  const int count = static_cast<int>(queries.size()) / dim;
  Best best;
  best.rows.assign(static_cast<size_t>(count) * k, -7);
  best.scores.assign(static_cast<size_t>(count) * k, 7.0f);
  TopKInnerProducts(queries.data(), count, dim, runs.data(), static_cast<int>(runs.size()), k,
                    threads, best.rows.data(), best.scores.data(), set);
  return best;
}

// Sorting all scores, in double.
Best SlowSearch(const std::vector<float>& queries, int dim, const std::vector<uint16_t>& vectors,
                const std::vector<uint8_t>& live, int k) {
  const size_t count = queries.size() / dim, rows = vectors.size() / dim;
  Best best;
  for (size_t q = 0; q < count; ++q) {
    std::vector<std::pair<double, int64_t>> all;
    for (size_t row = 0; row < rows; ++row) {
      if (!live.empty() && live[row] == 0) continue;
      double sum = 0;
      for (int d = 0; d < dim; ++d) {
        sum += static_cast<double>(queries[q * dim + d]) * HalfToFloat(vectors[row * dim + d]);
      }
      all.emplace_back(-sum, static_cast<int64_t>(row));
    }
    std::sort(all.begin(), all.end());
    for (int i = 0; i < k; ++i) {
      const bool there = i < static_cast<int>(all.size());
      best.rows.push_back(there ? all[i].second : -1);
      best.scores.push_back(there ? static_cast<float>(-all[i].first) : kNoScore);
    }
  }
  return best;
}

TEST(TopKInnerProducts, EqualsSortingAllScoresOnEverySetWithTiesByRow) {
  const struct {
    int dim, queries, rows, k, largest;
  } cases[] = {{64, 3, 1000, 16, 3},  {64, 1, 1, 16, 3},    {1, 2, 77, 5, 2},
               {7, 4, 130, 10, 1},    {16, 3, 63, 63, 1},   {33, 9, 300, 1, 2},
               {80, 5, 257, 300, 2},  {128, 2, 500, 16, 1}, {130, 3, 65, 16, 1},
               {256, 20, 100, 16, 2}, {300, 2, 40, 7, 2},   {64, 150, 2000, 16, 2}};
  for (const auto& c : cases) {
    const std::vector<float> queries =
        RandomWholeNumbers(static_cast<size_t>(c.queries) * c.dim, c.largest, 1);
    const std::vector<uint16_t> vectors =
        Halves(RandomWholeNumbers(static_cast<size_t>(c.rows) * c.dim, c.largest, 2));
    const std::vector<uint16_t> groups = Grouped(vectors, c.dim);
    std::vector<uint8_t> live(c.rows);
    std::mt19937 random(3);
    for (uint8_t& alive : live) alive = random() % 3 != 0 ? 255 : 0;
    for (const bool masked : {false, true}) {
      const Best wanted =
          SlowSearch(queries, c.dim, vectors, masked ? live : std::vector<uint8_t>(), c.k);
      for (const InstructionSet set : SupportedSets()) {
        for (const int threads : {1, 2, 5}) {
          const Best best =
              Search(queries, c.dim, {{groups.data(), masked ? live.data() : nullptr, c.rows}}, c.k,
                     threads, set);
          ASSERT_EQ(wanted.rows, best.rows)
              << InstructionSetName(set) << " dim " << c.dim << " threads " << threads;
          ASSERT_EQ(wanted.scores, best.scores) << InstructionSetName(set) << " dim " << c.dim;
        }
      }
    }
  }
}

// |error| of a sum of n products in fp32 is at most n units of roundoff times the sum of their
// sizes.
double ScoreBound(const float* query, const uint16_t* vector, int dim) {
  double sizes = 0;
  for (int d = 0; d < dim; ++d) sizes += std::fabs(query[d] * HalfToFloat(vector[d]));
  return (dim + 2) * 0x1p-24 * sizes;
}

TEST(TopKInnerProducts, ScoresOfRealNumbersAreWithinFp32Rounding) {
  constexpr int kDim = 64, kQueries = 9, kRows = 3000, kBest = 16;
  const std::vector<float> queries = RandomNumbers(kQueries * kDim, 4);
  const std::vector<uint16_t> vectors = Halves(RandomNumbers(kRows * kDim, 5));
  const std::vector<uint16_t> groups = Grouped(vectors, kDim);
  const Best all = SlowSearch(queries, kDim, vectors, {}, kRows);
  for (const InstructionSet set : SupportedSets()) {
    const Best best = Search(queries, kDim, {{groups.data(), nullptr, kRows}}, kBest, 1, set);
    for (int q = 0; q < kQueries; ++q) {
      for (int i = 0; i < kBest; ++i) {
        // The i-th best score is the i-th best score, and belongs to the row it names.
        const int64_t row = best.rows[q * kBest + i];
        const double bound = ScoreBound(&queries[q * kDim], &vectors[row * kDim], kDim);
        ASSERT_NEAR(all.scores[q * kRows + i], best.scores[q * kBest + i], 2 * bound);
        const auto at = std::find(all.rows.begin() + q * kRows, all.rows.end(), row);
        ASSERT_NEAR(all.scores[at - all.rows.begin()], best.scores[q * kBest + i], bound);
      }
    }
  }
}

TEST(TopKInnerProducts, BitsDependNeitherOnThreadsNorOnBatchNorOnRuns) {
  constexpr int kDim = 64, kQueries = 60, kRows = 5000, kBest = 16;
  const std::vector<float> queries = RandomNumbers(kQueries * kDim, 6);
  const std::vector<uint16_t> vectors = Halves(RandomNumbers(kRows * kDim, 7));
  const std::vector<uint16_t> groups = Grouped(vectors, kDim);
  const auto part = [&](int first, int count) {
    return Grouped({vectors.begin() + first * kDim, vectors.begin() + (first + count) * kDim},
                   kDim);
  };
  const std::vector<uint16_t> one_vector = part(0, 1), many_vectors = part(1, 4000),
                              rest = part(4001, 999);
  for (const InstructionSet set : SupportedSets()) {
    const Best one = Search(queries, kDim, {{groups.data(), nullptr, kRows}}, kBest, 1, set);
    for (const int threads : {2, 3, 8}) {
      const Best many =
          Search(queries, kDim, {{groups.data(), nullptr, kRows}}, kBest, threads, set);
      ASSERT_EQ(one.rows, many.rows);
      ASSERT_EQ(one.scores, many.scores);
    }
    const std::vector<VectorRun> runs = {{one_vector.data(), nullptr, 1},
                                         {nullptr, nullptr, 0},
                                         {many_vectors.data(), nullptr, 4000},
                                         {rest.data(), nullptr, 999}};
    const Best split = Search(queries, kDim, runs, kBest, 2, set);
    ASSERT_EQ(one.rows, split.rows);
    ASSERT_EQ(one.scores, split.scores);
    for (int q = 0; q < kQueries; ++q) {
      const std::vector<float> alone(queries.begin() + q * kDim, queries.begin() + (q + 1) * kDim);
      const Best single = Search(alone, kDim, {{groups.data(), nullptr, kRows}}, kBest, 2, set);
      ASSERT_TRUE(
          std::equal(single.scores.begin(), single.scores.end(), one.scores.begin() + q * kBest));
    }
  }
}

TEST(TopKInnerProducts, Avx2AndAvx512GiveTheSameBits) {
  if (!Supports(InstructionSet::kAvx512)) GTEST_SKIP() << "this machine has no AVX-512";
  for (const int dim : {1, 40, 64, 128}) {
    const std::vector<float> queries = RandomNumbers(static_cast<size_t>(5) * dim, 8);
    const std::vector<uint16_t> vectors = Halves(RandomNumbers(static_cast<size_t>(999) * dim, 9));
    const std::vector<uint16_t> groups = Grouped(vectors, dim);
    const std::vector<VectorRun> runs = {{groups.data(), nullptr, 999}};
    const Best narrow = Search(queries, dim, runs, 20, 1, InstructionSet::kAvx2);
    const Best wide = Search(queries, dim, runs, 20, 1, InstructionSet::kAvx512);
    EXPECT_EQ(narrow.rows, wide.rows);
    EXPECT_EQ(narrow.scores, wide.scores);
  }
}

TEST(TopKInnerProducts, WithoutVectorsOrWithoutLiveOnesEverythingIsMissing) {
  const std::vector<float> queries = RandomNumbers(2 * 8, 10);
  const std::vector<uint16_t> vectors = Grouped(Halves(RandomNumbers(3 * 8, 11)), 8);
  const std::vector<uint8_t> live(3, 0);
  const std::vector<VectorRun> cases[] = {{}, {{vectors.data(), live.data(), 3}}};
  for (const std::vector<VectorRun>& runs : cases) {
    const Best best = Search(queries, 8, runs, 4, 2, BestInstructionSet());
    EXPECT_EQ(std::vector<int64_t>(8, -1), best.rows);
    EXPECT_EQ(std::vector<float>(8, kNoScore), best.scores);
  }
}

TEST(TopKInnerProducts, SubnormalVectorsAreScoredAtTheirValue) {
  // In units of 2^-24: 1, 1023, -1, 0.
  const std::vector<uint16_t> vectors = Grouped({1, 0x03ff, 0x8001, 0}, 1);
  const std::vector<float> query = {0x1p24f};
  for (const InstructionSet set : SupportedSets()) {
    const Best best = Search(query, 1, {{vectors.data(), nullptr, 4}}, 4, 1, set);
    EXPECT_EQ((std::vector<int64_t>{1, 0, 3, 2}), best.rows);
    EXPECT_EQ((std::vector<float>{1023, 1, 0, -1}), best.scores);
  }
}

TEST(TopKInnerProducts, AScoreThatIsNotANumberIsNeverAmongTheBest) {
  const std::vector<uint16_t> vectors = Grouped(Halves({1, 2, 3, 4}), 1);
  const std::vector<float> query = {std::numeric_limits<float>::quiet_NaN()};
  for (const InstructionSet set : SupportedSets()) {
    const Best best = Search(query, 1, {{vectors.data(), nullptr, 4}}, 2, 1, set);
    EXPECT_EQ((std::vector<int64_t>{-1, -1}), best.rows);
  }
}

struct PayloadCase {
  Codec codec;
  int tokens, kv_heads, dim, queries;
};
constexpr PayloadCase kPayloadCases[] = {
    {Codec::kInt8, 32, 3, 64, 3},  {Codec::kFp16, 32, 3, 64, 3},  {Codec::kInt8, 1, 1, 1, 1},
    {Codec::kInt8, 31, 2, 80, 70}, {Codec::kFp16, 17, 5, 33, 4},  {Codec::kInt8, 200, 1, 128, 2},
    {Codec::kFp16, 65, 1, 64, 2},  {Codec::kInt8, 33, 2, 300, 3}, {Codec::kFp16, 40, 1, 700, 2}};

TEST(ScorePayload, EqualsInnerProductsWithTheDecodedRows) {
  for (const PayloadCase& c : kPayloadCases) {
    const size_t row = static_cast<size_t>(c.kv_heads) * c.dim;
    const std::vector<float> keys = RandomNumbers(c.tokens * row, 12);
    const std::vector<float> queries = RandomNumbers(static_cast<size_t>(c.queries) * c.dim, 13);
    // One byte in: payloads need not be aligned.
    std::vector<uint8_t> payload(1 + PayloadBytes(c.codec, c.tokens, c.kv_heads, c.dim));
    ASSERT_TRUE(EncodeRows(c.codec, keys.data(), c.tokens, c.kv_heads, c.dim, payload.data() + 1));
    std::vector<float> decoded(keys.size());
    DecodeRows(c.codec, payload.data() + 1, c.tokens, c.kv_heads, c.dim, decoded.data());
    constexpr float kScale = 0.125f;
    for (const InstructionSet set : SupportedSets()) {
      for (int head = 0; head < c.kv_heads; ++head) {
        std::vector<float> scores(static_cast<size_t>(c.queries) * c.tokens, -7.0f);
        ScorePayload(queries.data(), c.queries, c.codec, payload.data() + 1, c.tokens, c.kv_heads,
                     c.dim, head, kScale, scores.data(), set);
        for (int q = 0; q < c.queries; ++q) {
          for (int t = 0; t < c.tokens; ++t) {
            double wanted = 0, sizes = 0;
            for (int d = 0; d < c.dim; ++d) {
              const double product =
                  static_cast<double>(queries[q * c.dim + d]) * decoded[t * row + head * c.dim + d];
              wanted += product;
              sizes += std::fabs(product);
            }
            ASSERT_NEAR(kScale * wanted, scores[q * c.tokens + t],
                        kScale * (c.dim / 16 + 8) * 0x1p-24 * sizes)
                << InstructionSetName(set) << " dim " << c.dim << " token " << t;
          }
        }
      }
    }
  }
}

TEST(ScorePayload, BitsDependNeitherOnTheBatchNorOnTheVectorWidth) {
  for (const PayloadCase& c : kPayloadCases) {
    const size_t row = static_cast<size_t>(c.kv_heads) * c.dim;
    const std::vector<float> keys = RandomNumbers(c.tokens * row, 16);
    const int queries = 11;
    const std::vector<float> query = RandomNumbers(static_cast<size_t>(queries) * c.dim, 17);
    std::vector<uint8_t> payload(PayloadBytes(c.codec, c.tokens, c.kv_heads, c.dim));
    ASSERT_TRUE(EncodeRows(c.codec, keys.data(), c.tokens, c.kv_heads, c.dim, payload.data()));
    const size_t stride = static_cast<size_t>(c.tokens);
    std::vector<float> of_avx2;
    for (const InstructionSet set : SupportedSets()) {
      const int head = c.kv_heads - 1;
      std::vector<float> together(queries * stride);
      ScorePayload(query.data(), queries, c.codec, payload.data(), c.tokens, c.kv_heads, c.dim,
                   head, 0.125f, together.data(), set);
      for (const int batch : {1, 2, 3, 4}) {  // few queries read int8 rows as they lie
        std::vector<float> apart(queries * stride);
        for (int q = 0; q < queries; q += batch) {
          ScorePayload(query.data() + static_cast<size_t>(q) * c.dim, std::min(batch, queries - q),
                       c.codec, payload.data(), c.tokens, c.kv_heads, c.dim, head, 0.125f,
                       apart.data() + q * stride, set);
        }
        ASSERT_EQ(together, apart) << InstructionSetName(set) << " dim " << c.dim << ", " << batch;
      }
      if (set == InstructionSet::kAvx2) of_avx2 = together;
      if (set == InstructionSet::kAvx512) {
        ASSERT_EQ(of_avx2, together) << "dim " << c.dim;
      }
    }
  }
}

TEST(PayloadSoftmax, IsTheLargestScoreAndTheSumOfExponentialsBelowIt) {
  for (const PayloadCase& c : kPayloadCases) {
    // Keys from tiny to large: exponentials from 1 to far below what counts.
    std::vector<float> keys = RandomNumbers(static_cast<size_t>(c.tokens) * c.kv_heads * c.dim, 14);
    for (size_t i = 0; i < keys.size(); ++i) keys[i] *= 0.1f + static_cast<float>(i % 7);
    const std::vector<float> queries = RandomNumbers(static_cast<size_t>(c.queries) * c.dim, 15);
    std::vector<uint8_t> payload(PayloadBytes(c.codec, c.tokens, c.kv_heads, c.dim));
    ASSERT_TRUE(EncodeRows(c.codec, keys.data(), c.tokens, c.kv_heads, c.dim, payload.data()));
    for (const InstructionSet set : SupportedSets()) {
      const int head = c.kv_heads - 1;
      std::vector<float> scores(static_cast<size_t>(c.queries) * c.tokens);
      ScorePayload(queries.data(), c.queries, c.codec, payload.data(), c.tokens, c.kv_heads, c.dim,
                   head, 0.3f, scores.data(), set);
      std::vector<float> maxima(c.queries), sums(c.queries);
      PayloadSoftmax(queries.data(), c.queries, c.codec, payload.data(), c.tokens, c.kv_heads,
                     c.dim, head, 0.3f, maxima.data(), sums.data(), set);
      for (int q = 0; q < c.queries; ++q) {
        const auto first = scores.begin() + static_cast<std::ptrdiff_t>(q) * c.tokens;
        const float largest = *std::max_element(first, first + c.tokens);
        double sum = 0;
        for (int t = 0; t < c.tokens; ++t) {
          sum += std::exp(static_cast<double>(first[t]) - largest);
        }
        EXPECT_EQ(largest, maxima[q]);
        EXPECT_NEAR(sum, sums[q], 1e-6 * sum) << InstructionSetName(set) << " dim " << c.dim;
      }
    }
  }
}

TEST(SoftmaxPart, HoldsItsErrorOverTheWholeRange) {
  for (const InstructionSet set : SupportedSets()) {
    const TileFunctions& functions = TileFunctionsFor(set);
    float largest, sum;
    for (float x = 0.0f; x > -86.9f; x -= 0.0371f) {
      const float scores[] = {x + 3.0f, 3.0f, x + 3.0f};
      const double wanted = 2 * std::exp(static_cast<double>(scores[0]) - 3.0);
      functions.softmax_part(scores, 3, &largest, &sum);
      ASSERT_EQ(3.0f, largest);
      // The 1 of the largest score rounds the sum to 2^-23.
      ASSERT_NEAR(1 + wanted, sum, 1e-6 * wanted + 0x1p-23) << InstructionSetName(set) << x;
    }
    const float far_below[] = {-1e30f, kNoScore, 0.0f};
    functions.softmax_part(far_below, 3, &largest, &sum);
    EXPECT_EQ(0.0f, largest);
    EXPECT_EQ(1.0f, sum) << InstructionSetName(set);
  }
}

TEST(SoftmaxPart, CountsEveryScoreOfEveryLength) {
  for (const InstructionSet set : SupportedSets()) {
    for (int count = 1; count <= kTileMaxRows; ++count) {
      for (int at = 0; at < count; ++at) {
        std::vector<float> scores(count, 1.0f);
        scores[at] = 2.0f;
        float largest, sum;
        TileFunctionsFor(set).softmax_part(scores.data(), count, &largest, &sum);
        ASSERT_EQ(2.0f, largest);
        ASSERT_NEAR(1 + (count - 1) * std::exp(-1.0), sum, 2e-6 * count);
      }
    }
  }
}

TEST(PutIntoGroups, PlacesEveryNumberWhereTheLayoutSaysAndNothingElse) {
  for (const int dim : {1, 5, 8, 21, 64}) {
    for (const auto& [first, count] : {std::pair{0, 48}, {13, 21}, {8, 17}, {24, 24}, {47, 1}}) {
      std::vector<uint16_t> groups(GroupedSize(40, dim), 0xffff);
      ASSERT_EQ(48u * static_cast<size_t>(dim), groups.size());
      std::vector<uint16_t> vectors(static_cast<size_t>(count * dim));
      std::iota(vectors.begin(), vectors.end(), uint16_t{0});
      PutIntoGroups(vectors.data(), count, dim, first, groups.data());
      for (int v = 0; v < 48; ++v) {
        for (int d = 0; d < dim; ++d) {
          const bool put = v >= first && v < first + count;
          ASSERT_EQ(put ? (v - first) * dim + d : 0xffff,
                    groups[static_cast<size_t>((v / 16 * dim + d) * 16 + v % 16)])
              << v << " " << d;
        }
      }
    }
  }
}

}  // namespace
}  // namespace eidetic::kernels
