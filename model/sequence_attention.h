// Attention over a whole sequence as a pure function of queries, keys and values: Span-Expanded
// Attention as published (Nunez et al., "Expansion Span: Combining Fading Memory and Retrieval in
// Hybrid State Space Models", arXiv 2412.13328 v2), its variants, and the baselines beside it. For
// training and for reproducing the paper; generation from a memory that is kept is
// model/attention.h.
//
// Notation: L tokens, H query heads, K key heads, d numbers per head; query head h reads key head
// h / (H / K). M: tokens per chunk; S: tokens per block; k: blocks in a chunk's span.
//
// The published method (mode kPaper), 0-based:
//   summary of block j, query head h:  c_jh = mean over the block's rows of
//                                             softmax(scale Q_jh K_j^T) V_j          (not causal)
//   score of block j for chunk i:      R_ijh = (sum of the chunk's queries q_th) . c_jh
//   span of chunk i:                   the k candidates with the largest R; candidates are blocks
//                                      of earlier chunks, so the first chunk has none
//   output of token t of chunk i:      softmax(scale q_th [span keys, chunk keys up to t]^T)
//                                      [span values, chunk values up to t]
//
// What the paper leaves open, and what is done here (docs/decisions/060-the-paper-as-functions.md):
// - One choice for each key head: R_ij of a key head is the sum over its H / K query heads. Without
//   grouped queries (H = K) that is a choice for each head. `one_choice_for_all_heads` sums over
//   all heads.
// - Keys come rotated and stay so: a chosen key keeps its place in the sequence. The order of the
//   span then changes rounding only; it is the text's order.
// - The largest R is also the largest softmax(R / sqrt(d)), which would be 0 for most blocks in
//   floating point; so R itself is compared. Of equal scores the earlier block wins.
// - A block belongs to the candidates of chunk i when all of it lies before the chunk. Where M is
// no
//   multiple of S, a block across a border is first seen one chunk later. The unfinished block at
//   the sequence's end is nobody's candidate, as the last chunk has no chunk after it.
// - No gradient flows through the choice. It flows through chosen keys and values, and adds up when
//   several chunks choose one block.
//
// CAUSALITY. In kPaper the *choice* of a chunk listens to all queries of the chunk: a token helps
// to decide which blocks earlier tokens of its chunk see. That is the method as published; no value
// of a later token enters an earlier output. All other modes are causal in every respect.
//
// kShiftedSparse is the attention of LongLoRA (Chen et al., arXiv 2309.12307) with the mask that
// keeps it causal: query heads below H / 2 attend within groups [0, g), [g, 2 g), ..., the others
// within [0, h), [h, h + g), ..., where g = ceil(L / groups) and h = floor(g / 2); causally, and
// without joining the last half group to the first one. With g = 1 the two are the same.
//
// kPaperLandmark is the paper's ablation "landmark" without a landmark: a block is known by a key,
// where Mohtashami and Jaggi ("Landmark Attention", arXiv 2305.16300) put a token of its own behind
// each block and train its key to stand for it. No token is put in here, which would need one in
// the vocabulary and move all positions; the key of the block's last token, which has seen the
// whole block, takes its place, and training can make it what it should be. Everything else is
// kPaper's: c_jh is that key of h's key head, so the chunk's summed queries score in key space.
//
// kStream takes keys that are not rotated: model/stream_attention.h.
#ifndef EIDETIC_MODEL_SEQUENCE_ATTENTION_H_
#define EIDETIC_MODEL_SEQUENCE_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/sequence_options.h"

namespace eidetic::model {

// query [L, H, d], key and value [L, K, d], rotated as the model wants them, of one floating-point
// type and device, any strides with a last one of 1 -> [L, H, d], contiguous. Differentiable by all
// three inputs, once.
//
// Memory beyond inputs and output is O(L + M) in the paper's modes and O(L + W) in kWindow, per
// head; no L x L matrix exists in any mode where LibTorch has a fused kernel for the type (not for
// double on CUDA, which is for tests). Thread-safe; no state is kept: the same inputs, options
// and device give the same output (rule 9; LibTorch's kernels decide whether gradients on CUDA
// repeat to the last bit). Throws Error kInvalidArgument for options out of range or tensors that
// do not fit together.
at::Tensor SequenceAttention(const at::Tensor& query, const at::Tensor& key,
                             const at::Tensor& value, const SequenceAttentionOptions& options);

// Throws Error kInvalidArgument for tensors that are none of these, or do not fit together.
void CheckSequenceTensors(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value);

// The spans that SequenceAttention uses: for each chunk the block numbers [K, n], ascending,
// with n = min(k, candidates) (int64, on the inputs' device). Empty for modes other than kPaper,
// kPaperRandom and kPaperLandmark. Same errors.
std::vector<at::Tensor> ChooseSpans(const at::Tensor& query, const at::Tensor& key,
                                    const at::Tensor& value,
                                    const SequenceAttentionOptions& options);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SEQUENCE_ATTENTION_H_
