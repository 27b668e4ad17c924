#include "kernels/score_tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/block_codec.h"

namespace eidetic::kernels {
namespace {

void LoadHalf(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    for (int i = 0; i < dim; ++i) {
      uint16_t half;
      std::memcpy(&half, from + 2 * i, sizeof(half));
      to[i] = HalfToFloat(half);
    }
    for (int i = dim; i < width; ++i) to[i] = 0.0f;
  }
  ZeroPadRows(rows, width, tile);
}

void LoadInt8(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    for (int i = 0; i < dim; ++i) to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
    for (int i = dim; i < width; ++i) to[i] = 0.0f;
  }
  ZeroPadRows(rows, width, tile);
}

void ScoreTile(const float* queries, int query_count, const float* tile, int rows, int width,
               const float* factors, float* scores) {
  for (int at = 0; at < query_count * rows; ++at) {
    const int row = at % rows;
    const float* query = queries + static_cast<size_t>(at / rows) * width;
    const float* vector = tile + static_cast<size_t>(row) * width;
    float partial[kTileLanes] = {};
    for (int i = 0; i < width; i += kTileLanes) {
      for (int lane = 0; lane < kTileLanes; ++lane) {
        partial[lane] += query[i + lane] * vector[i + lane];
      }
    }
    for (int half = kTileLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) partial[lane] += partial[lane + half];
    }
    scores[at / rows * kTileMaxRows + row] = partial[0] * factors[row];
  }
}

float Widen(uint16_t half) {
  return HalfToFloat(half);
}
float Widen(float number) {
  return number;
}

template <typename Number>
void ScoreGroupsOf(const float* queries, int query_count, int dim, const Number* groups,
                   int group_count, const float* thresholds, float* scores, uint64_t* masks) {
  for (int q = 0; q < query_count; ++q) {
    masks[q] = 0;
    for (int g = 0; g < group_count; ++g) {
      const Number* group = groups + static_cast<size_t>(g) * dim * kGroupVectors;
      float* sums = scores + q * kVectorsAtOnce + g * kGroupVectors;
      for (int v = 0; v < kGroupVectors; ++v) sums[v] = 0.0f;
      for (int d = 0; d < dim; ++d) {
        const float query = queries[static_cast<size_t>(q) * dim + d];
        for (int v = 0; v < kGroupVectors; ++v) {
          sums[v] += query * Widen(group[d * kGroupVectors + v]);
        }
      }
      for (int v = 0; v < kGroupVectors; ++v) {
        masks[q] |= static_cast<uint64_t>(sums[v] > thresholds[q]) << (g * kGroupVectors + v);
      }
    }
  }
}

void ScoreInt8Groups(const Int8Query* queries, int query_count, int quads, const uint8_t* groups,
                     int group_count, const float* thresholds, float* scores, uint64_t* masks) {
  const size_t scales_at = static_cast<size_t>(quads) * 4 * kGroupVectors;
  for (int q = 0; q < query_count; ++q) {
    masks[q] = 0;
    for (int g = 0; g < group_count; ++g) {
      const uint8_t* group = groups + (scales_at + sizeof(float) * kGroupVectors) * g;
      float scales[kGroupVectors];
      std::memcpy(scales, group + scales_at, sizeof(scales));
      for (int v = 0; v < kGroupVectors; ++v) {
        int32_t sum = queries[q].start;
        for (int i = 0; i < 4 * quads; ++i) {
          sum += queries[q].numbers[i] * group[(i / 4 * kGroupVectors + v) * 4 + i % 4];
        }
        const float score = static_cast<float>(sum) * (scales[v] * queries[q].scale);
        scores[q * kVectorsAtOnce + g * kGroupVectors + v] = score;
        masks[q] |= static_cast<uint64_t>(score > thresholds[q]) << (g * kGroupVectors + v);
      }
    }
  }
}

void SoftmaxPart(const float* scores, int count, float* largest, float* sum) {
  *largest = *std::max_element(scores, scores + count);
  *sum = 0.0f;
  for (int i = 0; i < count; ++i) {
    const float below = scores[i] - *largest;
    if (below > -87.0f) *sum += std::exp(below);
  }
}

}  // namespace

const TileFunctions kPortableTile = {
    ScoreGroupsOf<uint16_t>, ScoreGroupsOf<float>, ScoreInt8Groups, LoadHalf, LoadInt8, ScoreTile,
    /*score_int8=*/nullptr,  SoftmaxPart};

const TileFunctions& TileFunctionsFor(InstructionSet set) {
#if defined(__x86_64__)
  if (set == InstructionSet::kAvx512) return kAvx512Tile;
  if (set == InstructionSet::kAvx2) return kAvx2Tile;
#endif
  (void)set;
  return kPortableTile;
}

}  // namespace eidetic::kernels
