#include "kernels/vector_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/block_codec.h"
#include "tests/kernels/test_numbers.h"

namespace eidetic::kernels {
namespace {

using testing::kNoScore;
using testing::RandomNumbers;
using testing::SupportedSets;

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

std::vector<uint8_t> Grouped(const std::vector<uint16_t>& vectors, int dim,
                             GroupCoding coding = GroupCoding::kHalf) {
  const int64_t count = static_cast<int64_t>(vectors.size()) / dim;
  std::vector<uint8_t> groups(GroupedBytes(coding, count, dim), 0xff);
  PutIntoGroups(coding, vectors.data(), count, dim, 0, groups.data());
  return groups;
}

struct Best {
  std::vector<int64_t> rows;
  std::vector<float> scores;
};

Best Search(const std::vector<float>& queries, int dim, const std::vector<VectorRun>& runs, int k,
            int threads, InstructionSet set, GroupCoding coding = GroupCoding::kHalf) {
  const int count = static_cast<int>(queries.size()) / dim;
  Best best;
  best.rows.assign(static_cast<size_t>(count) * k, -7);
  best.scores.assign(static_cast<size_t>(count) * k, 7.0f);
  TopKInnerProducts(coding, queries.data(), count, dim, runs.data(), static_cast<int>(runs.size()),
                    k, threads, best.rows.data(), best.scores.data(), set);
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
    const std::vector<uint8_t> groups = Grouped(vectors, c.dim);
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
  const std::vector<uint8_t> groups = Grouped(vectors, kDim);
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
  const std::vector<uint8_t> groups = Grouped(vectors, kDim);
  const auto part = [&](int first, int count) {
    return Grouped({vectors.begin() + first * kDim, vectors.begin() + (first + count) * kDim},
                   kDim);
  };
  const std::vector<uint8_t> one_vector = part(0, 1), many_vectors = part(1, 4000),
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
    const std::vector<uint8_t> groups = Grouped(vectors, dim);
    const std::vector<VectorRun> runs = {{groups.data(), nullptr, 999}};
    const Best narrow = Search(queries, dim, runs, 20, 1, InstructionSet::kAvx2);
    const Best wide = Search(queries, dim, runs, 20, 1, InstructionSet::kAvx512);
    EXPECT_EQ(narrow.rows, wide.rows);
    EXPECT_EQ(narrow.scores, wide.scores);
  }
}

TEST(TopKInnerProducts, WithoutVectorsOrWithoutLiveOnesEverythingIsMissing) {
  const std::vector<float> queries = RandomNumbers(2 * 8, 10);
  const std::vector<uint8_t> vectors = Grouped(Halves(RandomNumbers(3 * 8, 11)), 8);
  const std::vector<uint8_t> live(3, 0);
  const std::vector<VectorRun> cases[] = {{}, {{vectors.data(), live.data(), 3}}};
  for (const std::vector<VectorRun>& runs : cases) {
    const Best best = Search(queries, 8, runs, 4, 2, BestInstructionSet());
    EXPECT_EQ(std::vector<int64_t>(8, -1), best.rows);
    EXPECT_EQ(std::vector<float>(8, kNoScore), best.scores);
  }
}

// What int8 keeps of a number: q scale, with the nearest whole q. In fp32 as the scan has it, so
// that a number between two whole ones goes the same way.
struct Rounded {
  std::vector<int> numbers;
  double scale = 0;
};
Rounded RoundToInt8(const std::vector<float>& numbers) {
  float largest = 0;
  for (const float x : numbers) largest = std::max(largest, std::fabs(x));
  Rounded rounded;
  rounded.scale = static_cast<double>(largest) / 127;
  for (const float x : numbers) {
    rounded.numbers.push_back(largest > 0 ? static_cast<int>(std::lrint(x * (127.0f / largest)))
                                          : 0);
  }
  return rounded;
}

std::vector<float> Row(const std::vector<float>& numbers, int64_t row, int dim) {
  return {numbers.begin() + row * dim, numbers.begin() + (row + 1) * dim};
}

struct ScanCase {
  int dim, queries, rows, k;
};
constexpr ScanCase kInt8Cases[] = {{64, 3, 1000, 16}, {1, 2, 77, 5},     {7, 4, 130, 10},
                                   {33, 9, 300, 1},   {128, 2, 500, 16}, {130, 1, 65, 16},
                                   {300, 2, 40, 7},   {64, 150, 700, 16}};

TEST(TopKInnerProductsOfInt8, ScoresAreWithinWhatRoundingAllows) {
  for (const ScanCase& c : kInt8Cases) {
    const std::vector<float> queries = RandomNumbers(static_cast<size_t>(c.queries) * c.dim, 21);
    const std::vector<uint16_t> vectors =
        Halves(RandomNumbers(static_cast<size_t>(c.rows) * c.dim, 22));
    std::vector<float> widened(vectors.size());
    HalfToFloat(vectors.data(), vectors.size(), widened.data());
    const std::vector<uint8_t> groups = Grouped(vectors, c.dim, GroupCoding::kInt8);
    const Best best = Search(queries, c.dim, {{groups.data(), nullptr, c.rows}}, c.rows, 2,
                             BestInstructionSet(), GroupCoding::kInt8);
    for (int q = 0; q < c.queries; ++q) {
      const std::vector<float> query = Row(queries, q, c.dim);
      const double query_scale = RoundToInt8(query).scale;
      for (int i = 0; i < c.rows; ++i) {
        const size_t at = static_cast<size_t>(q) * c.rows + i;
        ASSERT_GE(best.rows[at], 0);
        const std::vector<float> vector = Row(widened, best.rows[at], c.dim);
        const double vector_scale = RoundToInt8(vector).scale;
        double product = 0, query_size = 0, vector_size = 0;
        for (int d = 0; d < c.dim; ++d) {
          product += static_cast<double>(query[d]) * vector[d];
          query_size += std::fabs(query[d]);
          vector_size += std::fabs(vector[d]);
        }
        const double bound = (query_size * vector_scale + vector_size * query_scale) / 2 +
                             c.dim * vector_scale * query_scale / 4;
        // What is not exact beside the rounding: the scales and three products in fp32.
        const double fp32 = 8 * 0x1p-24 * (std::fabs(product) + bound);
        ASSERT_NEAR(product, best.scores[at], bound + fp32) << "dim " << c.dim;
      }
    }
  }
}

TEST(TopKInnerProductsOfInt8, EqualsSortingTheProductsOfRoundedNumbers) {
  for (const ScanCase& c : kInt8Cases) {
    const std::vector<float> queries = RandomNumbers(static_cast<size_t>(c.queries) * c.dim, 23);
    const std::vector<uint16_t> vectors =
        Halves(RandomNumbers(static_cast<size_t>(c.rows) * c.dim, 24));
    std::vector<float> widened(vectors.size());
    HalfToFloat(vectors.data(), vectors.size(), widened.data());
    std::vector<uint8_t> live(static_cast<size_t>(c.rows));
    std::mt19937 random(25);
    for (uint8_t& alive : live) alive = random() % 3 != 0 ? 1 : 0;
    Best wanted;
    for (int q = 0; q < c.queries; ++q) {
      const Rounded query = RoundToInt8(Row(queries, q, c.dim));
      std::vector<std::pair<double, int64_t>> all;
      for (int row = 0; row < c.rows; ++row) {
        if (live[static_cast<size_t>(row)] == 0) continue;
        const Rounded vector = RoundToInt8(Row(widened, row, c.dim));
        int64_t sum = 0;
        for (int d = 0; d < c.dim; ++d) sum += query.numbers[d] * vector.numbers[d];
        all.emplace_back(-static_cast<double>(sum) * query.scale * vector.scale, row);
      }
      std::sort(all.begin(), all.end());
      for (int i = 0; i < c.k; ++i) {
        const bool there = i < static_cast<int>(all.size());
        wanted.rows.push_back(there ? all[i].second : -1);
        wanted.scores.push_back(there ? static_cast<float>(-all[i].first) : kNoScore);
      }
    }
    const std::vector<uint8_t> groups = Grouped(vectors, c.dim, GroupCoding::kInt8);
    Best first;
    for (const InstructionSet set : SupportedSets()) {
      for (const int threads : {1, 3}) {
        const Best best = Search(queries, c.dim, {{groups.data(), live.data(), c.rows}}, c.k,
                                 threads, set, GroupCoding::kInt8);
        ASSERT_EQ(wanted.rows, best.rows) << InstructionSetName(set) << " dim " << c.dim;
        for (size_t i = 0; i < best.scores.size(); ++i) {
          // The sum is exact; the two scales and two products are rounded to fp32.
          ASSERT_TRUE(wanted.scores[i] == best.scores[i] ||
                      std::fabs(wanted.scores[i] - best.scores[i]) <=
                          5 * 0x1p-24f * std::fabs(wanted.scores[i]));
        }
        if (first.scores.empty()) first = best;
        ASSERT_EQ(first.scores, best.scores) << InstructionSetName(set) << " dim " << c.dim;
      }
    }
  }
}

TEST(TopKInnerProductsOfInt8, ZerosTinyAndLargestNumbersHaveTheirScores) {
  // In units of 2^-24: zeros, the smallest numbers, the largest; queries of zeros and of large
  // ones.
  const std::vector<uint16_t> vectors = {0, 0, 1, 0x8001, 0x7bff, 0xfbff};
  const std::vector<uint8_t> groups = Grouped(vectors, 2, GroupCoding::kInt8);
  for (const InstructionSet set : SupportedSets()) {
    const Best best = Search({0, 0, 1e30f, 0, 0, -1e-30f}, 2, {{groups.data(), nullptr, 3}}, 3, 1,
                             set, GroupCoding::kInt8);
    EXPECT_EQ((std::vector<int64_t>{0, 1, 2, 2, 1, 0, 2, 1, 0}), best.rows);
    EXPECT_EQ(0.0f, best.scores[0]);
    EXPECT_NEAR(65504e30, best.scores[3], 1e29);
    EXPECT_NEAR(1e30 * 0x1p-24, best.scores[4], 1e30 * 0x1p-24 * 1e-6);
    EXPECT_EQ(0.0f, best.scores[5]);
    EXPECT_NEAR(65504e-30, best.scores[6], 1e-31);
  }
}

TEST(TopKInnerProductsOfInt8, AQueryThatIsNotFiniteFindsNothing) {
  const std::vector<uint8_t> vectors = Grouped(Halves({1, 2, 3, 4}), 1, GroupCoding::kInt8);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -kNoScore, kNoScore}) {
    for (const InstructionSet set : SupportedSets()) {
      const Best best =
          Search({bad}, 1, {{vectors.data(), nullptr, 4}}, 2, 1, set, GroupCoding::kInt8);
      EXPECT_EQ((std::vector<int64_t>{-1, -1}), best.rows);
    }
  }
}

