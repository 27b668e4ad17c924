#include "kernels/key_score.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/score_tile.h"

namespace eidetic::kernels {
namespace {

// Queries whose rows are padded to the tile's width, so that the inner loop has no remainder; the
// caller's own where they fit.
class PaddedQueries {
 public:
  PaddedQueries(const float* queries, int query_count, int dim, int width)
      : queries_(queries), width_(static_cast<size_t>(width)) {
    if (width == dim) return;
    padded_.assign(static_cast<size_t>(query_count) * width_, 0.0f);
    for (int q = 0; q < query_count; ++q) {
      std::memcpy(padded_.data() + static_cast<size_t>(q) * width_,
                  queries + static_cast<size_t>(q) * dim, sizeof(float) * dim);
    }
    queries_ = padded_.data();
  }
  const float* row(int query) const { return queries_ + static_cast<size_t>(query) * width_; }

 private:
  const float* queries_;
  size_t width_;
  std::vector<float> padded_;
};

// Room for one tile: on the stack, untouched, for every usual head size.
class TileBuffer {
 public:
  TileBuffer(int rows, int width) {
    const size_t numbers = static_cast<size_t>(rows) * width;
    if (numbers > kOnStack) large_.resize(numbers);
  }
  float* data() { return large_.empty() ? small_ : large_.data(); }

 private:
  static constexpr size_t kOnStack = 8192;
  alignas(64) float small_[kOnStack];
  std::vector<float> large_;
};

// Widens rows token, token + 1, ... of one kv head of a payload into a tile (int8: without scales).
void LoadPayloadRows(const TileFunctions& functions, Codec codec, const uint8_t* payload,
                     int first_token, int rows, int kv_heads, int dim, int kv_head, float* tile) {
  const size_t number = codec == Codec::kFp16 ? sizeof(uint16_t) : sizeof(int8_t);
  const size_t stride = number * kv_heads * dim;
  const uint8_t* from = payload + stride * first_token + number * kv_head * dim;
  if (codec == Codec::kFp16) {
    functions.load_half(from, stride, rows, dim, tile);
  } else {
    functions.load_int8(from, stride, rows, dim, tile);
  }
}

// What to multiply each row's inner products with: the attention scale, and int8's own.
void RowFactors(Codec codec, const uint8_t* payload, int tokens, int first_token, int rows,
                int kv_heads, int dim, int kv_head, float scale, float* factors) {
  std::fill_n(factors, rows, scale);
  if (codec != Codec::kInt8) return;
  uint16_t halves[kTileMaxRows];
  const uint8_t* scales = payload + static_cast<size_t>(tokens) * kv_heads * dim;
  for (int row = 0; row < rows; ++row) {
    const size_t at = static_cast<size_t>(first_token + row) * kv_heads + kv_head;
    std::memcpy(&halves[row], scales + sizeof(uint16_t) * at, sizeof(uint16_t));
  }
  float widened[kTileMaxRows];
  HalfToFloat(halves, static_cast<size_t>(rows), widened);
  for (int row = 0; row < rows; ++row) factors[row] *= widened[row];
}

// Calls `visit(query, first_token, count, scores)` for each query and each tile of one kv head's
// rows: tiles outside, so that each is widened once for all queries. Few queries take int8 rows as
// they lie.
template <typename Visit>
void VisitPayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, InstructionSet set,
                  const uint8_t* next, Visit visit) {
  const TileFunctions& functions = TileFunctionsFor(set);
  const int width = TileWidth(dim);
  const int tile_rows = TileRows(width);
  const PaddedQueries padded(queries, query_count, dim, width);
  TileBuffer tile(tile_rows, width);
  float factors[kTileMaxRows] = {};
  float scores[kQueriesAtOnce * kTileMaxRows];
  const size_t stride = static_cast<size_t>(kv_heads) * dim;
  // Through integers: the two payloads are apart.
  const auto ahead = next == nullptr ? ptrdiff_t{0}
                                     : static_cast<ptrdiff_t>(reinterpret_cast<uintptr_t>(next) -
                                                              reinterpret_cast<uintptr_t>(payload));
  for (int first = 0; first < tokens; first += tile_rows) {
    const int rows = std::min(tile_rows, tokens - first);
    const bool as_they_lie = functions.score_int8 != nullptr && codec == Codec::kInt8 &&
                             query_count <= kQueriesAtOnce && width == dim &&
                             rows % kTileLanes == 0;
    if (!as_they_lie) {
      LoadPayloadRows(functions, codec, payload, first, rows, kv_heads, dim, kv_head, tile.data());
    }
    RowFactors(codec, payload, tokens, first, rows, kv_heads, dim, kv_head, scale, factors);
    for (int q = 0; q < query_count; q += kQueriesAtOnce) {
      const int count = std::min(kQueriesAtOnce, query_count - q);
      if (as_they_lie) {
        functions.score_int8(padded.row(q), count,
                             payload + stride * first + static_cast<size_t>(kv_head) * dim, stride,
                             rows, dim, factors, ahead, scores);
      } else {
        functions.score_tile(padded.row(q), count, tile.data(), rows, width, factors, scores);
      }
      for (int i = 0; i < count; ++i) visit(q + i, first, rows, scores + i * kTileMaxRows);
    }
  }
}

}  // namespace

void ScorePayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, float* scores,
                  InstructionSet set) {
  VisitPayload(queries, query_count, codec, payload, tokens, kv_heads, dim, kv_head, scale, set,
               nullptr, [&](int query, int first, int rows, const float* part) {
                 std::copy_n(part, rows, scores + static_cast<size_t>(query) * tokens + first);
               });
}

void PayloadSoftmax(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                    int tokens, int kv_heads, int dim, int kv_head, float scale, float* maxima,
                    float* sums, InstructionSet set, const uint8_t* next) {
  const auto softmax_part = TileFunctionsFor(set).softmax_part;
  VisitPayload(queries, query_count, codec, payload, tokens, kv_heads, dim, kv_head, scale, set,
               next, [&](int query, int first, int rows, const float* part) {
                 if (first == 0) {
                   softmax_part(part, rows, &maxima[query], &sums[query]);
                   return;
                 }
                 float largest, sum;
                 softmax_part(part, rows, &largest, &sum);
                 const float top = std::max(largest, maxima[query]);
                 sums[query] =
                     sums[query] * std::exp(maxima[query] - top) + sum * std::exp(largest - top);
                 maxima[query] = top;
               });
}

}  // namespace eidetic::kernels
