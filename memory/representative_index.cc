#include "memory/representative_index.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace eidetic::memory {
namespace {

// Blocks gathered before they go into the indexes: enough to make the calls rare, little enough to
// stay in the cache's reach (4 MB for ten layers of 3 x 64).
constexpr int64_t kBlocksStaged = 256;

std::string BlockName(const BlockHeader& header) {
  return "block " + std::to_string(header.id) + " (lineage " + std::to_string(header.lineage) +
         ", position " + std::to_string(header.position) + ")";
}

}  // namespace

// Representatives of consecutive blocks, sorted by the index they belong to.
struct RepresentativeIndex::Staged {
  std::vector<std::vector<uint16_t>> vectors;  // [layers, kv_heads] of [ids, head_dim]
  std::vector<int64_t> ids;
  std::vector<IndexedBlock> blocks;

  void Clear() {
    for (std::vector<uint16_t>& one : vectors) one.clear();
    ids.clear();
    blocks.clear();
  }

  // `ordinal`: of this block. Sizes were checked.
  void Push(const BlockHeader& header, const std::vector<uint16_t>& representatives, int count,
            int head_dim, int64_t ordinal, int64_t ids_per_block) {
    const size_t numbers = static_cast<size_t>(count) * static_cast<size_t>(head_dim);
    for (size_t i = 0; i < vectors.size(); ++i) {
      const uint16_t* from = representatives.data() + i * numbers;
      vectors[i].insert(vectors[i].end(), from, from + numbers);
    }
    for (int i = 0; i < count; ++i) ids.push_back(ordinal * ids_per_block + i);
    blocks.push_back({header.id, header.lineage, header.position, header.token_count(),
                      header.text_begin, header.text_end});
  }
};

RepresentativeIndex::RepresentativeIndex(Layout layout, IndexKind kind, int threads)
    : layout_(std::move(layout)),
      ids_per_block_(layout_.RepresentativeCount(layout_.block_tokens)) {
  const size_t count = layout_.layers.size() * static_cast<size_t>(layout_.kv_heads);
  indexes_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    indexes_.push_back(NewVectorIndex(kind, layout_.head_dim, threads));
  }
}

Status RepresentativeIndex::CheckBlock(const BlockHeader& header,
                                       const std::vector<uint16_t>& representatives) const {
  if (header.token_count() < 1 || header.token_count() > layout_.block_tokens) {
    return Status(Code::kInvalidArgument,
                  BlockName(header) + " has " + std::to_string(header.token_count()) +
                      " tokens; its layout allows 1 to " + std::to_string(layout_.block_tokens));
  }
  const size_t wanted = indexes_.size() *
                        static_cast<size_t>(layout_.RepresentativeCount(header.token_count())) *
                        static_cast<size_t>(layout_.head_dim);
  if (representatives.size() != wanted) {
    return Status(Code::kInvalidArgument,
                  BlockName(header) + " has " + std::to_string(representatives.size()) +
                      " numbers in its representatives; its layout has " + std::to_string(wanted));
  }
  return Status();
}

Status RepresentativeIndex::CheckLayout(const LineageRecord& record) const {
  if (record.layout.fingerprint != layout_.fingerprint) {
    return Status(Code::kFingerprintMismatch,
                  "lineage " + std::to_string(record.id) + " (" + record.owner +
                      ") was written by a model with the fingerprint " + record.layout.fingerprint +
                      ", the index is of " + layout_.fingerprint,
                  "Use the model that the memory was made with, or ingest again.");
  }
  Layout same_codec = record.layout;
  same_codec.codec = layout_.codec;
  if (!(same_codec == layout_)) {
    return Status(Code::kInvalidArgument, "lineage " + std::to_string(record.id) + " (" +
                                              record.owner +
                                              ") has another layout than the index: layers, "
                                              "heads, head size or block size differ");
  }
  return Status();
}

