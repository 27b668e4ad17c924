// Inner products of queries with keys, and the best of them: what candidate search and rescoring
// spend their time on. CPU; picks the widest instruction set at run time. Deterministic: a fixed
// machine and fixed inputs give the same bits, whatever the number of threads (rule 9).
#ifndef EIDETIC_KERNELS_KEY_SCORE_H_
#define EIDETIC_KERNELS_KEY_SCORE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/block_codec.h"

namespace eidetic::kernels {

// The `k` best inner products of each query with fp16 vectors, best first; equal scores in order
// of row. queries [query_count, dim] fp32, vectors [vector_count, dim] fp16 (IEEE bits), `live` one
// byte a vector (0: skip) or null. rows and scores [query_count, k]; missing ones are -1 and -inf.
// Fans out over at most `threads` threads.
void TopKInnerProducts(const float* queries, int query_count, int dim, const uint16_t* vectors,
                       int64_t vector_count, const uint8_t* live, int k, int threads, int64_t* rows,
                       float* scores);

// scores [query_count, tokens]: queries [query_count, dim] with the rows of kv head `kv_head` of
// one coded payload of [tokens, kv_heads, dim], times `scale`.
void ScorePayload(const float* queries, int query_count, Codec codec, const uint8_t* payload,
                  int tokens, int kv_heads, int dim, int kv_head, float scale, float* scores);

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_KEY_SCORE_H_
