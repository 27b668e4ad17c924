// A matrix of fp32 numbers as a sum of few products of a column and a row, roughly. A recurrent
// state is a decaying sum of such products, one a token, so that the last few tell much of it.
//
// Products are of whole numbers: what terms sum up to is the same to the bit on every machine.
#ifndef EIDETIC_MODEL_MATRIX_TERMS_H_
#define EIDETIC_MODEL_MATRIX_TERMS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace eidetic::model {

// scale * rows[i] * columns[j] is what it adds to the number in row i, column j.
struct MatrixTerm {
  float scale = 0;  // normal
  std::vector<int8_t> rows, columns;
};

// Terms of the matrix `rest` [rows, columns], at most `most`: as long as another one saves bits,
// none if any number is not finite. `rest` becomes what is left without them, roughly.
std::vector<MatrixTerm> TermsOf(size_t rows, size_t columns, size_t most, std::vector<float>* rest);

// What the terms sum up to, as bits of fp32 numbers [rows, columns]: 0 where it is not normal.
void SumTerms(const std::vector<MatrixTerm>& terms, size_t rows, size_t columns,
              std::vector<uint32_t>* sums);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MATRIX_TERMS_H_
