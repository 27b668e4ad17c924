#include "model/few_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace eidetic::model {
namespace {

std::vector<float> Drawn(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> draw(-1, 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = draw(random);
  return values;
}

class FewRows : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasFewRowsProduct()) GTEST_SKIP() << "this processor has no AVX2";
  }
};

TEST_F(FewRows, EqualTheirDefinitionAtEverySize) {
  for (const int64_t columns : {1, 7, 16, 33, 100, 576}) {
    for (int64_t count = 1; count <= kMostFewRows; ++count) {
      const int64_t rows = 11, first = 1, last = 10;
      const std::vector<float> matrix = Drawn(rows * columns, 1), x = Drawn(count * columns, 2);
      for (const float beta : {2.0f, 0.0f}) {
        std::vector<float> y = Drawn(count * rows, 3);
        const std::vector<float> before = y;
        if (beta == 0) y[1] = NAN;  // it is not read
        FewRowsProduct(matrix.data(), rows, columns, x.data(), count, first, last, 0.5f, beta,
                       y.data());
        for (int64_t i = 0; i < count * rows; ++i) {
          const int64_t row = i % rows;
          if (row < first || row >= last) {
            ASSERT_EQ(y[i], before[i]) << "row " << row << " is another's to write";
            continue;
          }
          double sum = 0;
          for (int64_t at = 0; at < columns; ++at) {
            sum += static_cast<double>(matrix[row * columns + at]) * x[i / rows * columns + at];
          }
          const double expected = 0.5 * sum + (beta == 0 ? 0 : 2.0 * before[i]);
          ASSERT_NEAR(y[i], expected, 1e-6 * std::sqrt(columns))
              << columns << " columns, number " << i << " of " << count << " rows";
        }
      }
    }
  }
}

// So neither threads nor the length of a segment change what a token gives.
TEST_F(FewRows, ARowDependsOnNothingBesideIt) {
  const int64_t rows = 37, columns = 83, count = kMostFewRows;
  const std::vector<float> matrix = Drawn(rows * columns, 4), x = Drawn(count * columns, 5);
  std::vector<float> all(static_cast<size_t>(count * rows)), one(all);
  FewRowsProduct(matrix.data(), rows, columns, x.data(), count, 0, rows, 1, 0, all.data());
  for (int64_t few = 1; few < count; ++few) {
    FewRowsProduct(matrix.data(), rows, columns, x.data(), few, 0, 5, 1, 0, one.data());
    FewRowsProduct(matrix.data(), rows, columns, x.data(), few, 5, rows, 1, 0, one.data());
    for (int64_t i = 0; i < few * rows; ++i) ASSERT_EQ(one[i], all[i]) << few << " rows, " << i;
  }
}

}  // namespace
}  // namespace eidetic::model
