// The product of a few rows and a matrix on the CPU: what reading a question or a short message
// spends its time on. BLAS libraries copy a matrix into an order of their own for each product,
// which for a few rows takes longer than the product; this reads it once, as it lies.
#ifndef EIDETIC_MODEL_FEW_ROWS_H_
#define EIDETIC_MODEL_FEW_ROWS_H_

#include <cstdint>

namespace eidetic::model {

// Of more rows a BLAS library is faster.
inline constexpr int64_t kMostFewRows = 32;

// Whether this processor has what FewRowsProduct needs: AVX-512, or AVX2 and FMA.
bool HasFewRowsProduct();

// y[i, r] = beta * y[i, r] + alpha * (row r of `matrix` . row i of `x`) for rows r of the matrix
// first .. last - 1 and all `count` rows of x; matrix [rows, columns], x [count, columns],
// y [count, rows]. beta 0: y is only written. Each number is summed in one order, whatever stands
// beside it and however rows are shared among threads (rule 9).
void FewRowsProduct(const float* matrix, int64_t rows, int64_t columns, const float* x,
                    int64_t count, int64_t first, int64_t last, float alpha, float beta, float* y);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_FEW_ROWS_H_