TEST(TopKInnerProducts, SubnormalVectorsAreScoredAtTheirValue) {
  // In units of 2^-24: 1, 1023, -1, 0.
  const std::vector<uint8_t> vectors = Grouped({1, 0x03ff, 0x8001, 0}, 1);
  const std::vector<float> query = {0x1p24f};
  for (const InstructionSet set : SupportedSets()) {
    const Best best = Search(query, 1, {{vectors.data(), nullptr, 4}}, 4, 1, set);
    EXPECT_EQ((std::vector<int64_t>{1, 0, 3, 2}), best.rows);
    EXPECT_EQ((std::vector<float>{1023, 1, 0, -1}), best.scores);
  }
}

TEST(TopKInnerProducts, AScoreThatIsNotANumberIsNeverAmongTheBest) {
  const std::vector<uint8_t> vectors = Grouped(Halves({1, 2, 3, 4}), 1);
  const std::vector<float> query = {std::numeric_limits<float>::quiet_NaN()};
  for (const InstructionSet set : SupportedSets()) {
    const Best best = Search(query, 1, {{vectors.data(), nullptr, 4}}, 2, 1, set);
    EXPECT_EQ((std::vector<int64_t>{-1, -1}), best.rows);
  }
}

TEST(PutIntoGroups, PlacesEveryNumberWhereTheLayoutSaysAndNothingElse) {
  for (const int dim : {1, 5, 8, 21, 64}) {
    for (const auto& [first, count] : {std::pair{0, 48}, {13, 21}, {8, 17}, {24, 24}, {47, 1}}) {
      std::vector<uint8_t> groups(GroupedBytes(GroupCoding::kHalf, 40, dim), 0xff);
      ASSERT_EQ(2 * 48u * static_cast<size_t>(dim), groups.size());
      std::vector<uint16_t> vectors(static_cast<size_t>(count * dim));
      std::iota(vectors.begin(), vectors.end(), uint16_t{0});
      PutIntoGroups(GroupCoding::kHalf, vectors.data(), count, dim, first, groups.data());
      const int begun = (first + 15) / 16 * 16, end = first + count;
      for (int v = 0; v < 48; ++v) {
        // A group begun is zeroed where no vector was put.
        const int rest = v >= end && v >= begun && v / 16 == (end - 1) / 16 ? 0 : 0xffff;
        for (int d = 0; d < dim; ++d) {
          uint16_t number;
          std::memcpy(&number, groups.data() + 2 * ((v / 16 * dim + d) * 16 + v % 16), 2);
          ASSERT_EQ(v >= first && v < end ? (v - first) * dim + d : rest, number) << v << " " << d;
        }
      }
    }
  }
}

