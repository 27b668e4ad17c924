#include "model/few_rows.h"

#include <algorithm>
#include <cstring>

namespace eidetic::model {
namespace {

#if defined(__x86_64__)

// Rows of the matrix, and at most so many of x, whose sums are in registers at once.
constexpr int kMatrixRows = 4, kWideRows = 6, kNarrowRows = 3;
constexpr int64_t kCacheLine = 64;

typedef float Four __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));
typedef float Sixteen __attribute__((vector_size(64)));

// AddressSanitizer's check of every load would take ten times as long as the sums do.
#define EID_INNER __attribute__((always_inline, no_sanitize("address"))) inline

EID_INNER float SumOf(const Four& x) {
  return (x[0] + x[2]) + (x[1] + x[3]);
}

template <typename Half, typename Vector>
EID_INNER void Fold(const Vector& x, Half* half) {
  Half high;
  std::memcpy(half, &x, sizeof(*half));
  std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof(high), sizeof(high));
  *half += high;
}

EID_INNER float SumOf(const Eight& x) {
  Four half;
  Fold(x, &half);
  return SumOf(half);
}

EID_INNER float SumOf(const Sixteen& x) {
  Eight half;
  Fold(x, &half);
  return SumOf(half);
}

struct Product {
  const float* matrix;
  int64_t rows, columns;
  const float* x;
  int64_t count;
  float alpha, beta;
  float* y;
};

// Rows r .. r + R - 1 of the matrix with rows i .. i + N - 1 of x.
template <typename Vector, int R, int N>
EID_INNER void Tile(const Product& of, int64_t r, int64_t i) {
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  const int64_t columns = of.columns;
  const float* const matrix = of.matrix + r * columns;
  const float* const x = of.x + i * columns;
  Vector sums[R][N] = {};
  int64_t at = 0;
  for (; at + kLanes <= columns; at += kLanes) {
    Vector inputs[N];
    for (int n = 0; n < N; ++n) std::memcpy(&inputs[n], x + n * columns + at, sizeof(Vector));
    for (int row = 0; row < R; ++row) {
      Vector weights;
      std::memcpy(&weights, matrix + row * columns + at, sizeof(Vector));
      for (int n = 0; n < N; ++n) sums[row][n] += weights * inputs[n];
    }
  }
  for (int row = 0; row < R; ++row) {
    for (int n = 0; n < N; ++n) {
      float sum = SumOf(sums[row][n]);
      for (int64_t rest = at; rest < columns; ++rest) {
        sum += matrix[row * columns + rest] * x[n * columns + rest];
      }
      float& y = of.y[(i + n) * of.rows + r + row];
      y = of.beta == 0 ? of.alpha * sum : of.beta * y + of.alpha * sum;
    }
  }
}

// Tile for `n` rows of x, at most N.
template <typename Vector, int R, int N>
EID_INNER void TileOf(int64_t n, const Product& of, int64_t r, int64_t i) {
  if constexpr (N == 1) {
    Tile<Vector, R, 1>(of, r, i);
  } else if (n == N) {
    Tile<Vector, R, N>(of, r, i);
  } else {
    TileOf<Vector, R, N - 1>(n, of, r, i);
  }
}

// The next rows of the matrix come from memory while these are worked on.
template <typename Vector, int R, int N>
EID_INNER void MatrixRows(const Product& of, int64_t r) {
  const int64_t tiles = (of.count + N - 1) / N;
  const auto* const next = reinterpret_cast<const char*>(of.matrix + (r + R) * of.columns);
  const int64_t bytes = r + 2 * R <= of.rows ? R * of.columns * int64_t{sizeof(float)} : 0;
  for (int64_t i = 0, tile = 0; tile < tiles; ++tile) {
    for (int64_t at = bytes * tile / tiles; at < bytes * (tile + 1) / tiles; at += kCacheLine) {
      __builtin_prefetch(next + at);
    }
    const int64_t n = (of.count - i + tiles - tile - 1) / (tiles - tile);  // of about equal size
    TileOf<Vector, R, N>(n, of, r, i);
    i += n;
  }
}

template <typename Vector, int N>
EID_INNER void AllRows(const Product& of, int64_t first, int64_t last) {
  int64_t r = first;
  for (; r + kMatrixRows <= last; r += kMatrixRows) MatrixRows<Vector, kMatrixRows, N>(of, r);
  for (; r < last; ++r) MatrixRows<Vector, 1, N>(of, r);
}

__attribute__((target("avx512f"), no_sanitize("address"))) void AllRowsWide(const Product& of,
                                                                            int64_t first,
                                                                            int64_t last) {
  AllRows<Sixteen, kWideRows>(of, first, last);
}

__attribute__((target("avx2,fma"), no_sanitize("address"))) void AllRowsNarrow(const Product& of,
                                                                               int64_t first,
                                                                               int64_t last) {
  AllRows<Eight, kNarrowRows>(of, first, last);
}

bool IsWide() {
  return __builtin_cpu_supports("avx512f") != 0;
}

bool IsNarrow() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

#endif

}  // namespace

#if defined(__x86_64__)

bool HasFewRowsProduct() {
  return IsWide() || IsNarrow();
}

void FewRowsProduct(const float* matrix, int64_t rows, int64_t columns, const float* x,
                    int64_t count, int64_t first, int64_t last, float alpha, float beta, float* y) {
  const Product of = {matrix, rows, columns, x, count, alpha, beta, y};
  if (IsWide()) {
    AllRowsWide(of, first, last);
  } else {
    AllRowsNarrow(of, first, last);
  }
}

#else

bool HasFewRowsProduct() {
  return false;
}

void FewRowsProduct(const float*, int64_t, int64_t, const float*, int64_t, int64_t, int64_t, float,
                    float, float*) {}

#endif

}  // namespace eidetic::model
