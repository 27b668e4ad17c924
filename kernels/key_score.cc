#include "kernels/key_score.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/score_tile.h"

namespace eidetic::kernels {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();
// Multiply-adds that pay for waking one more thread (some 15 microseconds of work).
constexpr double kWorkPerThread = 500e3;

struct Scored {
  float score;
  int64_t row;
};

// Whether `a` ranks before `b`: a total order, so that the best k are one set whoever finds them.
bool Before(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// The best k of every query seen by one thread, as heaps whose root is the worst kept. Rows arrive
// in ascending order, so a score equal to the worst kept ranks after it: only a larger one enters.
class BestOfQueries {
 public:
  BestOfQueries(int query_count, int k)
      : k_(static_cast<size_t>(k)),
        kept_(static_cast<size_t>(query_count) * k_),
        counts_(query_count, 0),
        thresholds_(query_count, kNoScore) {}

  float threshold(int query) const { return thresholds_[query]; }

  void Offer(int query, float score, int64_t row) {
    Scored* heap = kept_.data() + static_cast<size_t>(query) * k_;
    size_t& count = counts_[query];
    if (count < k_) {
      heap[count++] = {score, row};
      std::push_heap(heap, heap + count, Before);
      if (count == k_) thresholds_[query] = heap[0].score;
      return;
    }
    if (!(score > heap[0].score)) return;
    std::pop_heap(heap, heap + k_, Before);
    heap[k_ - 1] = {score, row};
    std::push_heap(heap, heap + k_, Before);
    thresholds_[query] = heap[0].score;
  }

  const Scored* kept(int query) const { return kept_.data() + static_cast<size_t>(query) * k_; }
  size_t count(int query) const { return counts_[query]; }

 private:
  size_t k_;
  std::vector<Scored> kept_;
  std::vector<size_t> counts_;
  std::vector<float> thresholds_;
};

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

// A stretch of one run that fills at most one tile.
struct TileRange {
  const uint16_t* vectors;
  const uint8_t* live;
  int64_t first_row;
  int rows;
};

std::vector<TileRange> CutIntoTiles(const VectorRun* runs, int run_count, int dim, int tile_rows) {
  std::vector<TileRange> tiles;
  int64_t base = 0;
  for (int r = 0; r < run_count; ++r) {
    for (int64_t at = 0; at < runs[r].count; at += tile_rows) {
      const int rows = static_cast<int>(std::min<int64_t>(tile_rows, runs[r].count - at));
      tiles.push_back({runs[r].vectors + at * dim,
                       runs[r].live == nullptr ? nullptr : runs[r].live + at, base + at, rows});
    }
    base += runs[r].count;
  }
  return tiles;
}

// A bit for each live row of a tile.
uint64_t LiveMask(const uint8_t* live, int rows) {
  if (live == nullptr) return ~uint64_t{0};
  uint64_t mask = 0;
  for (int row = 0; row < rows; ++row) mask |= static_cast<uint64_t>(live[row] != 0) << row;
  return mask;
}

void SearchTile(const TileFunctions& functions, const TileRange& range,
                const PaddedQueries& queries, int query_count, int dim, int width, float* tile,
                BestOfQueries* best) {
  functions.load_half(range.vectors, range.rows, dim, tile);
  const uint64_t live = LiveMask(range.live, range.rows);
  float scores[kTileMaxRows];
  for (int q = 0; q < query_count; ++q) {
    uint64_t above =
        functions.score(queries.row(q), tile, range.rows, width, best->threshold(q), scores) & live;
    while (above != 0) {
      const int row = std::countr_zero(above);
      above &= above - 1;
      best->Offer(q, scores[row], range.first_row + row);
    }
  }
}

// The k best of one query out of what the threads kept.
void Merge(const std::vector<BestOfQueries>& parts, int query, int k, std::vector<Scored>* all,
           int64_t* rows, float* scores) {
  all->clear();
  for (const BestOfQueries& part : parts) {
    const Scored* kept = part.kept(query);
    all->insert(all->end(), kept, kept + part.count(query));
  }
  std::sort(all->begin(), all->end(), Before);
  for (int i = 0; i < k; ++i) {
    const bool there = static_cast<size_t>(i) < all->size();
    rows[i] = there ? (*all)[i].row : -1;
    scores[i] = there ? (*all)[i].score : kNoScore;
  }
}

// Widens rows token, token + 1, ... of one kv head of a payload into a tile (int8: without scales).
void LoadPayloadRows(const TileFunctions& functions, Codec codec, const uint8_t* payload,
                     int first_token, int rows, int kv_heads, int dim, int kv_head, float* tile) {
  const size_t number = codec == Codec::kFp16 ? sizeof(uint16_t) : sizeof(int8_t);
  const size_t stride = number * kv_heads * dim;
  const uint8_t* from = payload + stride * first_token + number * kv_head * dim;
  if (codec == Codec::kFp16) {
    functions.load_half_strided(from, stride, rows, dim, tile);
  } else {
    functions.load_int8_strided(from, stride, rows, dim, tile);
  }
}

// What to multiply each row's inner products with: the attention scale, and int8's own.
void RowFactors(Codec codec, const uint8_t* payload, int tokens, int first_token, int rows,
                int kv_heads, int dim, int kv_head, float scale, float* factors) {
  const uint8_t* scales = payload + static_cast<size_t>(tokens) * kv_heads * dim;
  for (int row = 0; row < rows; ++row) {
    factors[row] = scale;
    if (codec == Codec::kInt8) {
      const size_t at = static_cast<size_t>(first_token + row) * kv_heads + kv_head;
      uint16_t half;
      std::memcpy(&half, scales + sizeof(half) * at, sizeof(half));
      factors[row] *= HalfToFloat(half);
    }
  }
}

// Calls `visit(query, first_token, count, scores)` for each query and each tile of one kv head's
// rows: tiles outside, so that each is widened once for all queries.
template <typename Visit>
void VisitPayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, InstructionSet set,
                  Visit visit) {
  const TileFunctions& functions = TileFunctionsFor(set);
  const int width = TileWidth(dim);
  const int tile_rows = TileRows(width);
  const PaddedQueries padded(queries, query_count, dim, width);
  TileBuffer tile(tile_rows, width);
  float factors[kTileMaxRows];
  float scores[kTileMaxRows];
  for (int first = 0; first < tokens; first += tile_rows) {
    const int rows = std::min(tile_rows, tokens - first);
    LoadPayloadRows(functions, codec, payload, first, rows, kv_heads, dim, kv_head, tile.data());
    RowFactors(codec, payload, tokens, first, rows, kv_heads, dim, kv_head, scale, factors);
    for (int q = 0; q < query_count; ++q) {
      functions.score(padded.row(q), tile.data(), rows, width, kNoScore, scores);
      for (int row = 0; row < rows; ++row) scores[row] *= factors[row];
      visit(q, first, rows, scores);
    }
  }
}

}  // namespace

