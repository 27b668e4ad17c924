// Attention over a whole sequence as a stream reads it: in segments, over [sinks | span | window |
// segment] with rotary positions compact in that order, the span chosen by keys. What
// HybridModel's AttentionMode::kStream and memory/retriever.h do together when a text is read in
// segments with its span on, as one pure function: for training a model on the attention that it
// will have, and for evaluating it.
//
// Of segment i, whose first token is p (StreamReading has the names):
// - the first `sinks` tokens of the sequence are always attended, once they were read;
// - the window is what stands behind them and has not left: of what exceeds `window` tokens after
//   a segment, whole blocks of `block_tokens` leave;
// - candidates are the blocks that left, without the sinks. Every query token and head, its query
//   rotated by query_offset and keys not rotated, votes for its best `votes` means of
//   representative_tokens keys by a softmax over these; the `candidates` blocks with most votes are
//   scored on all their keys, by a softmax over all of these; the span_blocks with the largest sum
//   over tokens and heads are the span, but each of the first `successors` brings the block after
//   it, in the place of the last. One choice for all heads, no gradient through it. Where there are
//   no more than `candidates` blocks nobody votes;
// - causal attention of the segment over all of it. Gradients reach queries, keys and values, those
//   of the span among them.
//
// Differences to a stream: blocks are as they were computed, not coded in int8 or fp16; when fewer
// blocks than span_blocks got a vote, the earliest of the others fill up the span; in bf16 scores
// are rounded to bf16, so of nearly equal blocks another one may be chosen.
#ifndef EIDETIC_MODEL_STREAM_ATTENTION_H_
#define EIDETIC_MODEL_STREAM_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include "model/sequence_options.h"

namespace eidetic::model {

// The rows that `angles` below must have.
int64_t StreamPositions(const SequenceAttentionOptions& options);

// query [L, H, d], key and value [L, K, d], NOT rotated, pairs interleaved (model/rotary.h), of one
// floating-point type and device -> [L, H, d], contiguous. Differentiable by all three, once.
//
// angles: (cos, sin) of positions 0 .. StreamPositions - 1 or more, [n, pairs, 2], in fp32 (fp64
// for fp64); not defined: nothing is rotated. `spans`, if given: the choice, int64 [segments, k],
// block numbers (token / block_tokens) ascending, -1 behind the last. It is used when it is
// defined, and set otherwise: a pass that is computed again keeps its choice.
//
// All segments of the same shape are computed together, a few thousand tokens at a time; nothing
// waits for the device. Memory beyond inputs and output: scores of one such piece. The choice
// costs O(L^2 / representative_tokens) inner products, the rest O(L). Thread-safe; the same inputs
// give the same choice (rule 9). Throws Error kInvalidArgument for options out of range or tensors
// that do not fit together.
at::Tensor StreamAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const at::Tensor& angles, const SequenceAttentionOptions& options,
                           at::Tensor* spans = nullptr);

// The choice alone.
at::Tensor ChooseStreamSpans(const at::Tensor& query, const at::Tensor& key,
                             const at::Tensor& angles, const SequenceAttentionOptions& options);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_STREAM_ATTENTION_H_
