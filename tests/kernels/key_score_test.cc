#include "kernels/key_score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/score_tile.h"
#include "tests/kernels/test_numbers.h"

namespace eidetic::kernels {
namespace {

using testing::kNoScore;
using testing::RandomNumbers;
using testing::SupportedSets;

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

}  // namespace
}  // namespace eidetic::kernels
