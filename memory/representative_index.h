// The representatives of many blocks, searchable per layer and kv head: one VectorIndex each.
#ifndef EIDETIC_MEMORY_REPRESENTATIVE_INDEX_H_
#define EIDETIC_MEMORY_REPRESENTATIVE_INDEX_H_

#include <cstdint>
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
};

// Searches may run at the same time as each other, not as Add or RemoveLineage.
class RepresentativeIndex {
 public:
  RepresentativeIndex(Layout layout, IndexKind kind, int threads);

  // representatives: fp16 [layers, kv_heads, count, head_dim], as stored.
  Status Add(const BlockHeader& header, const std::vector<uint16_t>& representatives);
  // Every committed block of a lineage, from the store.
  Status AddLineage(const BlockStore& store, LineageId lineage);
  Status RemoveLineage(LineageId lineage);

  // The k best representatives of each query of one kv head. queries [query_count, head_dim];
  // ordinals and scores [query_count, k]: the block's ordinal for block(), -1 and -inf when
  // missing.
  Status Search(int layer_index, int kv_head, const float* queries, int query_count, int k,
                int64_t* ordinals, float* scores) const;

  const IndexedBlock& block(int64_t ordinal) const;
  // All live ordinals, for the random control.
  const std::vector<int64_t>& live() const { return live_; }
  int64_t size() const { return static_cast<int64_t>(live_.size()); }
  uint64_t bytes() const;
  const Layout& layout() const { return layout_; }

 private:
  Layout layout_;
  std::vector<std::unique_ptr<VectorIndex>> indexes_;  // [layers, kv_heads]
  std::vector<IndexedBlock> blocks_;                   // by ordinal
  std::vector<int64_t> live_;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_REPRESENTATIVE_INDEX_H_
