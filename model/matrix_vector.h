// The product of a matrix and one vector on the CPU: what decoding one token spends its time on.
// BLAS libraries read the weights at half the memory's speed on some processors; this reads them
// as fast as they come.
#ifndef EIDETIC_MODEL_MATRIX_VECTOR_H_
#define EIDETIC_MODEL_MATRIX_VECTOR_H_

#include <cstdint>

namespace eidetic::model {

// y[r] = beta * y[r] + alpha * (row r of `matrix` . x) for rows first .. last - 1; `matrix`
// [rows, columns]. beta 0: y is only written. Each row is summed in a fixed order, so sharing rows
// among threads changes no bit (rule 9).
void MatrixVectorRows(const float* matrix, int64_t columns, const float* x, int64_t first,
                      int64_t last, float alpha, float beta, float* y);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MATRIX_VECTOR_H_
