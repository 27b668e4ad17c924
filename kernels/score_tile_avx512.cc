#if defined(__x86_64__)

// GCC 12's own intrinsics initialise "undefined" vectors with themselves, and it warns of that.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <cstring>
#include <initializer_list>

#include "kernels/block_codec.h"
#include "kernels/score_tile.h"

#define EID_AVX512 __attribute__((target("avx512f,avx2,fma,f16c")))

namespace eidetic::kernels {
namespace {

EID_AVX512 void LoadHalfStrided(const uint8_t* vectors, size_t stride, int rows, int dim,
                                float* tile) {
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

void LoadHalf(const uint16_t* vectors, int rows, int dim, float* tile) {
  LoadHalfStrided(reinterpret_cast<const uint8_t*>(vectors), sizeof(uint16_t) * dim, rows, dim,
                  tile);
}

EID_AVX512 void LoadInt8Strided(const uint8_t* vectors, size_t stride, int rows, int dim,
                                float* tile) {
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

// Four rows against the query: their sixteen partial sums each, folded to four.
// Lanes [row 0: 4, row 1: 4, row 2: 4, row 3: 4].
EID_AVX512 inline __m512 FourRows(const float* query, const float* rows, int width) {
  __m512 sixteen[4];
  for (int r = 0; r < 4; ++r) sixteen[r] = _mm512_setzero_ps();
  for (int at = 0; at < width; at += kTileLanes) {
    const __m512 q = _mm512_loadu_ps(query + at);
    for (int r = 0; r < 4; ++r) {
      const float* row = rows + static_cast<size_t>(r) * width + at;
      sixteen[r] = _mm512_fmadd_ps(q, _mm512_loadu_ps(row), sixteen[r]);
    }
  }
  const __m512 eight01 = _mm512_add_ps(_mm512_shuffle_f32x4(sixteen[0], sixteen[1], 0x44),
                                       _mm512_shuffle_f32x4(sixteen[0], sixteen[1], 0xee));
  const __m512 eight23 = _mm512_add_ps(_mm512_shuffle_f32x4(sixteen[2], sixteen[3], 0x44),
                                       _mm512_shuffle_f32x4(sixteen[2], sixteen[3], 0xee));
  return _mm512_add_ps(_mm512_shuffle_f32x4(eight01, eight23, 0x88),
                       _mm512_shuffle_f32x4(eight01, eight23, 0xdd));
}

EID_AVX512 uint64_t Score(const float* query, const float* tile, int rows, int width,
                          float threshold, float* scores) {
  const __m512 limit = _mm512_set1_ps(threshold);
  // Scores leave the fold as rows 0, 4, 8, 12, 1, 5, ...
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const size_t step = static_cast<size_t>(4) * width;
  uint64_t above = 0;
  for (int row = 0; row < rows; row += kTileLanes) {
    const float* at = tile + static_cast<size_t>(row) * width;
    const __m512 a = FourRows(query, at, width);
    const __m512 b = FourRows(query, at + step, width);
    const __m512 c = FourRows(query, at + 2 * step, width);
    const __m512 d = FourRows(query, at + 3 * step, width);
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_ps(c, d, 0x44), _mm512_shuffle_ps(c, d, 0xee));
    const __m512 sums = _mm512_permutexvar_ps(
        order, _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xdd)));
    _mm512_storeu_ps(scores + row, sums);
    const __mmask16 mask = _mm512_cmp_ps_mask(sums, limit, _CMP_GT_OQ);
    above |= static_cast<uint64_t>(mask) << row;
  }
  return rows < 64 ? above & ((uint64_t{1} << rows) - 1) : above;
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

EID_AVX512 float SumExp(const float* scores, int count, float maximum) {
  const __m512 top = _mm512_set1_ps(maximum);
  const __m512 floor = _mm512_set1_ps(-87.0f);
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < count; i += 16) {
    const int left = count - i;
    const __mmask16 there = static_cast<__mmask16>(left < 16 ? (1u << left) - 1u : 0xffffu);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, scores + i), top);
    const __mmask16 counted = _mm512_mask_cmp_ps_mask(there, x, floor, _CMP_GT_OQ);
    sum = _mm512_mask_add_ps(sum, counted, sum, Exp(_mm512_max_ps(x, floor)));
  }
  float lanes[16];
  _mm512_storeu_ps(lanes, sum);
  for (int half = 8; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace

const TileFunctions kAvx512Tile = {LoadHalf, LoadHalfStrided, LoadInt8Strided, Score, SumExp};

}  // namespace eidetic::kernels

#endif  // __x86_64__
