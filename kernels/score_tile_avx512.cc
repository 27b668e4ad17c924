#if defined(__x86_64__)

// GCC 12's own intrinsics initialise "undefined" vectors with themselves, and it warns of that.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "kernels/block_codec.h"
#include "kernels/score_tile.h"

#define EID_AVX512 __attribute__((target("avx512f,avx2,fma,f16c")))

namespace eidetic::kernels {
namespace {

EID_AVX512 void LoadHalf(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    int i = 0;
    for (; i + 16 <= dim; i += 16) {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * i));
      _mm512_storeu_ps(to + i, _mm512_cvtph_ps(bits));
    }
    for (; i < dim; ++i) {
      uint16_t half;
      std::memcpy(&half, from + 2 * i, sizeof(half));
      to[i] = HalfToFloat(half);
    }
    for (; i < width; ++i) to[i] = 0.0f;
  }
  ZeroPadRows(rows, width, tile);
}

EID_AVX512 void LoadInt8(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    int i = 0;
    for (; i + 16 <= dim; i += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      _mm512_storeu_ps(to + i, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
    }
    for (; i < dim; ++i) to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
    for (; i < width; ++i) to[i] = 0.0f;
  }
  ZeroPadRows(rows, width, tile);
}

EID_AVX512 inline __m512 LoadSixteen(const uint16_t* halves) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
}
EID_AVX512 inline __m512 LoadSixteen(const float* numbers) {
  return _mm512_loadu_ps(numbers);
}
EID_AVX512 inline __m512 LoadSixteen(const int8_t* numbers) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

// Four rows against Q queries: their sixteen partial sums each, folded to four.
// Lanes [row 0: 4, row 1: 4, row 2: 4, row 3: 4].
// `ahead` bytes on lies what will be read next, asked for row by row meanwhile; 0: nothing.
template <int Q, typename Number>
EID_AVX512 inline void FourRows(const float* queries, const Number* rows, size_t stride, int width,
                                ptrdiff_t ahead, __m512 (&folded)[Q]) {
  __m512 sixteen[Q][4];
  for (int q = 0; q < Q; ++q) {
    for (int r = 0; r < 4; ++r) sixteen[q][r] = _mm512_setzero_ps();
  }
  for (int at = 0; at < width; at += kTileLanes) {
    __m512 row[4];
    for (int r = 0; r < 4; ++r) row[r] = LoadSixteen(rows + stride * r + at);
    if (sizeof(Number) == 1 && at % 64 == 0 && ahead != 0) {
      for (int r = 0; r < 4; ++r) {
        __builtin_prefetch(reinterpret_cast<const char*>(rows + stride * r + at) + ahead);
      }
    }
    for (int q = 0; q < Q; ++q) {
      const __m512 query = _mm512_loadu_ps(queries + static_cast<size_t>(q) * width + at);
      for (int r = 0; r < 4; ++r) sixteen[q][r] = _mm512_fmadd_ps(query, row[r], sixteen[q][r]);
    }
  }
  for (int q = 0; q < Q; ++q) {
    const __m512 eight01 = _mm512_add_ps(_mm512_shuffle_f32x4(sixteen[q][0], sixteen[q][1], 0x44),
                                         _mm512_shuffle_f32x4(sixteen[q][0], sixteen[q][1], 0xee));
    const __m512 eight23 = _mm512_add_ps(_mm512_shuffle_f32x4(sixteen[q][2], sixteen[q][3], 0x44),
                                         _mm512_shuffle_f32x4(sixteen[q][2], sixteen[q][3], 0xee));
    folded[q] = _mm512_add_ps(_mm512_shuffle_f32x4(eight01, eight23, 0x88),
                              _mm512_shuffle_f32x4(eight01, eight23, 0xdd));
  }
}

// `rows` (rounded up to 16) rows that begin `stride` numbers apart.
template <int Q, typename Number>
EID_AVX512 void ScoreRowsOfQueries(const float* queries, const Number* numbers, size_t stride,
                                   int rows, int width, const float* factors, ptrdiff_t ahead,
                                   float* scores) {
  // Scores leave the fold as rows 0, 4, 8, 12, 1, 5, ...
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int row = 0; row < rows; row += kTileLanes) {
    const Number* at = numbers + stride * static_cast<size_t>(row);
    __m512 a[Q], b[Q], c[Q], d[Q];
    FourRows<Q>(queries, at, stride, width, ahead, a);
    FourRows<Q>(queries, at + 4 * stride, stride, width, ahead, b);
    FourRows<Q>(queries, at + 8 * stride, stride, width, ahead, c);
    FourRows<Q>(queries, at + 12 * stride, stride, width, ahead, d);
    const __m512 factor = _mm512_loadu_ps(factors + row);
    for (int q = 0; q < Q; ++q) {
      const __m512 ab =
          _mm512_add_ps(_mm512_shuffle_ps(a[q], b[q], 0x44), _mm512_shuffle_ps(a[q], b[q], 0xee));
      const __m512 cd =
          _mm512_add_ps(_mm512_shuffle_ps(c[q], d[q], 0x44), _mm512_shuffle_ps(c[q], d[q], 0xee));
      const __m512 sums = _mm512_permutexvar_ps(
          order, _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xdd)));
      _mm512_storeu_ps(scores + q * kTileMaxRows + row, _mm512_mul_ps(sums, factor));
    }
  }
}

