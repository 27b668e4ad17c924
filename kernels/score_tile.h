// The inner loops of vector_scan.h and key_score.h, one table per instruction set. Two layouts of
// keys, two loops:
//
// Groups (what an index keeps, made for searching): sixteen vectors side by side, as vector_scan.h
// has them.
//
// Tiles (payloads as they are stored): rows widened to fp32 and padded with zeros, [rows, width].
// Sixteen partial sums, partial[l] = sum over j of query[16 j + l] * row[16 j + l] in order of j,
// then halves added to halves (l and l + 8, l and l + 4, ...).
//
// Either order is the same whatever the batch and the threads. AVX2 and AVX-512 give the same bits;
// the portable code does too, up to the rounding that fused multiply-add saves.
#ifndef EIDETIC_KERNELS_SCORE_TILE_H_
#define EIDETIC_KERNELS_SCORE_TILE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/instruction_set.h"
#include "kernels/vector_scan.h"

namespace eidetic::kernels {

inline constexpr int kGroupsAtOnce = 4;
inline constexpr int kQueriesAtOnce = 4;
// Vectors in kGroupsAtOnce groups: one bit each in a 64-bit mask.
inline constexpr int kVectorsAtOnce = kGroupVectors * kGroupsAtOnce;

inline constexpr int kTileLanes = 16;  // partial sums; width and rows are multiples of it
inline constexpr int kTileMaxRows = 64;

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

// Scores 1..4 queries [query_count, dim] with 1..4 groups [group_count, dim, 16] of fp16 or fp32.
// scores [query_count, kVectorsAtOnce]; masks [query_count]: a bit for each vector whose score is
// above the query's threshold.
template <typename Number>
using ScoreGroups = void (*)(const float* queries, int query_count, int dim, const Number* groups,
                             int group_count, const float* thresholds, float* scores,
                             uint64_t* masks);

// A query rounded to int8: about numbers[d] scale.
struct Int8Query {
  const int8_t* numbers;  // [dim rounded up to four]
  int32_t start;          // -128 times their sum: what the groups' offset of 128 is to add up to
  float scale;            // not a number when the query is not finite
};

struct TileFunctions {
  ScoreGroups<uint16_t> score_half_groups;
  ScoreGroups<float> score_float_groups;
  // The same for groups of int8, of `quads` four numbers a vector each.
  void (*score_int8_groups)(const Int8Query* queries, int query_count, int quads,
                            const uint8_t* groups, int group_count, const float* thresholds,
                            float* scores, uint64_t* masks);
  // Widens `rows` rows that start `stride` bytes apart, unaligned, into a tile: fp16, or int8
  // without its scales. Zeroes rows up to the next multiple of 16.
  void (*load_half)(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile);
  void (*load_int8)(const uint8_t* vectors, size_t stride, int rows, int dim, float* tile);
  // scores [query_count, kTileMaxRows]: 1..4 padded queries [query_count, width] with every row of
  // the tile, each product times its factor [rows rounded up to 16].
  void (*score_tile)(const float* queries, int query_count, const float* tile, int rows, int width,
                     const float* factors, float* scores);
  // The same bits as load_int8 and score_tile, without a tile between them; `rows` and `dim` are
  // multiples of 16. The bytes `ahead` behind (or before) each row are prefetched; 0: none are.
  // Null: it would not be faster.
  void (*score_int8)(const float* queries, int query_count, const uint8_t* vectors, size_t stride,
                     int rows, int dim, const float* factors, ptrdiff_t ahead, float* scores);
  // The largest of `count` scores and the sum of exp(scores[i] - largest). Relative error below
  // 1e-6; what is below e^-87 counts as 0.
  void (*softmax_part)(const float* scores, int count, float* largest, float* sum);
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
