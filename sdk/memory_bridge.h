// The only place where model/ and memory/ meet: evicted keys and values become memory blocks, and
// scoring queries become a span.
#ifndef EIDETIC_SDK_MEMORY_BRIDGE_H_
#define EIDETIC_SDK_MEMORY_BRIDGE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "memory/block.h"
#include "memory/block_store.h"
#include "memory/representative_index.h"
#include "memory/retriever.h"
#include "memory/span_choice.h"
#include "model/seams.h"

namespace eidetic::sdk {

// Cuts evicted runs into blocks, codes them and hands them on, in order. Errors leave as
// StatusError.
class BlockWriter : public model::BlockSink {
 public:
  // `text_offset(position)`: the byte of the document or session at which that token begins; asked
  // once per block edge, also for the position after the last token. `append` takes each block.
  BlockWriter(memory::Layout layout, std::function<uint64_t(uint64_t position)> text_offset,
              std::function<memory::Status(memory::Block)> append);
  void Accept(const model::EvictedRun& run) override;

 private:
  memory::Layout layout_;
  std::function<uint64_t(uint64_t)> text_offset_;
  std::function<memory::Status(memory::Block)> append_;
};

// How one block served one layer.
struct LayerUse {
  uint64_t selections = 0;      // spans that held the block
  double read_attention = 0;    // attention mass paid while reading, summed over tokens
  double answer_attention = 0;  // likewise, by one-token steps of generation
};

// How one block served since the record was cleared (rule 5).
struct BlockUse {
  int source = 0;
  memory::IndexedBlock block;
  double retrieval = 0;            // retrieval mass, summed over selections
  bool by_attention = false;       // attention chose it at least once
  bool by_words = false;           // it was pinned
  double word_score = 0;           // of the place it was pinned with
  std::map<int, LayerUse> layers;  // by model layer
};

// What one layer did since the record was cleared.
struct LayerTotals {
  uint64_t selections = 0;     // spans chosen for it
  uint64_t read_tokens = 0;    // tokens behind read_attention
  uint64_t answer_tokens = 0;  // tokens behind answer_attention
};

// What happened since the record was cleared.
struct RecallRecord {
  std::map<std::tuple<int, memory::LineageId, uint64_t>, BlockUse> uses;
  uint64_t selections = 0;            // spans chosen, each for one layer
  std::map<int, LayerTotals> layers;  // by model layer
  double seconds = 0;                 // spent choosing and fetching
};

enum class RecallChoice { kAttention, kRandom };

// Answers the model's queries out of any number of searched sets. Not thread-safe.
class Recall : public model::SpanSource {
 public:
  Recall(memory::RetrievalOptions options, RecallChoice choice, uint64_t seed);

  // The next pass's choices are of its queries alone: what the pass before chose does not linger.
  // For a pass that does not go on where the last one ended, or looks at other things.
  void ForgetLastChoice() { last_.clear(); }

  // The sets to search; they must outlive the next calls. Their order gives BlockUse::source.
  // Begins an epoch (model/seams.h).
  void SetSources(std::vector<memory::RetrievalSource> sources);
  const std::vector<memory::RetrievalSource>& sources() const { return sources_; }
  // Called when a chosen block is gone because its document was removed or replaced since the
  // sources were set: sets them anew, in the same order, and the layer chooses again.
  void SetRefresh(std::function<memory::Status()> refresh) { refresh_ = std::move(refresh); }

  // Who chooses from now on, and the words' share.
  void SetPolicy(memory::RecallPolicy policy, const memory::WordShare& share) {
    policy_ = policy;
    share_ = share;
  }
  // From now on `layers`, ascending, share choices in groups of `group` in a row: the first one of
  // each chooses, the others get its blocks. Not those drawn at random.
  void ShareChoices(const std::vector<int>& layers, int group);

  // The blocks that words pinned: by source, lineage and position, as PinPlaces gives them. They
  // stay across SetSources.
  void SetPinned(std::vector<memory::PinnedBlock> pinned) { pinned_ = std::move(pinned); }
  const std::vector<memory::PinnedBlock>& pinned() const { return pinned_; }

  // Source number `source` is gone for good: with its pins and what the record says of it. The
  // numbers of those after it become one less, as they will be in the next SetSources.
  void DropSource(int source);

  kernels::SpanView Select(const model::ScoringQueries& queries) override;
  void Attended(int layer, const double* mass, int page_count, int tokens) override;

  const RecallRecord& record() const { return record_; }
  void ClearRecord() { record_ = RecallRecord(); }
  // Where the draws of kRandom stand: a session that is opened again goes on with the same ones.
  uint64_t random_state() const { return random_; }
  void SetRandomState(uint64_t state) { random_ = state; }
  // Whether attention that is reported now belongs to an answer, not to reading.
  void SetAnswering(bool answering) { answering_ = answering; }

 private:
  // `first`: a choice that was made for this pass may be shared.
  memory::Status Choose(const model::ScoringQueries& queries, bool first,
                        std::vector<memory::ChosenBlock>* chosen);
  memory::Status FetchPages(const std::vector<memory::ChosenBlock>& chosen, int layer);
  BlockUse& UseOf(const memory::ChosenBlock& chosen);

  memory::RetrievalOptions options_;
  RecallChoice choice_;
  memory::RecallPolicy policy_ = memory::RecallPolicy::kAttention;
  memory::WordShare share_;
  std::vector<memory::PinnedBlock> pinned_;
  uint64_t random_;
  bool answering_ = false;
  std::vector<memory::RetrievalSource> sources_;
  std::function<memory::Status()> refresh_;
  RecallRecord record_;
  std::map<int, int> leaders_;  // layers that take another's choice, and whose
  std::map<int, std::vector<memory::ChosenBlock>> chosen_;  // by layer: its last choice
  // By layer: what attention chose last for it, of which a single token's choice lets some linger.
  std::map<int, std::vector<memory::ChosenBlock>> last_;
  // The span selected last, and what keeps its bytes alive.
  std::vector<memory::PayloadPtr> payloads_;
  std::vector<kernels::SpanPage> pages_;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_MEMORY_BRIDGE_H_
