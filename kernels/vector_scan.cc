#include "kernels/vector_scan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/block_codec.h"
#include "kernels/score_tile.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace eidetic::kernels {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();
// Multiply-adds that pay for waking one more thread (some 15 microseconds of work).
constexpr double kWorkPerThread = 500e3;

constexpr int kInt8Offset = 128;
constexpr float kInt8Largest = 127;

// Groups of four numbers that a vector of int8 takes.
int Quads(int dim) {
  return (dim + 3) / 4;
}

// What numbers of at most `largest` are multiplied with to lie within +-127. A largest so small
// that its inverse overflows counts as nothing.
float InverseScale(float largest) {
  const float inverse = kInt8Largest / largest;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

// The nearest whole number of |x| < 2^22, ties to even. Adding 1.5 2^23 leaves no bits behind the
// point, and compilers turn it into vector code, unlike lrint.
int32_t Round(float x) {
  return std::bit_cast<int32_t>(x + 12582912.0f) - std::bit_cast<int32_t>(12582912.0f);
}

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

// A stretch of one run: at most kVectorsAtOnce vectors.
struct Stretch {
  const uint8_t* groups;
  const uint8_t* live;
  int64_t first_row;
  int count;
};

std::vector<Stretch> CutRuns(const VectorRun* runs, int run_count, size_t group_bytes) {
  std::vector<Stretch> stretches;
  int64_t base = 0;
  for (int r = 0; r < run_count; ++r) {
    const VectorRun& run = runs[r];
    for (int64_t at = 0; at < run.count; at += kVectorsAtOnce) {
      stretches.push_back({run.groups + group_bytes * static_cast<size_t>(at / kGroupVectors),
                           run.live == nullptr ? nullptr : run.live + at, base + at,
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

// Queries rounded to int8, as a scan of int8 groups takes them.
class RoundedQueries {
 public:
  RoundedQueries(const float* queries, int query_count, int dim) {
    const size_t padded = static_cast<size_t>(Quads(dim)) * 4;
    numbers_.assign(static_cast<size_t>(query_count) * padded, 0);
    rounded_.reserve(static_cast<size_t>(query_count));
    for (int q = 0; q < query_count; ++q) {
      int8_t* numbers = numbers_.data() + static_cast<size_t>(q) * padded;
      const float* query = queries + static_cast<size_t>(q) * dim;
      float largest = 0;
      bool finite = true;
      for (int d = 0; d < dim; ++d) {
        largest = std::max(largest, std::fabs(query[d]));
        finite &= std::isfinite(query[d]);
      }
      if (!finite) {
        rounded_.push_back({numbers, 0, std::numeric_limits<float>::quiet_NaN()});
        continue;
      }
      const float inverse = InverseScale(largest);
      int32_t sum = 0;
      for (int d = 0; d < dim; ++d) {
        numbers[d] = static_cast<int8_t>(Round(query[d] * inverse));
        sum += numbers[d];
      }
      rounded_.push_back({numbers, -kInt8Offset * sum, largest / kInt8Largest});
    }
  }
  const Int8Query* at(int query) const { return rounded_.data() + query; }

 private:
  std::vector<int8_t> numbers_;
  std::vector<Int8Query> rounded_;
};

// What all threads of one search share.
struct Scan {
  GroupCoding coding;
  const TileFunctions& functions;
  const float* queries;
  int query_count;
  int dim;
  const RoundedQueries* rounded;  // for int8
};

// One thread's share of a search.
class Searcher {
 public:
  Searcher(const Scan& scan, int k) : scan_(&scan), best_(scan.query_count, k) {
    if (scan.coding == GroupCoding::kHalf && scan.query_count > kQueriesAtOnce) {
      widened_.resize(static_cast<size_t>(kVectorsAtOnce) * scan.dim);
    }
  }

  const BestOfQueries& best() const { return best_; }

  void Search(const Stretch& stretch) {
    const TileFunctions& functions = scan_->functions;
    const int groups = (stretch.count + kGroupVectors - 1) / kGroupVectors;
    if (scan_->coding == GroupCoding::kInt8) {
      SearchWith(stretch, [&](int q, int count, float* scores, uint64_t* masks) {
        functions.score_int8_groups(scan_->rounded->at(q), count, Quads(scan_->dim), stretch.groups,
                                    groups, best_.thresholds() + q, scores, masks);
      });
      return;
    }
    const auto* halves = reinterpret_cast<const uint16_t*>(stretch.groups);
    // Few queries widen the halves as they go; many queries share numbers widened once.
    if (!widened_.empty()) {
      HalfToFloat(halves, static_cast<size_t>(groups) * scan_->dim * kGroupVectors,
                  widened_.data());
    }
    SearchWith(stretch, [&](int q, int count, float* scores, uint64_t* masks) {
      const float* queries = scan_->queries + static_cast<size_t>(q) * scan_->dim;
      const float* thresholds = best_.thresholds() + q;
      if (widened_.empty()) {
        functions.score_half_groups(queries, count, scan_->dim, halves, groups, thresholds, scores,
                                    masks);
      } else {
        functions.score_float_groups(queries, count, scan_->dim, widened_.data(), groups,
                                     thresholds, scores, masks);
      }
    });
  }

 private:
  // `score(first query, count, scores, masks)` as ScoreGroups.
  template <typename Score>
  void SearchWith(const Stretch& stretch, Score score) {
    const uint64_t findable = FindableMask(stretch);
    float scores[kQueriesAtOnce * kVectorsAtOnce];
    uint64_t masks[kQueriesAtOnce];
    for (int q = 0; q < scan_->query_count; q += kQueriesAtOnce) {
      const int count = std::min(kQueriesAtOnce, scan_->query_count - q);
      score(q, count, scores, masks);
      for (int i = 0; i < count; ++i) {
        for (uint64_t above = masks[i] & findable; above != 0; above &= above - 1) {
          const int vector = std::countr_zero(above);
          best_.Offer(q + i, scores[i * kVectorsAtOnce + vector], stretch.first_row + vector);
        }
      }
    }
  }

  const Scan* scan_;
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

// Where vector `at` begins in groups of halves; its numbers stand kGroupVectors apart.
size_t FirstHalf(int64_t at, int dim) {
  return static_cast<size_t>(at / kGroupVectors * kGroupVectors * dim + at % kGroupVectors);
}

void PutHalves(const uint16_t* vectors, int64_t count, int dim, int64_t first, uint16_t* groups) {
  for (int64_t i = 0; i < count;) {
    const int64_t at = first + i;
    uint16_t* to = groups + FirstHalf(at, dim);
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

// Where a vector stands in groups of int8.
struct Int8Place {
  uint8_t* numbers;  // of the first quad; quads stand 4 kGroupVectors bytes apart
  uint8_t* scale;
};
Int8Place PlaceOf(int64_t at, int dim, uint8_t* groups) {
  uint8_t* group =
      groups + GroupBytes(GroupCoding::kInt8, dim) * static_cast<size_t>(at / kGroupVectors);
  uint8_t* scales = group + static_cast<size_t>(Quads(dim)) * 4 * kGroupVectors;
  const size_t lane = static_cast<size_t>(at % kGroupVectors);
  return {group + 4 * lane, scales + sizeof(float) * lane};
}

void PutInt8(const uint16_t* vectors, int64_t count, int dim, int64_t first, uint8_t* groups) {
  const int quads = Quads(dim);
  std::vector<float> numbers(static_cast<size_t>(dim));
  std::vector<uint8_t> bytes(static_cast<size_t>(quads) * 4, uint8_t{kInt8Offset});
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t* vector = vectors + i * dim;
    int16_t largest_bits = 0;  // halves without their sign are in the order of their bits
    for (int d = 0; d < dim; ++d) {
      largest_bits = std::max(largest_bits, static_cast<int16_t>(vector[d] & 0x7fff));
    }
    const float largest = HalfToFloat(static_cast<uint16_t>(largest_bits));
    const float inverse = InverseScale(largest);
    HalfToFloat(vector, static_cast<size_t>(dim), numbers.data());
    for (int d = 0; d < dim; ++d) {
      bytes[static_cast<size_t>(d)] =
          static_cast<uint8_t>(Round(numbers[static_cast<size_t>(d)] * inverse) + kInt8Offset);
    }
    const Int8Place place = PlaceOf(first + i, dim, groups);
    for (int quad = 0; quad < quads; ++quad) {
      std::memcpy(place.numbers + quad * 4 * kGroupVectors, bytes.data() + quad * 4, 4);
    }
    const float scale = largest / kInt8Largest;
    std::memcpy(place.scale, &scale, sizeof(scale));
  }
}

}  // namespace

size_t GroupBytes(GroupCoding coding, int dim) {
  if (coding == GroupCoding::kHalf) return sizeof(uint16_t) * kGroupVectors * dim;
  return (static_cast<size_t>(Quads(dim)) * 4 + sizeof(float)) * kGroupVectors;
}

void PutIntoGroups(GroupCoding coding, const uint16_t* vectors, int64_t count, int dim,
                   int64_t first, uint8_t* groups) {
  if (count <= 0) return;
  // Whatever a group begun here has no vector for must be numbers.
  const int64_t last = (first + count - 1) / kGroupVectors;
  if (last * kGroupVectors >= first) {
    const size_t bytes = GroupBytes(coding, dim);
    std::memset(groups + bytes * static_cast<size_t>(last), 0, bytes);
  }
  if (coding == GroupCoding::kInt8) {
    PutInt8(vectors, count, dim, first, groups);
  } else {
    PutHalves(vectors, count, dim, first, reinterpret_cast<uint16_t*>(groups));
  }
}

void CopyBetweenGroups(GroupCoding coding, int dim, const uint8_t* from_groups, int64_t from,
                       uint8_t* to_groups, int64_t to) {
  if (coding == GroupCoding::kInt8) {
    const Int8Place source = PlaceOf(from, dim, const_cast<uint8_t*>(from_groups));
    const Int8Place target = PlaceOf(to, dim, to_groups);
    for (int quad = 0; quad < Quads(dim); ++quad) {
      std::memcpy(target.numbers + quad * 4 * kGroupVectors,
                  source.numbers + quad * 4 * kGroupVectors, 4);
    }
    std::memcpy(target.scale, source.scale, sizeof(float));
    return;
  }
  const auto* source = reinterpret_cast<const uint16_t*>(from_groups) + FirstHalf(from, dim);
  auto* target = reinterpret_cast<uint16_t*>(to_groups) + FirstHalf(to, dim);
  for (int d = 0; d < dim; ++d) target[d * kGroupVectors] = source[d * kGroupVectors];
}

void TopKInnerProducts(GroupCoding coding, const float* queries, int query_count, int dim,
                       const VectorRun* runs, int run_count, int k, int threads, int64_t* rows,
                       float* scores, InstructionSet set) {
  if (query_count <= 0 || k <= 0) return;
  const std::vector<Stretch> stretches = CutRuns(runs, run_count, GroupBytes(coding, dim));
  const int64_t count = static_cast<int64_t>(stretches.size());
  const double work = static_cast<double>(count) * kVectorsAtOnce * dim * query_count;
  const int worth = static_cast<int>(std::min(work / kWorkPerThread, 1024.0));
  const int used = std::max(1, std::min({threads, worth, static_cast<int>(count)}));
  // All memory is had before the threads start: an exception must not leave a parallel region.
  std::optional<RoundedQueries> rounded;
  if (coding == GroupCoding::kInt8) rounded.emplace(queries, query_count, dim);
  const Scan scan = {coding, TileFunctionsFor(set),        queries, query_count,
                     dim,    rounded ? &*rounded : nullptr};
  std::vector<Searcher> parts(static_cast<size_t>(used), Searcher(scan, k));
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

}  // namespace eidetic::kernels