Status RepresentativeIndex::AddStaged(const Staged& staged) {
  const int64_t first = static_cast<int64_t>(blocks_.size());
  for (const std::unique_ptr<VectorIndex>& index : indexes_) {
    const size_t i = static_cast<size_t>(&index - indexes_.data());
    Status status = index->Add(staged.vectors[i].data(), staged.ids.data(),
                               static_cast<int64_t>(staged.ids.size()));
    if (!status.ok()) {
      RemoveFrom(first);
      const size_t layer = i / static_cast<size_t>(layout_.kv_heads);
      return Status(status.code(),
                    "the representatives of layer " + std::to_string(layout_.layers[layer]) +
                        " of lineage " + std::to_string(staged.blocks.front().lineage) +
                        ", positions " + std::to_string(staged.blocks.front().position) + " to " +
                        std::to_string(staged.blocks.back().position) + ": " + status.message(),
                    status.remedy());
    }
  }
  for (const IndexedBlock& block : staged.blocks) {
    live_.push_back(static_cast<int64_t>(blocks_.size()));
    blocks_.push_back(block);
    ++lineages_[block.lineage];
  }
  return Status();
}

void RepresentativeIndex::RemoveFrom(int64_t first_ordinal) {
  for (const std::unique_ptr<VectorIndex>& index : indexes_) {
    // Removing by range cannot fail in a way that matters here: what stays is never looked up.
    (void)index->RemoveRange(first_ordinal * ids_per_block_, std::numeric_limits<int64_t>::max());
  }
  const auto first_live = std::lower_bound(live_.begin(), live_.end(), first_ordinal);
  for (auto ordinal = first_live; ordinal != live_.end(); ++ordinal) {
    const auto of = lineages_.find(blocks_[static_cast<size_t>(*ordinal)].lineage);
    if (--of->second == 0) lineages_.erase(of);
  }
  live_.erase(first_live, live_.end());
  blocks_.resize(static_cast<size_t>(first_ordinal));
}

Status RepresentativeIndex::Add(const BlockHeader& header,
                                const std::vector<uint16_t>& representatives) {
  EID_RETURN_IF_ERROR(CheckBlock(header, representatives));
  Staged staged;
  staged.vectors.resize(indexes_.size());
  staged.Push(header, representatives, layout_.RepresentativeCount(header.token_count()),
              layout_.head_dim, static_cast<int64_t>(blocks_.size()), ids_per_block_);
  return AddStaged(staged);
}

Status RepresentativeIndex::AddLineage(const BlockStore& store, LineageId lineage,
                                       IndexedBlocks which) {
  EID_ASSIGN_OR_RETURN(const LineageRecord record, store.Lineage(lineage));
  EID_RETURN_IF_ERROR(CheckLayout(record));
  if (lineages_.count(lineage) > 0) {
    return Status(Code::kAlreadyExists,
                  "blocks of lineage " + std::to_string(lineage) + " are in the index already",
                  "Remove the lineage from the index first.");
  }
  const int64_t first = static_cast<int64_t>(blocks_.size());
  Staged staged;
  staged.vectors.resize(indexes_.size());
  Status status = store.ScanBlocks(
      lineage, [&](const BlockHeader& header, const std::vector<uint16_t>& representatives) {
        EID_RETURN_IF_ERROR(CheckBlock(header, representatives));
        if (which == IndexedBlocks::kWithText && header.text_begin == header.text_end) {
          return Status();
        }
        const int64_t ordinal = static_cast<int64_t>(blocks_.size() + staged.blocks.size());
        staged.Push(header, representatives, layout_.RepresentativeCount(header.token_count()),
                    layout_.head_dim, ordinal, ids_per_block_);
        if (static_cast<int64_t>(staged.blocks.size()) < kBlocksStaged) return Status();
        EID_RETURN_IF_ERROR(AddStaged(staged));
        staged.Clear();
        return Status();
      });
  if (status.ok() && !staged.blocks.empty()) status = AddStaged(staged);
  if (!status.ok()) RemoveFrom(first);
  return status;
}

