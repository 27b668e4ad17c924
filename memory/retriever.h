// Two-stage choice of the span of one layer (measured: docs/decisions/ and the project's README):
// candidates by representatives, then rescoring on the real keys.
//
// 1. Each (query token, head) takes its `votes` best representatives of its kv head over all
//    sources; a softmax over these, summed per block and averaged over tokens and heads, ranks the
//    blocks; the best `candidates` go on.
// 2. Each (token, head) scores all keys of the candidates; a softmax over these keys, summed per
//    block, averaged likewise; the best `k` are chosen. One choice for all heads of the layer.
//
//    What was chosen for the token before competes with `linger` of its weight then, where that is
//    more than its mass now: the larger of the two is its weight.
//
// 3. Each of the `successors` heaviest brings the block that comes after it in its text, in the
//    place of the lightest where the span is full: what a block's end begins is asked for by
//    nobody yet.
//
// Blocks without a vote are no candidates, except when all blocks of the sources are no more than
// `candidates`: then the first stage would choose nothing and is left out. Whatever ties is taken
// in the order of source, lineage, position. Scores are fp32, sums double; both in a fixed order,
// so that the number of threads and what is in the host pool never change the choice (rule 9).
//
// Queries come rotated by the model; keys are stored before rotation; nothing is rotated here.
#ifndef EIDETIC_MEMORY_RETRIEVER_H_
#define EIDETIC_MEMORY_RETRIEVER_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "memory/block_store.h"
#include "memory/representative_index.h"

namespace eidetic::memory {

// A searched set of blocks. Both must outlive the retriever's use of them.
struct RetrievalSource {
  const RepresentativeIndex* index = nullptr;
  const BlockStore* store = nullptr;
  // Its lineages are one text, which goes on in the next source if that is of one text too: the
  // past of a session. Otherwise each lineage is a text of its own.
  bool is_one_text = false;
};

struct RetrievalOptions {
  int k = 16;            // blocks in the span
  int candidates = 128;  // at least k are taken; 0: no rescoring, the k best by representatives
  int votes = 16;        // representatives per query token and head
  int successors = 0;    // blocks that bring the one after them; 0: none does
  double linger = 0;     // of the last choice's weights, what still counts; 0..1, 0: nothing
  float scale = 0;       // of inner products before the softmax: the model's attention scale; > 0
  int threads = 0;       // 0: all cores
};

struct ChosenBlock {
  int source = 0;  // index in the sources given
  IndexedBlock block;
  // Of the stage that chose; 0..1, sums to at most 1 over the choice. 0 for a block that lingers or
  // was brought and did not come so far itself.
  double mass = 0;
  // Why it is in the span: one or both (memory/span_choice.h).
  bool by_attention = true;
  bool by_words = false;
  double word_score = 0;  // of the place it was pinned with
  // The weight of the block before it, which brought it; 0: it was not brought.
  double bringer_weight = 0;
  double lingering = 0;  // what still counts of its weight in the last choice
  int64_t ordinal = -1;  // in its source's index; -1: not said
  double weight() const { return std::max(mass, lingering); }
};

// queries [tokens, heads, head_dim] fp32; heads is a multiple of kv_heads, query head h belongs to
// kv head h / (heads / kv_heads).
struct LayerQueries {
  int layer = 0;  // model layer
  const float* data = nullptr;
  int tokens = 0;
  int heads = 0;
  // The layer's choice for the token before, of the same sources; what is no longer in them does
  // not linger. Null: there was none.
  const std::vector<ChosenBlock>* last = nullptr;
};

// The choice, by source, lineage and position (oldest first). Empty when there is nothing to
// choose from. kInvalidArgument when a source does not store the layer, an option is out of range
// or a query is not finite; kFingerprintMismatch when the sources are of different models (rule 4);
// kCorruption and the like from the store, and when a payload is not what the index says (rule 3).
Status ChooseBlocks(const std::vector<RetrievalSource>& sources, const RetrievalOptions& options,
                    const LayerQueries& queries, std::vector<ChosenBlock>* chosen);

// The control: k blocks drawn uniformly without replacement, in the same order, mass 0. `random` is
// a 64-bit state, advanced by the draw: the same state gives the same choice.
Status ChooseRandomBlocks(const std::vector<RetrievalSource>& sources, int k, uint64_t* random,
                          std::vector<ChosenBlock>* chosen);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_RETRIEVER_H_
