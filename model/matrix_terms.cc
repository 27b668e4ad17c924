#include "model/matrix_terms.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace eidetic::model {
namespace {

constexpr float kLargest = std::numeric_limits<int8_t>::max();
constexpr float kLeastNormal = std::numeric_limits<float>::min();
constexpr uint32_t kMagnitudeMask = 0x7fffffff;

// One sum would wait for its own last addition.
using Sums = std::array<float, 16>;

float AllOf(const Sums& sums) {
  float all = 0;
  for (const float one : sums) all += one;
  return all;
}

float SumOfMagnitudes(const std::vector<float>& numbers) {
  Sums sums{};
  for (size_t i = 0; i < numbers.size(); ++i) sums[i % sums.size()] += std::fabs(numbers[i]);
  return AllOf(sums);
}

size_t LargestAt(const std::vector<float>& numbers, size_t columns) {
  size_t at = 0;
  uint32_t largest = 0;
  for (size_t row = 0; row < numbers.size(); row += columns) {
    uint32_t of_row = 0;
    for (size_t i = row; i < row + columns; ++i) {
      const uint32_t one = std::bit_cast<uint32_t>(numbers[i]) & kMagnitudeMask;
      of_row = of_row < one ? one : of_row;
    }
    if (of_row <= largest) continue;
    largest = of_row;
    at = row;
  }
  const auto is_largest = [&](float one) {
    return (std::bit_cast<uint32_t>(one) & kMagnitudeMask) == largest;
  };
  const auto begin = numbers.begin() + static_cast<std::ptrdiff_t>(at);
  return static_cast<size_t>(std::find_if(begin, numbers.end(), is_largest) - numbers.begin());
}

float ScaleOf(float pivot) {
  return pivot / (kLargest * kLargest);
}

// The term that takes the largest number's row and column away.
MatrixTerm TermAt(const std::vector<float>& rest, size_t at, size_t columns) {
  MatrixTerm term;
  const float pivot = rest[at];
  term.scale = ScaleOf(pivot);
  const auto part = [&](float one) {
    return static_cast<int8_t>(std::lrint(one / pivot * kLargest));  // at most 1 * kLargest
  };
  for (size_t i = at % columns; i < rest.size(); i += columns) term.rows.push_back(part(rest[i]));
  const size_t row = at - at % columns;
  for (size_t i = row; i < row + columns; ++i) term.columns.push_back(part(rest[i]));
  return term;
}

// `from` without a term; the sum of its magnitudes.
float Subtract(const MatrixTerm& term, const std::vector<float>& from, std::vector<float>* rest) {
  const size_t columns = term.columns.size();
  const std::vector<float> line(term.columns.begin(), term.columns.end());
  Sums sums{};
  for (size_t row = 0; row < term.rows.size(); ++row) {
    const float factor = term.scale * term.rows[row];
    const float* const in = from.data() + row * columns;
    float* const out = rest->data() + row * columns;
    size_t i = 0;
    for (; i + sums.size() <= columns; i += sums.size()) {
      for (size_t lane = 0; lane < sums.size(); ++lane) {
        const float less = in[i + lane] - factor * line[i + lane];
        sums[lane] += std::fabs(less);
        out[i + lane] = less;
      }
    }
    for (; i < columns; ++i) {
      out[i] = in[i] - factor * line[i];
      sums[0] += std::fabs(out[i]);
    }
  }
  return AllOf(sums);
}

}  // namespace

std::vector<MatrixTerm> TermsOf(size_t rows, size_t columns, size_t most,
                                std::vector<float>* rest) {
  std::vector<MatrixTerm> terms;
  // A term's own bits for each number. Half of what the sizes promise is demanded: the first terms
  // take what makes the next ones fit.
  const double price =
      (8.0 * static_cast<double>(rows + columns) + 32) / static_cast<double>(rows * columns) / 2;
  float before = most > 0 ? SumOfMagnitudes(*rest) : 0;
  if (!std::isfinite(before)) return terms;
  std::vector<float> less(rest->size());
  while (terms.size() < most) {
    const size_t at = LargestAt(*rest, columns);
    if (!(std::fabs(ScaleOf((*rest)[at])) >= kLeastNormal)) break;
    MatrixTerm term = TermAt(*rest, at, columns);
    const float after = Subtract(term, *rest, &less);
    if (!(std::log2(before / after) >= price)) break;
    before = after;
    rest->swap(less);
    terms.push_back(std::move(term));
  }
  return terms;
}

void SumTerms(const std::vector<MatrixTerm>& terms, size_t rows, size_t columns,
              std::vector<uint32_t>* sums) {
  sums->resize(rows * columns);
  std::vector<double> line(columns);
  for (size_t row = 0; row < rows; ++row) {
    std::fill(line.begin(), line.end(), 0.0);
    for (const MatrixTerm& term : terms) {
      // 24 bits of the scale and 14 of the two others: exact in 53, whether added apart or not.
      const double factor = double{term.scale} * term.rows[row];
      for (size_t i = 0; i < columns; ++i) line[i] += factor * term.columns[i];
    }
    uint32_t* const out = sums->data() + row * columns;
    for (size_t i = 0; i < columns; ++i) {
      // What a processor makes of numbers below depends on how it was set.
      const bool normal = std::fabs(line[i]) >= double{kLeastNormal};
      out[i] = normal ? std::bit_cast<uint32_t>(static_cast<float>(line[i])) : 0;
    }
  }
}

}  // namespace eidetic::model
