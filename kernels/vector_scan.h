// The best inner products of queries with many vectors: what candidate search spends its time on.
// CPU; picks the widest instruction set at run time. Deterministic: fixed inputs give the same
// bits, whatever the number of threads and the size of a batch (rule 9).
//
// A score that is not a number (from a query that is not finite) is never among the best.
#ifndef EIDETIC_KERNELS_VECTOR_SCAN_H_
#define EIDETIC_KERNELS_VECTOR_SCAN_H_

#include <cstddef>
#include <cstdint>

#include "kernels/instruction_set.h"

namespace eidetic::kernels {

// An index keeps its vectors in groups of sixteen, side by side, so that one vector instruction
// advances sixteen inner products and nothing is summed across lanes.
inline constexpr int kGroupVectors = 16;

enum class GroupCoding {
  // [dim, 16] fp16. Scores are sums in fp32 in order of the dimensions: AVX2 and AVX-512 give the
  // same bits, portable code up to the rounding that fused multiply-add saves.
  kHalf,
  // [ceil(dim / 4), 16, 4] bytes, each q + 128 with |q| <= 127, then 16 scales in fp32: number d of
  // a vector is about q scale, with scale = max|x| / 127. Queries are rounded likewise. Half the
  // bytes to read. A score differs from the inner product by at most
  // (|query|_1 s_v + |vector|_1 s_q) / 2 + dim s_v s_q / 4, with the two scales, beside fp32
  // rounding of the product of three numbers; it has the same bits on every instruction set.
  kInt8,
};

// Bytes of one group; a multiple of 32 (kHalf) or 64 (kInt8).
size_t GroupBytes(GroupCoding coding, int dim);
// Bytes of the groups that hold `count` vectors.
inline size_t GroupedBytes(GroupCoding coding, int64_t count, int dim) {
  return static_cast<size_t>((count + kGroupVectors - 1) / kGroupVectors) * GroupBytes(coding, dim);
}

// Puts fp16 `vectors` [count, dim] into groups as the vectors first, first + 1, ... A group that is
// begun is zeroed first. Numbers must be finite; dim <= 65536.
void PutIntoGroups(GroupCoding coding, const uint16_t* vectors, int64_t count, int dim,
                   int64_t first, uint8_t* groups);

// Copies vector `from` of one set of groups over vector `to` of another, or of the same.
void CopyBetweenGroups(GroupCoding coding, int dim, const uint8_t* from_groups, int64_t from,
                       uint8_t* to_groups, int64_t to);

// A run of vectors in groups. `live` has one byte a vector (0: skip) or is null.
struct VectorRun {
  const uint8_t* groups = nullptr;
  const uint8_t* live = nullptr;
  int64_t count = 0;
};

// The `k` best inner products of each query with the vectors of all runs, best first; equal scores
// in order of row. Rows count through the runs. queries [query_count, dim] fp32; rows and scores
// [query_count, k]; missing ones are -1 and -inf. Fans out over at most `threads` threads. `set`
// must be supported: tests compare them, everyone else leaves it alone.
void TopKInnerProducts(GroupCoding coding, const float* queries, int query_count, int dim,
                       const VectorRun* runs, int run_count, int k, int threads, int64_t* rows,
                       float* scores, InstructionSet set = BestInstructionSet());

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_VECTOR_SCAN_H_
