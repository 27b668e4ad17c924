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

// The `k` best inner products of each query with fp16 vectors, best first; equal scores in order
// of row. queries [query_count, dim] fp32, vectors [vector_count, dim] fp16 (IEEE bits), `live` one
// byte a vector (0: skip) or null. rows and scores [query_count, k]; missing ones are -1 and -inf.
// Fans out over at most `threads` threads.
void TopKInnerProducts(const float* queries, int query_count, int dim, const uint16_t* vectors,
                       int64_t vector_count, const uint8_t* live, int k, int threads, int64_t* rows,
                       float* scores);

// A run of vectors: `vectors` [count, dim], `live` one byte each or null.
struct VectorRun {
  const uint16_t* vectors = nullptr;
  const uint8_t* live = nullptr;
  int64_t count = 0;
};

// The same over vectors that lie in several runs; rows count through all of them. `set` must be
// supported: tests compare them, everyone else leaves it alone.
void TopKInnerProducts(const float* queries, int query_count, int dim, const VectorRun* runs,
                       int run_count, int k, int threads, int64_t* rows, float* scores,
                       InstructionSet set = BestInstructionSet());

// scores [query_count, tokens]: queries [query_count, dim] with the rows of kv head `kv_head` of
// one coded payload of [tokens, kv_heads, dim], times `scale`. The payload need not be aligned.
void ScorePayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, float* scores,
                  InstructionSet set = BestInstructionSet());

// One payload's part in a softmax over many: for each query the largest of its scores (as
// ScorePayload's) and the sum of exp(score - largest). maxima and sums [query_count].
void PayloadSoftmax(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                    int tokens, int kv_heads, int dim, int kv_head, float scale, float* maxima,
                    float* sums, InstructionSet set = BestInstructionSet());

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_KEY_SCORE_H_
