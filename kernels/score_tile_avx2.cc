#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <initializer_list>

#include "kernels/block_codec.h"
#include "kernels/score_tile.h"

#define EID_AVX2 __attribute__((target("avx2,fma,f16c")))

namespace eidetic::kernels {
namespace {

EID_AVX2 void LoadHalf(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    int i = 0;
    for (; i + 8 <= dim; i += 8) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
      _mm256_storeu_ps(to + i, _mm256_cvtph_ps(bits));
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

EID_AVX2 void LoadInt8(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    int i = 0;
    for (; i + 8 <= dim; i += 8) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i));
      _mm256_storeu_ps(to + i, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
    }
    for (; i < dim; ++i) to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
    for (; i < width; ++i) to[i] = 0.0f;
  }
  ZeroPadRows(rows, width, tile);
}

// Four rows against the query: their sixteen partial sums each, folded to four.
// Lanes [row 0: 2, row 2: 2 | row 1: 2, row 3: 2] after the fold to two.
EID_AVX2 inline __m256 FourRows(const float* query, const float* rows, int width) {
  __m256 low[4], high[4];
  for (int r = 0; r < 4; ++r) low[r] = high[r] = _mm256_setzero_ps();
  for (int at = 0; at < width; at += kTileLanes) {
    const __m256 q0 = _mm256_loadu_ps(query + at);
    const __m256 q1 = _mm256_loadu_ps(query + at + 8);
    for (int r = 0; r < 4; ++r) {
      const float* row = rows + static_cast<size_t>(r) * width + at;
      low[r] = _mm256_fmadd_ps(q0, _mm256_loadu_ps(row), low[r]);
      high[r] = _mm256_fmadd_ps(q1, _mm256_loadu_ps(row + 8), high[r]);
    }
  }
  __m256 eight[4];
  for (int r = 0; r < 4; ++r) eight[r] = _mm256_add_ps(low[r], high[r]);
  const __m256 four01 = _mm256_add_ps(_mm256_permute2f128_ps(eight[0], eight[1], 0x20),
                                      _mm256_permute2f128_ps(eight[0], eight[1], 0x31));
  const __m256 four23 = _mm256_add_ps(_mm256_permute2f128_ps(eight[2], eight[3], 0x20),
                                      _mm256_permute2f128_ps(eight[2], eight[3], 0x31));
  return _mm256_add_ps(_mm256_shuffle_ps(four01, four23, 0x44),
                       _mm256_shuffle_ps(four01, four23, 0xee));
}

EID_AVX2 void ScoreTileOfQuery(const float* query, const float* tile, int rows, int width,
                               const float* factors, float* scores) {
  // Scores leave the fold as rows 0, 2, 4, 6, 1, 3, 5, 7.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int row = 0; row < rows; row += 8) {
    const float* at = tile + static_cast<size_t>(row) * width;
    const __m256 first = FourRows(query, at, width);
    const __m256 second = FourRows(query, at + static_cast<size_t>(4) * width, width);
    const __m256 sums =
        _mm256_permutevar8x32_ps(_mm256_add_ps(_mm256_shuffle_ps(first, second, 0x88),
                                               _mm256_shuffle_ps(first, second, 0xdd)),
                                 order);
    _mm256_storeu_ps(scores + row, _mm256_mul_ps(sums, _mm256_loadu_ps(factors + row)));
  }
}

void ScoreTile(const float* queries, int query_count, const float* tile, int rows, int width,
               const float* factors, float* scores) {
  for (int q = 0; q < query_count; ++q) {
    ScoreTileOfQuery(queries + static_cast<size_t>(q) * width, tile, rows, width, factors,
                     scores + static_cast<size_t>(q) * kTileMaxRows);
  }
}

EID_AVX2 inline __m256 LoadEight(const uint16_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}
EID_AVX2 inline __m256 LoadEight(const float* numbers) {
  return _mm256_loadu_ps(numbers);
}

// One group against Q queries: 2 Q sums in registers.
template <int Q, typename Number>
EID_AVX2 inline void ScoreGroup(const float* queries, int dim, const Number* group,
                                __m256 (&sums)[Q][2]) {
  for (int q = 0; q < Q; ++q) sums[q][0] = sums[q][1] = _mm256_setzero_ps();
  for (int d = 0; d < dim; ++d) {
    const __m256 low = LoadEight(group + d * kGroupVectors);
    const __m256 high = LoadEight(group + d * kGroupVectors + 8);
    for (int q = 0; q < Q; ++q) {
      const __m256 query = _mm256_broadcast_ss(queries + static_cast<size_t>(q) * dim + d);
      sums[q][0] = _mm256_fmadd_ps(query, low, sums[q][0]);
      sums[q][1] = _mm256_fmadd_ps(query, high, sums[q][1]);
    }
  }
}

