// The inner loops of key_score.h, one table per instruction set. A tile is a few dozen vectors
// widened to fp32 and padded with zeros, [rows, width]; it stays in the first cache while every
// query is scored against it.
//
// An inner product is summed in one fixed order whatever the batch, the tile or the threads:
// sixteen partial sums, partial[l] = sum over j of query[16 j + l] * row[16 j + l], in order of j,
// then halves added to halves (l and l + 8, l and l + 4, ...). So AVX2 and AVX-512 give the same
// bits; the portable code does too, up to the rounding that fused multiply-add saves.
#ifndef EIDETIC_KERNELS_SCORE_TILE_H_
#define EIDETIC_KERNELS_SCORE_TILE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/instruction_set.h"

namespace eidetic::kernels {

inline constexpr int kTileLanes = 16;    // partial sums; width and rows are multiples of it
inline constexpr int kTileMaxRows = 64;  // one bit each in a 64-bit mask

// Numbers in a padded row of `dim`.
inline int TileWidth(int dim) {
  return (dim + kTileLanes - 1) / kTileLanes * kTileLanes;
}

// Rows of a tile that takes about half of a 32 KiB cache.
inline int TileRows(int width) {
  const int fitting = 4096 / width / kTileLanes * kTileLanes;
  return fitting < kTileLanes ? kTileLanes : (fitting > kTileMaxRows ? kTileMaxRows : fitting);
}

// Zeroes what lies between `rows` and the next multiple of 16.
inline void ZeroPadRows(int rows, int width, float* tile) {
  const int padded = (rows + kTileLanes - 1) / kTileLanes * kTileLanes;
  std::memset(tile + static_cast<size_t>(rows) * width, 0,
              static_cast<size_t>(padded - rows) * width * sizeof(float));
}

struct TileFunctions {
  // Widens `rows` fp16 vectors [rows, dim] into a tile and zeroes rows up to the next multiple of
  // 16.
  void (*load_half)(const uint16_t* vectors, int rows, int dim, float* tile);
  // The same for rows that start `stride` bytes apart, unaligned: fp16 and int8 (without scales).
  void (*load_half_strided)(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile);
  void (*load_int8_strided)(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile);
  // scores [rows rounded up to 16]: one padded query with every row of the tile. Returns a bit for
  // each row below `rows` whose score is above `threshold`.
  uint64_t (*score)(const float* query, const float* tile, int rows, int width, float threshold,
                    float* scores);
  // The sum of exp(scores[i] - maximum) over `count` scores, none above `maximum`. Relative error
  // below 1e-6; what is below e^-87 counts as 0.
  float (*sum_exp)(const float* scores, int count, float maximum);
};

// `set` must be supported.
const TileFunctions& TileFunctionsFor(InstructionSet set);

extern const TileFunctions kPortableTile;
#if defined(__x86_64__)
extern const TileFunctions kAvx2Tile;
extern const TileFunctions kAvx512Tile;
#endif

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_SCORE_TILE_H_
