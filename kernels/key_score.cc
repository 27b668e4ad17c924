#include "kernels/key_score.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/score_tile.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

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

  const float* thresholds() const { return thresholds_.data(); }

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

// A stretch of one run: at most kVectorsAtOnce vectors.
struct Stretch {
  const uint16_t* groups;
  const uint8_t* live;
  int64_t first_row;
  int count;
};

std::vector<Stretch> CutRuns(const VectorRun* runs, int run_count, int dim) {
  std::vector<Stretch> stretches;
  int64_t base = 0;
  for (int r = 0; r < run_count; ++r) {
    const VectorRun& run = runs[r];
    for (int64_t at = 0; at < run.count; at += kVectorsAtOnce) {
      stretches.push_back({run.groups + at * dim, run.live == nullptr ? nullptr : run.live + at,
                           base + at,
                           static_cast<int>(std::min<int64_t>(kVectorsAtOnce, run.count - at))});
    }
    base += run.count;
  }
  return stretches;
}

// A bit for each vector that may be found.
uint64_t FindableMask(const Stretch& stretch) {
  uint64_t mask = stretch.count < 64 ? (uint64_t{1} << stretch.count) - 1 : ~uint64_t{0};
  if (stretch.live == nullptr) return mask;
  for (int i = 0; i < stretch.count; ++i) {
    if (stretch.live[i] == 0) mask &= ~(uint64_t{1} << i);
  }
  return mask;
}

// One thread's share of a search.
class Searcher {
 public:
  Searcher(const TileFunctions& functions, const float* queries, int query_count, int dim, int k)
      : functions_(functions),
        queries_(queries),
        query_count_(query_count),
        dim_(dim),
        best_(query_count, k) {
    if (query_count > kQueriesAtOnce) widened_.resize(static_cast<size_t>(kVectorsAtOnce) * dim);
  }

  const BestOfQueries& best() const { return best_; }

  // Few queries widen the halves as they go; many queries share numbers widened once.
  void Search(const Stretch& stretch) {
    const int groups = (stretch.count + kGroupVectors - 1) / kGroupVectors;
    if (widened_.empty()) {
      SearchWith(functions_.score_half_groups, stretch.groups, groups, stretch);
      return;
    }
    HalfToFloat(stretch.groups, static_cast<size_t>(groups) * dim_ * kGroupVectors,
                widened_.data());
    SearchWith(functions_.score_float_groups, widened_.data(), groups, stretch);
  }

 private:
  template <typename Number>
  void SearchWith(ScoreGroups<Number> score, const Number* groups, int group_count,
                  const Stretch& stretch) {
    const uint64_t findable = FindableMask(stretch);
    float scores[kQueriesAtOnce * kVectorsAtOnce];
    uint64_t masks[kQueriesAtOnce];
    for (int q = 0; q < query_count_; q += kQueriesAtOnce) {
      const int count = std::min(kQueriesAtOnce, query_count_ - q);
      score(queries_ + static_cast<size_t>(q) * dim_, count, dim_, groups, group_count,
            best_.thresholds() + q, scores, masks);
      for (int i = 0; i < count; ++i) {
        for (uint64_t above = masks[i] & findable; above != 0; above &= above - 1) {
          const int vector = std::countr_zero(above);
          best_.Offer(q + i, scores[i * kVectorsAtOnce + vector], stretch.first_row + vector);
        }
      }
    }
  }

  const TileFunctions& functions_;
  const float* queries_;
  int query_count_;
  int dim_;
  BestOfQueries best_;
  std::vector<float> widened_;
};

// The k best of one query out of what the threads kept.
void Merge(const std::vector<Searcher>& parts, int query, int k, std::vector<Scored>* all,
           int64_t* rows, float* scores) {
  all->clear();
  for (const Searcher& part : parts) {
    const Scored* kept = part.best().kept(query);
    all->insert(all->end(), kept, kept + part.best().count(query));
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

#if defined(__x86_64__)
// Eight numbers of eight vectors into eight rows of a group (SSE2: every x86-64 has it). Loading an
// archive's index is mostly this.
void TransposeEight(const uint16_t* from, int dim, uint16_t* to) {
  __m128i a[8], b[8];
  for (int v = 0; v < 8; ++v) {
    a[v] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + static_cast<size_t>(v) * dim));
  }
  for (int v = 0; v < 4; ++v) {  // vectors v and v + 4, number by number
    b[2 * v] = _mm_unpacklo_epi16(a[v], a[v + 4]);
    b[2 * v + 1] = _mm_unpackhi_epi16(a[v], a[v + 4]);
  }
  for (int v = 0; v < 4; ++v) {
    a[2 * v] = _mm_unpacklo_epi16(b[v], b[v + 4]);
    a[2 * v + 1] = _mm_unpackhi_epi16(b[v], b[v + 4]);
  }
  for (int v = 0; v < 4; ++v) {
    b[2 * v] = _mm_unpacklo_epi16(a[v], a[v + 4]);
    b[2 * v + 1] = _mm_unpackhi_epi16(a[v], a[v + 4]);
  }
  for (int d = 0; d < 8; ++d) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + d * kGroupVectors), b[d]);
  }
}
#endif

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

void PutIntoGroups(const uint16_t* vectors, int64_t count, int dim, int64_t first,
                   uint16_t* groups) {
  for (int64_t i = 0; i < count;) {
    const int64_t at = first + i;
    uint16_t* to = groups + at / kGroupVectors * kGroupVectors * dim + at % kGroupVectors;
    const uint16_t* from = vectors + i * dim;
    int d = 0;
#if defined(__x86_64__)
    if (at % 8 == 0 && count - i >= 8) {
      for (; d + 8 <= dim; d += 8) TransposeEight(from + d, dim, to + d * kGroupVectors);
      for (; d < dim; ++d) {
        for (int v = 0; v < 8; ++v) to[d * kGroupVectors + v] = from[v * dim + d];
      }
      i += 8;
      continue;
    }
#endif
    for (; d < dim; ++d) to[d * kGroupVectors] = from[d];
    ++i;
  }
}

void TopKInnerProducts(const float* queries, int query_count, int dim, const VectorRun* runs,
                       int run_count, int k, int threads, int64_t* rows, float* scores,
                       InstructionSet set) {
  if (query_count <= 0 || k <= 0) return;
  const std::vector<Stretch> stretches = CutRuns(runs, run_count, dim);
  const int64_t count = static_cast<int64_t>(stretches.size());
  const double work = static_cast<double>(count) * kVectorsAtOnce * dim * query_count;
  const int worth = static_cast<int>(std::min(work / kWorkPerThread, 1024.0));
  const int used = std::max(1, std::min({threads, worth, static_cast<int>(count)}));
  // All memory is had before the threads start: an exception must not leave a parallel region.
  std::vector<Searcher> parts(used, Searcher(TileFunctionsFor(set), queries, query_count, dim, k));
#pragma omp parallel for num_threads(used) schedule(static, 1) if (used > 1)
  for (int part = 0; part < used; ++part) {
    for (int64_t s = count * part / used; s < count * (part + 1) / used; ++s) {
      parts[part].Search(stretches[s]);
    }
  }
  std::vector<Scored> all;
  all.reserve(static_cast<size_t>(used) * k);
  for (int q = 0; q < query_count; ++q) {
    Merge(parts, q, k, &all, rows + static_cast<size_t>(q) * k,
          scores + static_cast<size_t>(q) * k);
  }
}

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
