#include "model/matrix_vector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace eidetic::model {
namespace {

std::vector<float> Random(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> draw(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = draw(random);
  return values;
}

TEST(MatrixVectorRows, EqualTheirDefinitionAtEveryLength) {
  for (const int columns : {1, 7, 31, 32, 33, 64, 100, 576, 1537}) {
    const int rows = 5;
    const std::vector<float> matrix = Random(static_cast<size_t>(rows) * columns, 1);
    const std::vector<float> x = Random(columns, 2), before = Random(rows, 3);
    std::vector<float> y = before;
    y[4] = NAN;  // beta 0 does not read it
    MatrixVectorRows(matrix.data(), columns, x.data(), 0, 4, 0.5f, 2.0f, y.data());
    MatrixVectorRows(matrix.data(), columns, x.data(), 4, 5, 0.5f, 0.0f, y.data());
    for (int row = 0; row < rows; ++row) {
      double sum = 0;
      for (int i = 0; i < columns; ++i)
        sum += static_cast<double>(matrix[row * columns + i]) * x[i];
      const double expected = 0.5 * sum + (row == 4 ? 0 : 2.0 * before[row]);
      EXPECT_NEAR(y[row], expected, 1e-6 * std::sqrt(columns))
          << columns << " columns, row " << row;
    }
  }
}

TEST(MatrixVectorRows, GiveTheSameBitsHoweverTheyAreShared) {
  const int rows = 40, columns = 577;  // odd, so that rows begin at every alignment
  const std::vector<float> matrix = Random(rows * columns, 4), x = Random(columns, 5);
  std::vector<float> whole(rows), parts(rows);
  MatrixVectorRows(matrix.data(), columns, x.data(), 0, rows, 1, 0, whole.data());
  for (int row = 0; row < rows; row += 7) {
    MatrixVectorRows(matrix.data(), columns, x.data(), row, std::min(row + 7, rows), 1, 0,
                     parts.data());
  }
  EXPECT_EQ(parts, whole);
}

#ifdef __SANITIZE_ADDRESS__
TEST(MatrixVectorRowsDeathTest, AreCheckedToTheLastNumber) {
  const int rows = 3, columns = 40;
  const std::vector<float> matrix = Random(rows * columns, 6), x = Random(columns, 7);
  const std::vector<float> short_matrix(matrix.begin(), matrix.end() - 1);
  const std::vector<float> short_x(x.begin(), x.end() - 1);
  std::vector<float> y(rows);
  EXPECT_DEATH(MatrixVectorRows(short_matrix.data(), columns, x.data(), 0, rows, 1, 0, y.data()),
               "heap-buffer-overflow");
  EXPECT_DEATH(MatrixVectorRows(matrix.data(), columns, short_x.data(), 0, rows, 1, 0, y.data()),
               "heap-buffer-overflow");
}
#endif

}  // namespace
}  // namespace eidetic::model