TEST(PutIntoGroups, RoundsToInt8WhereTheLayoutSays) {
  const std::vector<float> numbers = {1, -127, 0, 63.5f, 0.49f, 0, 0, 0, 0, 0};
  std::vector<uint8_t> groups(GroupBytes(GroupCoding::kInt8, 5), 0xff);
  ASSERT_EQ(16u * 8 + 16 * 4, groups.size());
  PutIntoGroups(GroupCoding::kInt8, Halves(numbers).data(), 2, 5, 0, groups.data());
  const auto number = [&](int v, int d) { return groups[(d / 4 * 16 + v) * 4 + d % 4] - 128; };
  for (const auto& [d, wanted] : {std::pair{0, 1}, {1, -127}, {2, 0}, {3, 64}, {4, 0}, {5, 0}}) {
    EXPECT_EQ(wanted, number(0, d)) << d;  // 63.5: to even
    EXPECT_EQ(0, number(1, d)) << d;
  }
  float scales[16];
  std::memcpy(scales, groups.data() + 128, sizeof(scales));
  EXPECT_EQ(1.0f, scales[0]);
  for (int v = 1; v < 16; ++v) EXPECT_EQ(0.0f, scales[v]) << v;
}

TEST(CopyBetweenGroups, MovesAVectorAndNothingElse) {
  for (const GroupCoding coding : {GroupCoding::kHalf, GroupCoding::kInt8}) {
    for (const int dim : {3, 64}) {
      const std::vector<uint16_t> vectors =
          Halves(RandomNumbers(static_cast<size_t>(40) * dim, 31));
      std::vector<uint16_t> changed = vectors;
      std::copy_n(vectors.begin() + 37 * dim, dim, changed.begin() + 18 * dim);
      std::vector<uint8_t> groups = Grouped(vectors, dim, coding);
      CopyBetweenGroups(coding, dim, groups.data(), 37, groups.data(), 18);
      EXPECT_EQ(Grouped(changed, dim, coding), groups);
    }
  }
}

}  // namespace
}  // namespace eidetic::kernels
