#include "model/matrix_vector.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace eidetic::model {
namespace {

// Eight numbers at any address. Four of these at work hide the latency of additions; wider
// instruction sets gain nothing, since memory sets the pace.
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

// AddressSanitizer's check of every load would take ten times as long as the sums do: it looks at
// whole rows instead, in CheckRow.
#define EID_CHECKED_BY_ROWS __attribute__((no_sanitize("address", "alignment")))

EID_CHECKED_BY_ROWS const Eight& At(const float* address) {
  return *reinterpret_cast<const Eight*>(address);
}

void CheckRow([[maybe_unused]] const float* row, [[maybe_unused]] int64_t columns) {
#ifdef __SANITIZE_ADDRESS__
  const void* beyond = __asan_region_is_poisoned(const_cast<float*>(row),
                                                 static_cast<size_t>(columns) * sizeof *row);
  // Reading it reports it, and ends the program.
  if (beyond != nullptr) static_cast<void>(*static_cast<const volatile char*>(beyond));
#endif
}

EID_CHECKED_BY_ROWS float Dot(const float* a, const float* b, int64_t count) {
  Eight sums[4] = {};
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    for (int part = 0; part < 4; ++part) sums[part] += At(a + i + 8 * part) * At(b + i + 8 * part);
  }
  const Eight sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float total = ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

}  // namespace

void MatrixVectorRows(const float* matrix, int64_t columns, const float* x, int64_t first,
                      int64_t last, float alpha, float beta, float* y) {
  CheckRow(x, columns);
  for (int64_t row = first; row < last; ++row) {
    CheckRow(matrix + row * columns, columns);
    const float product = alpha * Dot(matrix + row * columns, x, columns);
    y[row] = beta == 0 ? product : beta * y[row] + product;
  }
}

}  // namespace eidetic::model
