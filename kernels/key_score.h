// Inner products of queries with the keys of stored blocks: what rescoring spends its time on. CPU;
// picks the widest instruction set at run time. Deterministic: a fixed machine and fixed inputs
// give the same bits, whatever the number of threads (rule 9).
#ifndef EIDETIC_KERNELS_KEY_SCORE_H_
#define EIDETIC_KERNELS_KEY_SCORE_H_

#include <cstdint>

#include "kernels/block_codec.h"
#include "kernels/instruction_set.h"

namespace eidetic::kernels {

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