template <int Q, typename Number>
EID_AVX2 void ScoreGroupsOfQueries(const float* queries, int dim, const Number* groups,
                                   int group_count, const float* thresholds, float* scores,
                                   uint64_t* masks) {
  for (int q = 0; q < Q; ++q) masks[q] = 0;
  for (int g = 0; g < group_count; ++g) {
    __m256 sums[Q][2];
    ScoreGroup<Q>(queries, dim, groups + static_cast<size_t>(g) * dim * kGroupVectors, sums);
    for (int q = 0; q < Q; ++q) {
      const __m256 limit = _mm256_set1_ps(thresholds[q]);
      for (int half = 0; half < 2; ++half) {
        const int at = g * kGroupVectors + half * 8;
        _mm256_storeu_ps(scores + q * kVectorsAtOnce + at, sums[q][half]);
        const int above = _mm256_movemask_ps(_mm256_cmp_ps(sums[q][half], limit, _CMP_GT_OQ));
        masks[q] |= static_cast<uint64_t>(static_cast<uint32_t>(above)) << at;
      }
    }
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

// Eight vectors, four numbers each: vectors 0, 1, 4, 5 in `low` and 2, 3, 6, 7 in `high`, each with
// the sums of its first and its last two products.
EID_AVX2 inline void AddQuads(const uint8_t* eight, __m256i query, __m256i* low, __m256i* high) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(eight));
  const __m256i zero = _mm256_setzero_si256();
  *low = _mm256_add_epi32(*low, _mm256_madd_epi16(_mm256_unpacklo_epi8(bytes, zero), query));
  *high = _mm256_add_epi32(*high, _mm256_madd_epi16(_mm256_unpackhi_epi8(bytes, zero), query));
}

EID_AVX2 void ScoreInt8Group(const Int8Query& query, int quads, const uint8_t* group,
                             float* scores) {
  constexpr int kQuadBytes = 4 * kGroupVectors;
  __m256i sums[4];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int i = 0; i < quads; ++i) {
    int32_t four;
    std::memcpy(&four, query.numbers + 4 * i, sizeof(four));
    const __m256i wide = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
    AddQuads(group + i * kQuadBytes, wide, &sums[0], &sums[1]);
    AddQuads(group + i * kQuadBytes + 32, wide, &sums[2], &sums[3]);
  }
  const float* scales = reinterpret_cast<const float*>(group + quads * kQuadBytes);
  for (int half = 0; half < 2; ++half) {
    const __m256i whole = _mm256_add_epi32(_mm256_hadd_epi32(sums[2 * half], sums[2 * half + 1]),
                                           _mm256_set1_epi32(query.start));
    const __m256 factors =
        _mm256_mul_ps(_mm256_loadu_ps(scales + 8 * half), _mm256_set1_ps(query.scale));
    _mm256_storeu_ps(scores + 8 * half, _mm256_mul_ps(_mm256_cvtepi32_ps(whole), factors));
  }
}

EID_AVX2 void ScoreInt8Groups(const Int8Query* queries, int query_count, int quads,
                              const uint8_t* groups, int group_count, const float* thresholds,
                              float* scores, uint64_t* masks) {
  const size_t group_bytes = (static_cast<size_t>(quads) * 4 + sizeof(float)) * kGroupVectors;
  for (int q = 0; q < query_count; ++q) {
    masks[q] = 0;
    for (int g = 0; g < group_count; ++g) {
      float* to = scores + q * kVectorsAtOnce + g * kGroupVectors;
      ScoreInt8Group(queries[q], quads, groups + group_bytes * g, to);
      for (int half = 0; half < 2; ++half) {
        const int above = _mm256_movemask_ps(_mm256_cmp_ps(
            _mm256_loadu_ps(to + 8 * half), _mm256_set1_ps(thresholds[q]), _CMP_GT_OQ));
        masks[q] |= static_cast<uint64_t>(static_cast<uint32_t>(above))
                    << (g * kGroupVectors + 8 * half);
      }
    }
  }
}

// exp(x) for x in [-87, 0]: 2^n e^r with |r| <= ln 2 / 2, e^r by its series.
EID_AVX2 inline __m256 Exp(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 sum = _mm256_set1_ps(1.0f / 5040);
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(term));
  }
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(sum, _mm256_castsi256_ps(power));
}

EID_AVX2 void SoftmaxPart(const float* scores, int count, float* largest, float* sum) {
  // Eight at a time; the last few stand among numbers that change nothing.
  float last[8];
  const int whole = count / 8 * 8;
  for (int i = 0; i < 8; ++i) last[i] = whole + i < count ? scores[whole + i] : -INFINITY;
  const bool rest = whole < count;
  __m256 top = rest ? _mm256_loadu_ps(last) : _mm256_set1_ps(-INFINITY);
  for (int i = 0; i < whole; i += 8) top = _mm256_max_ps(top, _mm256_loadu_ps(scores + i));
  top = _mm256_max_ps(top, _mm256_permute2f128_ps(top, top, 1));
  top = _mm256_max_ps(top, _mm256_shuffle_ps(top, top, 0x4e));
  top = _mm256_max_ps(top, _mm256_shuffle_ps(top, top, 0xb1));
  *largest = _mm256_cvtss_f32(top);

  const __m256 floor = _mm256_set1_ps(-87.0f);
  __m256 sums = _mm256_setzero_ps();
  for (int i = 0; i < count; i += 8) {
    const __m256 x = _mm256_sub_ps(_mm256_loadu_ps(i < whole ? scores + i : last), top);
    const __m256 counted = _mm256_cmp_ps(x, floor, _CMP_GT_OQ);
    sums = _mm256_add_ps(sums, _mm256_and_ps(counted, Exp(_mm256_max_ps(x, floor))));
  }
  sums = _mm256_add_ps(sums, _mm256_permute2f128_ps(sums, sums, 1));
  sums = _mm256_add_ps(sums, _mm256_shuffle_ps(sums, sums, 0x4e));
  sums = _mm256_add_ps(sums, _mm256_shuffle_ps(sums, sums, 0xb1));
  *sum = _mm256_cvtss_f32(sums);
}

}  // namespace

const TileFunctions kAvx2Tile = {
    ScoreGroupsOf<uint16_t>, ScoreGroupsOf<float>, ScoreInt8Groups, LoadHalf, LoadInt8, ScoreTile,
    /*score_int8=*/nullptr,  SoftmaxPart};

}  // namespace eidetic::kernels

#endif  // __x86_64__