template <typename Number>
void ScoreRows(const float* queries, int query_count, const Number* numbers, size_t stride,
               int rows, int width, const float* factors, ptrdiff_t ahead, float* scores) {
  const auto score = query_count == 1   ? ScoreRowsOfQueries<1, Number>
                     : query_count == 2 ? ScoreRowsOfQueries<2, Number>
                     : query_count == 3 ? ScoreRowsOfQueries<3, Number>
                                        : ScoreRowsOfQueries<4, Number>;
  score(queries, numbers, stride, rows, width, factors, ahead, scores);
}

void ScoreTile(const float* queries, int query_count, const float* tile, int rows, int width,
               const float* factors, float* scores) {
  ScoreRows(queries, query_count, tile, static_cast<size_t>(width), rows, width, factors, 0,
            scores);
}

void ScoreInt8(const float* queries, int query_count, const uint8_t* vectors, size_t stride,
               int rows, int dim, const float* factors, ptrdiff_t ahead, float* scores) {
  ScoreRows(queries, query_count, reinterpret_cast<const int8_t*>(vectors), stride, rows, dim,
            factors, ahead, scores);
}

// How many dimensions of sixteen vectors (32 bytes each) are asked for before they are needed.
constexpr int kAhead = 128;

// G groups against Q queries: G Q sums in registers.
template <int Q, int G, typename Number>
EID_AVX512 inline void ScoreBlock(const float* queries, int dim, const Number* groups,
                                  const float* thresholds, float* scores, uint64_t* masks,
                                  int first_bit) {
  const size_t stride = static_cast<size_t>(dim) * kGroupVectors;
  __m512 sums[Q][G];
  for (int q = 0; q < Q; ++q) {
    for (int g = 0; g < G; ++g) sums[q][g] = _mm512_setzero_ps();
  }
  for (int d = 0; d < dim; ++d) {
    __m512 vectors[G];
    // Ahead across pages, where the hardware stops following.
    if (sizeof(Number) == sizeof(uint16_t)) {
      __builtin_prefetch(groups + static_cast<size_t>(d + kAhead) * kGroupVectors);
    }
    for (int g = 0; g < G; ++g) {
      vectors[g] = LoadSixteen(groups + stride * g + static_cast<size_t>(d) * kGroupVectors);
    }
    for (int q = 0; q < Q; ++q) {
      const __m512 query = _mm512_set1_ps(queries[static_cast<size_t>(q) * dim + d]);
      for (int g = 0; g < G; ++g) sums[q][g] = _mm512_fmadd_ps(query, vectors[g], sums[q][g]);
    }
  }
  for (int q = 0; q < Q; ++q) {
    const __m512 limit = _mm512_set1_ps(thresholds[q]);
    for (int g = 0; g < G; ++g) {
      const int at = first_bit + g * kGroupVectors;
      _mm512_storeu_ps(scores + q * kVectorsAtOnce + at, sums[q][g]);
      const __mmask16 above = _mm512_cmp_ps_mask(sums[q][g], limit, _CMP_GT_OQ);
      masks[q] |= static_cast<uint64_t>(above) << at;
    }
  }
}

template <int Q, typename Number>
EID_AVX512 void ScoreGroupsOfQueries(const float* queries, int dim, const Number* groups,
                                     int group_count, const float* thresholds, float* scores,
                                     uint64_t* masks) {
  for (int q = 0; q < Q; ++q) masks[q] = 0;
  // Halves come from memory: one group at a time is one stream, which prefetching follows (four at
  // a time took twice as long). Floats come from the first cache: more groups save broadcasts.
  if (std::is_same_v<Number, float> && group_count == kGroupsAtOnce) {
    ScoreBlock<Q, kGroupsAtOnce>(queries, dim, groups, thresholds, scores, masks, 0);
    return;
  }
  for (int g = 0; g < group_count; ++g) {
    ScoreBlock<Q, 1>(queries, dim, groups + static_cast<size_t>(g) * dim * kGroupVectors,
                     thresholds, scores, masks, g * kGroupVectors);
  }
}

template <typename Number>
void ScoreGroupsOf(const float* queries, int query_count, int dim, const Number* groups,
                   int group_count, const float* thresholds, float* scores, uint64_t* masks) {
  const auto score = query_count == 1   ? ScoreGroupsOfQueries<1, Number>
                     : query_count == 2 ? ScoreGroupsOfQueries<2, Number>
                     : query_count == 3 ? ScoreGroupsOfQueries<3, Number>
                                        : ScoreGroupsOfQueries<4, Number>;
  score(queries, dim, groups, group_count, thresholds, scores, masks);
}

