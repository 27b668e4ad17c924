// The representatives of many blocks, searchable per layer and kv head: one VectorIndex each.
#ifndef EIDETIC_MEMORY_REPRESENTATIVE_INDEX_H_
#define EIDETIC_MEMORY_REPRESENTATIVE_INDEX_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "memory/block.h"
#include "memory/block_store.h"
#include "memory/vector_index.h"

namespace eidetic::memory {

// A block's place in the index: what retrieval needs to know of it without reading it.
struct IndexedBlock {
  BlockId id = 0;
  LineageId lineage = 0;
  uint64_t position = 0;
  int tokens = 0;
  uint64_t text_begin = 0;
  uint64_t text_end = 0;
  uint64_t end() const { return position + static_cast<uint64_t>(tokens); }
};

// Which blocks of a lineage are searched. A block without text (the sinks that a document was read
// behind) can be kept but never be a source.
enum class IndexedBlocks { kAll, kWithText };

// Searches may run at the same time as each other, not as Add or RemoveLineage.
class RepresentativeIndex {
 public:
  RepresentativeIndex(Layout layout, IndexKind kind, int threads);

  // representatives: fp16 [layers, kv_heads, count, head_dim], as stored. Both forms of adding are
  // all or nothing. kInvalidArgument when the sizes are not the layout's or a number is not finite.
  Status Add(const BlockHeader& header, const std::vector<uint16_t>& representatives);
  // Every committed block of a lineage, from the store. kAlreadyExists when blocks of it are here,
  // kFingerprintMismatch or kInvalidArgument when it has another layout (the codec may differ), and
  // the store's errors.
  Status AddLineage(const BlockStore& store, LineageId lineage,
                    IndexedBlocks which = IndexedBlocks::kAll);
  // A lineage that is not here is no error. Ordinals are not used again.
  Status RemoveLineage(LineageId lineage);

  // The k best representatives of each query of one kv head. queries [query_count, head_dim];
  // ordinals and scores [query_count, k]: the block's ordinal for block(), -1 and -inf when
  // missing; a block is there once for each of its representatives among the best.
  Status Search(int layer_index, int kv_head, const float* queries, int query_count, int k,
                int64_t* ordinals, float* scores) const;

  // `ordinal` as Search or live() gave it.
  const IndexedBlock& block(int64_t ordinal) const;
  // The block that was added after `block` and begins where it ends, in its lineage or, for a text
  // that goes on from one lineage to the next, in any; null: there is none. `block` as block() gave
  // it.
  const IndexedBlock* Successor(const IndexedBlock& block, bool in_any_lineage) const;
  // The ordinal of `block`, as block() gave it.
  int64_t OrdinalOf(const IndexedBlock& block) const;
  // A block that was here under that ordinal, or in an index that this one came after, if it is
  // still here under it; else null.
  const IndexedBlock* Find(int64_t ordinal, const IndexedBlock& known) const;
  // The ordinals of all blocks that are here, ascending.
  const std::vector<int64_t>& live() const { return live_; }
  // The lineages that have blocks here, ascending.
  std::vector<LineageId> lineages() const;
  int64_t size() const { return static_cast<int64_t>(live_.size()); }
  uint64_t bytes() const;
  const Layout& layout() const { return layout_; }

 private:
  struct Staged;
  Status CheckBlock(const BlockHeader& header, const std::vector<uint16_t>& representatives) const;
  Status CheckLayout(const LineageRecord& record) const;
  // Puts staged blocks into every index; takes them all out again when one fails.
  Status AddStaged(const Staged& staged);
  void RemoveFrom(int64_t first_ordinal);

  Layout layout_;
  int64_t ids_per_block_;  // a vector's id is its block's ordinal times this, plus its own number
  std::vector<std::unique_ptr<VectorIndex>> indexes_;  // [layers, kv_heads]
  std::vector<IndexedBlock> blocks_;                   // by ordinal; id 0 when removed
  std::vector<int64_t> live_;
  std::map<LineageId, int64_t> lineages_;  // blocks of each that are here
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_REPRESENTATIVE_INDEX_H_
