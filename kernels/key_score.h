// Inner products of queries with keys, and the best of them: what candidate search and rescoring
// spend their time on. CPU; picks the widest instruction set at run time. Deterministic: a fixed
// machine and fixed inputs give the same bits, whatever the number of threads (rule 9).
//
// A score that is not a number (from a query that is not finite) is never among the best.
#ifndef EIDETIC_KERNELS_KEY_SCORE_H_
#define EIDETIC_KERNELS_KEY_SCORE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/block_codec.h"
#include "kernels/instruction_set.h"

namespace eidetic::kernels {

// An index keeps its vectors in groups of sixteen, [groups, dim, 16]: number d of vector v stands
// at groups[(v / 16 * dim + d) * 16 + v % 16].
inline constexpr int kGroupVectors = 16;

// Numbers that hold `count` vectors.
inline size_t GroupedSize(int64_t count, int dim) {
  return static_cast<size_t>((count + kGroupVectors - 1) / kGroupVectors * kGroupVectors) *
         static_cast<size_t>(dim);
}

// Puts `vectors` [count, dim] into groups as the vectors first, first + 1, ... The rest of the last
// group is left as it is; it must be made of numbers (zeros will do).
void PutIntoGroups(const uint16_t* vectors, int64_t count, int dim, int64_t first,
                   uint16_t* groups);

// A run of fp16 vectors in groups. `live` has one byte a vector (0: skip) or is null.
struct VectorRun {
  const uint16_t* groups = nullptr;
  const uint8_t* live = nullptr;
  int64_t count = 0;
};

// The `k` best inner products of each query with the vectors of all runs, best first; equal scores
// in order of row. Rows count through the runs. queries [query_count, dim] fp32; rows and scores
// [query_count, k]; missing ones are -1 and -inf. Fans out over at most `threads` threads. `set`
// must be supported: tests compare them, everyone else leaves it alone.
void TopKInnerProducts(const float* queries, int query_count, int dim, const VectorRun* runs,
                       int run_count, int k, int threads, int64_t* rows, float* scores,
                       InstructionSet set = BestInstructionSet());

// scores [query_count, tokens]: queries [query_count, dim] with the rows of kv head `kv_head` of
// one coded payload of [tokens, kv_heads, dim], times `scale`. The payload need not be aligned.
void ScorePayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, float* scores,
                  InstructionSet set = BestInstructionSet());

// One payload's part in a softmax over many: for each query the largest of its scores (as
// ScorePayload's) and the sum of exp(score - largest). maxima and sums [query_count]. `next`: a
// payload of the same shape that will be asked for next, whose rows of this head are prefetched
// meanwhile; may be null.
void PayloadSoftmax(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                    int tokens, int kv_heads, int dim, int kv_head, float scale, float* maxima,
                    float* sums, InstructionSet set = BestInstructionSet(),
                    const uint8_t* next = nullptr);

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_KEY_SCORE_H_