#define EID_AVX512_VNNI __attribute__((target("avx512f,avx512vnni,avx2,fma,f16c")))

// What is asked for ahead of a scan of int8 groups.
constexpr size_t kInt8AheadBytes = 4096;

template <int Q>
EID_AVX512_VNNI void ScoreInt8GroupsOfQueries(const Int8Query* queries, int quads,
                                              const uint8_t* groups, int group_count,
                                              const float* thresholds, float* scores,
                                              uint64_t* masks) {
  constexpr int kQuadBytes = 4 * kGroupVectors;
  const size_t group_bytes = static_cast<size_t>(quads + 1) * kQuadBytes;
  for (int q = 0; q < Q; ++q) masks[q] = 0;
  for (int g = 0; g < group_count; ++g) {
    const uint8_t* group = groups + group_bytes * g;
    __m512i sums[Q];
    for (int q = 0; q < Q; ++q) sums[q] = _mm512_set1_epi32(queries[q].start);
    for (int i = 0; i < quads; ++i) {
      const uint8_t* at = group + i * kQuadBytes;
      __builtin_prefetch(at + kInt8AheadBytes);
      const __m512i vectors = _mm512_loadu_si512(at);
      for (int q = 0; q < Q; ++q) {
        int32_t four;
        std::memcpy(&four, queries[q].numbers + 4 * i, sizeof(four));
        sums[q] = _mm512_dpbusd_epi32(sums[q], vectors, _mm512_set1_epi32(four));
      }
    }
    const __m512 scales = _mm512_loadu_ps(group + quads * kQuadBytes);
    for (int q = 0; q < Q; ++q) {
      const __m512 factors = _mm512_mul_ps(scales, _mm512_set1_ps(queries[q].scale));
      const __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[q]), factors);
      _mm512_storeu_ps(scores + q * kVectorsAtOnce + g * kGroupVectors, score);
      const __mmask16 above = _mm512_cmp_ps_mask(score, _mm512_set1_ps(thresholds[q]), _CMP_GT_OQ);
      masks[q] |= static_cast<uint64_t>(above) << (g * kGroupVectors);
    }
  }
}

void ScoreInt8Groups(const Int8Query* queries, int query_count, int quads, const uint8_t* groups,
                     int group_count, const float* thresholds, float* scores, uint64_t* masks) {
  static const bool has_vnni = __builtin_cpu_supports("avx512vnni") != 0;
  if (!has_vnni) {
    kAvx2Tile.score_int8_groups(queries, query_count, quads, groups, group_count, thresholds,
                                scores, masks);
    return;
  }
  const auto score = query_count == 1   ? ScoreInt8GroupsOfQueries<1>
                     : query_count == 2 ? ScoreInt8GroupsOfQueries<2>
                     : query_count == 3 ? ScoreInt8GroupsOfQueries<3>
                                        : ScoreInt8GroupsOfQueries<4>;
  score(queries, quads, groups, group_count, thresholds, scores, masks);
}

// exp(x) for x in [-87, 0]: 2^n e^r with |r| <= ln 2 / 2, e^r by its series.
EID_AVX512 inline __m512 Exp(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 sum = _mm512_set1_ps(1.0f / 5040);
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(term));
  }
  return _mm512_scalef_ps(sum, n);
}

EID_AVX512 void SoftmaxPart(const float* scores, int count, float* largest, float* sum) {
  __m512 tops = _mm512_set1_ps(-INFINITY);
  for (int i = 0; i < count; i += 16) {
    const __mmask16 there = static_cast<__mmask16>(count - i < 16 ? (1u << (count - i)) - 1u : ~0u);
    tops = _mm512_max_ps(tops, _mm512_mask_loadu_ps(tops, there, scores + i));
  }
  *largest = _mm512_reduce_max_ps(tops);

  const __m512 top = _mm512_set1_ps(*largest);
  const __m512 floor = _mm512_set1_ps(-87.0f);
  __m512 sums = _mm512_setzero_ps();
  for (int i = 0; i < count; i += 16) {
    const __mmask16 there = static_cast<__mmask16>(count - i < 16 ? (1u << (count - i)) - 1u : ~0u);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, scores + i), top);
    const __mmask16 counted = _mm512_mask_cmp_ps_mask(there, x, floor, _CMP_GT_OQ);
    sums = _mm512_mask_add_ps(sums, counted, sums, Exp(_mm512_max_ps(x, floor)));
  }
  *sum = _mm512_reduce_add_ps(sums);
}

}  // namespace

const TileFunctions kAvx512Tile = {ScoreGroupsOf<uint16_t>,
                                   ScoreGroupsOf<float>,
                                   ScoreInt8Groups,
                                   LoadHalf,
                                   LoadInt8,
                                   ScoreTile,
                                   ScoreInt8,
                                   SoftmaxPart};

}  // namespace eidetic::kernels

#endif  // __x86_64__
