#include "kernels/score_tile.h"

#include <cmath>
#include <cstring>

#include "kernels/block_codec.h"

namespace eidetic::kernels {
namespace {

void LoadHalfStrided(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
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

void LoadHalf(const uint16_t* vectors, int rows, int dim, float* tile) {
  LoadHalfStrided(reinterpret_cast<const uint8_t*>(vectors), sizeof(uint16_t) * dim, rows, dim,
                  tile);
}

void LoadInt8Strided(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile) {
  const int width = TileWidth(dim);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* from = vectors + stride * static_cast<size_t>(row);
    float* to = tile + static_cast<size_t>(row) * width;
    for (int i = 0; i < dim; ++i) to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
    for (int i = dim; i < width; ++i) to[i] = 0.0f;
  }
  ZeroPadRows(rows, width, tile);
}

uint64_t Score(const float* query, const float* tile, int rows, int width, float threshold,
               float* scores) {
  uint64_t above = 0;
  for (int row = 0; row < rows; ++row) {
    const float* vector = tile + static_cast<size_t>(row) * width;
    float partial[kTileLanes] = {};
    for (int at = 0; at < width; at += kTileLanes) {
      for (int lane = 0; lane < kTileLanes; ++lane) {
        partial[lane] += query[at + lane] * vector[at + lane];
      }
    }
    for (int half = kTileLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) partial[lane] += partial[lane + half];
    }
    scores[row] = partial[0];
    if (partial[0] > threshold) above |= uint64_t{1} << row;
  }
  return above;
}

float SumExp(const float* scores, int count, float maximum) {
  float sum = 0.0f;
  for (int i = 0; i < count; ++i) {
    const float below = scores[i] - maximum;
    if (below > -87.0f) sum += std::exp(below);
  }
  return sum;
}

}  // namespace

const TileFunctions kPortableTile = {LoadHalf, LoadHalfStrided, LoadInt8Strided, Score, SumExp};

const TileFunctions& TileFunctionsFor(InstructionSet set) {
#if defined(__x86_64__)
  if (set == InstructionSet::kAvx512) return kAvx512Tile;
  if (set == InstructionSet::kAvx2) return kAvx2Tile;
#endif
  (void)set;
  return kPortableTile;
}

}  // namespace eidetic::kernels
