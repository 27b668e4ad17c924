// What a span is made of when words have a say beside attention: places found by the words of a
// question are pinned, attention chooses the rest.
#ifndef EIDETIC_MEMORY_SPAN_CHOICE_H_
#define EIDETIC_MEMORY_SPAN_CHOICE_H_

#include <string_view>
#include <vector>

#include "memory/representative_index.h"
#include "memory/retriever.h"

namespace eidetic::memory {

// Who chooses the blocks of a span.
enum class RecallPolicy { kAttention = 0, kWords = 1, kBoth = 2 };
const char* RecallPolicyName(RecallPolicy policy);  // "attention", "words", "both"
bool ParseRecallPolicy(std::string_view name, RecallPolicy* policy);

// The words' share of a span, beside the blocks that attention chooses, and what it takes to be in
// the span.
struct WordShare {
  int places = 3;              // the most places that are pinned; one has up to 5 blocks
  double place_threshold = 0;  // a place's score over the best place's, at least; 0..1
  // Policy `both`: a block's weight (retriever.h) over the mass of attention's best block, at
  // least, when anything is pinned; 0..1. The default lets needles through and little else: what
  // attention likes half as well drowns what was pinned (docs/decisions/061).
  double attention_threshold = 0.7;
};

// A place that a search by words found in one of the searched sets.
struct FoundPlace {
  int source = 0;  // index in the sources
  std::vector<IndexedBlock> blocks;
  double score = 0;
};

// A block that stays in the span of every layer until another question is asked.
struct PinnedBlock {
  int source = 0;
  IndexedBlock block;
  double score = 0;  // its place's
  bool operator==(const PinnedBlock& other) const;
};

// The blocks of the best places over all sources, each once, by source, lineage and position.
// Equally good places in the order they are given.
std::vector<PinnedBlock> PinPlaces(std::vector<FoundPlace> places, const WordShare& share);

// Adds pinned blocks to attention's choice (by source, lineage and position, like the result), and
// takes out of it what is below the threshold, but for what was brought by a block that is not. A
// block that both chose says so.
void MergePinned(const std::vector<PinnedBlock>& pinned, const WordShare& share,
                 std::vector<ChosenBlock>* chosen);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_SPAN_CHOICE_H_