Status RepresentativeIndex::RemoveLineage(LineageId lineage) {
  if (lineages_.count(lineage) == 0) return Status();
  for (size_t i = 0; i < live_.size();) {
    if (blocks_[static_cast<size_t>(live_[i])].lineage != lineage) {
      ++i;
      continue;
    }
    size_t end = i + 1;  // of a run of consecutive ordinals of this lineage
    while (end < live_.size() && live_[end] == live_[end - 1] + 1 &&
           blocks_[static_cast<size_t>(live_[end])].lineage == lineage) {
      ++end;
    }
    for (const std::unique_ptr<VectorIndex>& index : indexes_) {
      EID_RETURN_IF_ERROR(
          index->RemoveRange(live_[i] * ids_per_block_, (live_[end - 1] + 1) * ids_per_block_));
    }
    i = end;
  }
  const auto gone = [&](int64_t ordinal) {
    IndexedBlock& block = blocks_[static_cast<size_t>(ordinal)];
    if (block.lineage != lineage) return false;
    block = IndexedBlock();
    return true;
  };
  live_.erase(std::remove_if(live_.begin(), live_.end(), gone), live_.end());
  lineages_.erase(lineage);
  return Status();
}

Status RepresentativeIndex::Search(int layer_index, int kv_head, const float* queries,
                                   int query_count, int k, int64_t* ordinals, float* scores) const {
  if (layer_index < 0 || layer_index >= static_cast<int>(layout_.layers.size()) || kv_head < 0 ||
      kv_head >= layout_.kv_heads) {
    return Status(Code::kInvalidArgument,
                  "a search in layer index " + std::to_string(layer_index) + ", kv head " +
                      std::to_string(kv_head) + " of an index with " +
                      std::to_string(layout_.layers.size()) + " layers of " +
                      std::to_string(layout_.kv_heads) + " kv heads");
  }
  const size_t at = static_cast<size_t>(layer_index) * static_cast<size_t>(layout_.kv_heads) +
                    static_cast<size_t>(kv_head);
  EID_RETURN_IF_ERROR(indexes_[at]->Search(queries, query_count, k, ordinals, scores));
  const size_t places = static_cast<size_t>(query_count) * static_cast<size_t>(k);
  for (size_t i = 0; i < places; ++i) {
    if (ordinals[i] >= 0) ordinals[i] /= ids_per_block_;
  }
  return Status();
}

const IndexedBlock* RepresentativeIndex::Successor(const IndexedBlock& block,
                                                   bool in_any_lineage) const {
  // Blocks of a text are added in order, so it has the next ordinal or is none.
  const IndexedBlock* next = &block + 1;
  const bool follows = next != blocks_.data() + blocks_.size() && next->id != 0 &&
                       (in_any_lineage || next->lineage == block.lineage) &&
                       next->position == block.end();
  return follows ? next : nullptr;
}

int64_t RepresentativeIndex::OrdinalOf(const IndexedBlock& block) const {
  return &block - blocks_.data();
}

const IndexedBlock* RepresentativeIndex::Find(int64_t ordinal, const IndexedBlock& known) const {
  if (ordinal < 0 || ordinal >= static_cast<int64_t>(blocks_.size())) return nullptr;
  const IndexedBlock& its = block(ordinal);
  const bool same =
      its.id == known.id && its.lineage == known.lineage && its.position == known.position;
  return same ? &its : nullptr;
}

const IndexedBlock& RepresentativeIndex::block(int64_t ordinal) const {
  return blocks_[static_cast<size_t>(ordinal)];
}

std::vector<LineageId> RepresentativeIndex::lineages() const {
  std::vector<LineageId> ids;
  for (const auto& [lineage, blocks] : lineages_) ids.push_back(lineage);
  return ids;
}

uint64_t RepresentativeIndex::bytes() const {
  uint64_t bytes = blocks_.size() * sizeof(IndexedBlock) + live_.size() * sizeof(int64_t);
  for (const std::unique_ptr<VectorIndex>& index : indexes_) bytes += index->bytes();
  return bytes;
}

}  // namespace eidetic::memory