void TopKInnerProducts(const float* queries, int query_count, int dim, const VectorRun* runs,
                       int run_count, int k, int threads, int64_t* rows, float* scores,
                       InstructionSet set) {
  if (query_count <= 0 || k <= 0) return;
  const TileFunctions& functions = TileFunctionsFor(set);
  const int width = TileWidth(dim);
  const int tile_rows = TileRows(width);
  const PaddedQueries padded(queries, query_count, dim, width);
  const std::vector<TileRange> tiles = CutIntoTiles(runs, run_count, dim, tile_rows);
  const int64_t tile_count = static_cast<int64_t>(tiles.size());

  const double work = static_cast<double>(tile_count) * tile_rows * width * query_count;
  const int worth = static_cast<int>(std::min(work / kWorkPerThread, 1024.0));
  const int used = std::max(1, std::min({threads, worth, static_cast<int>(tile_count)}));
  // All memory is had before the threads start: an exception must not leave a parallel region.
  std::vector<BestOfQueries> best(used, BestOfQueries(query_count, k));
  std::vector<float> scratch(static_cast<size_t>(used) * tile_rows * width);
#pragma omp parallel for num_threads(used) schedule(static, 1) if (used > 1)
  for (int part = 0; part < used; ++part) {
    float* tile = scratch.data() + static_cast<size_t>(part) * tile_rows * width;
    for (int64_t t = tile_count * part / used; t < tile_count * (part + 1) / used; ++t) {
      SearchTile(functions, tiles[t], padded, query_count, dim, width, tile, &best[part]);
    }
  }
  std::vector<Scored> all;
  all.reserve(static_cast<size_t>(used) * k);
  for (int q = 0; q < query_count; ++q) {
    Merge(best, q, k, &all, rows + static_cast<size_t>(q) * k, scores + static_cast<size_t>(q) * k);
  }
}

void TopKInnerProducts(const float* queries, int query_count, int dim, const uint16_t* vectors,
                       int64_t vector_count, const uint8_t* live, int k, int threads, int64_t* rows,
                       float* scores) {
  const VectorRun run = {vectors, live, vector_count};
  TopKInnerProducts(queries, query_count, dim, &run, 1, k, threads, rows, scores);
}

void ScorePayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, float* scores,
                  InstructionSet set) {
  VisitPayload(queries, query_count, codec, payload, tokens, kv_heads, dim, kv_head, scale, set,
               [&](int query, int first, int rows, const float* part) {
                 std::copy_n(part, rows, scores + static_cast<size_t>(query) * tokens + first);
               });
}

void PayloadSoftmax(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                    int tokens, int kv_heads, int dim, int kv_head, float scale, float* maxima,
                    float* sums, InstructionSet set) {
  const auto sum_exp = TileFunctionsFor(set).sum_exp;
  VisitPayload(queries, query_count, codec, payload, tokens, kv_heads, dim, kv_head, scale, set,
               [&](int query, int first, int rows, const float* part) {
                 const float largest = *std::max_element(part, part + rows);
                 const float sum = sum_exp(part, rows, largest);
                 if (first == 0) {
                   maxima[query] = largest;
                   sums[query] = sum;
                   return;
                 }
                 const float top = std::max(largest, maxima[query]);
                 sums[query] =
                     sums[query] * std::exp(maxima[query] - top) + sum * std::exp(largest - top);
                 maxima[query] = top;
               });
}

}  // namespace eidetic::kernels
