#include <limits>
#include <utility>

#include "memory/block_store.h"
#include "memory/format.h"

namespace eidetic::memory {
namespace {

Status Refuse(const LineageRecord& lineage, const std::string& what) {
  return Status(Code::kInvalidArgument, "appending to lineage " + std::to_string(lineage.id) +
                                            " of " + lineage.owner + ": " + what);
}

// Sizes and ranges of a block against the layout: what is stored can be decoded.
Status CheckBlock(const LineageRecord& lineage, const Block& block) {
  const Layout& layout = lineage.layout;
  const int tokens = block.header.token_count();
  if (tokens < 1 || tokens > layout.block_tokens) {
    return Refuse(lineage, "the block has " + std::to_string(tokens) + " tokens, must be 1.." +
                               std::to_string(layout.block_tokens));
  }
  if (block.header.text_begin > block.header.text_end) {
    return Refuse(lineage, "the block's text range " + std::to_string(block.header.text_begin) +
                               ".." + std::to_string(block.header.text_end) + " is reversed");
  }
  if (block.keys.size() != layout.layers.size() || block.values.size() != layout.layers.size()) {
    return Refuse(lineage, "the block has keys of " + std::to_string(block.keys.size()) +
                               " and values of " + std::to_string(block.values.size()) +
                               " layers, the layout stores " +
                               std::to_string(layout.layers.size()));
  }
  const size_t bytes =
      kernels::PayloadBytes(layout.codec, tokens, layout.kv_heads, layout.head_dim);
  for (size_t i = 0; i < layout.layers.size(); ++i) {
    for (const std::string* payload : {&block.keys[i], &block.values[i]}) {
      if (payload->size() != bytes) {
        return Refuse(lineage, "a payload of layer " + std::to_string(layout.layers[i]) + " has " +
                                   std::to_string(payload->size()) + " bytes, must be " +
                                   std::to_string(bytes));
      }
    }
  }
  const size_t numbers = layout.layers.size() *
                         static_cast<size_t>(layout.RepresentativeCount(tokens)) *
                         static_cast<size_t>(layout.RowWidth());
  if (block.representatives.size() != numbers) {
    return Refuse(lineage, "the block has " + std::to_string(block.representatives.size()) +
                               " numbers of representatives, must be " + std::to_string(numbers));
  }
  return {};
}

}  // namespace

LineageWriter::LineageWriter(BlockStore* store, LineageRecord record, size_t flush_bytes)
    : store_(store),
      record_(std::move(record)),
      flush_bytes_(flush_bytes),
      position_(record_.committed_tokens),
      blocks_(record_.committed_blocks) {}

Status LineageWriter::Append(Block block, BlockId* id) {
  EID_RETURN_IF_ERROR(CheckBlock(record_, block));
  if (block.header.position != position_) {
    return Refuse(record_, "the block is at position " + std::to_string(block.header.position) +
                               ", the next one must be at " + std::to_string(position_));
  }
  // Before the block is taken: when this fails, the caller still knows what is in the lineage.
  if (pending_.bytes() >= flush_bytes_) EID_RETURN_IF_ERROR(Flush());

  EID_ASSIGN_OR_RETURN(block.header.id, store_->NextBlockId());
  block.header.lineage = record_.id;
  const int tokens = block.header.token_count();
  const size_t before = pending_.bytes();
  const std::string key = format::EmbeddingKey(record_.id, position_);
  pending_.Put(Family::kEmbeddings, key,
               format::EncodeEmbedding(key, record_.layout, block.header, block.representatives));
  for (size_t i = 0; i < record_.layout.layers.size(); ++i) {
    for (Part part : {Part::kKeys, Part::kValues}) {
      const std::string& bytes = part == Part::kKeys ? block.keys[i] : block.values[i];
      std::string payload_key =
          format::PayloadRecordKey({record_.id, record_.layout.layers[i], part, position_});
      std::string value = format::EncodePayload(payload_key, record_.layout, tokens, bytes);
      pending_.Put(Family::kBlocks, std::move(payload_key), std::move(value));
    }
  }
  bytes_ += pending_.bytes() - before;
  position_ += static_cast<uint64_t>(tokens);
  ++blocks_;
  if (id != nullptr) *id = block.header.id;
  return {};
}

Status LineageWriter::Flush() {
  if (pending_.changes().empty()) return {};
  const size_t count = pending_.changes().size();
  if (!marked_) {
    // In the same batch as the first blocks past the committed length: when they are there after a
    // crash, so is the mark, and they are swept (rule 2).
    const std::string key = format::UncommittedKey(record_.id);
    pending_.Put(Family::kMeta, key, format::EncodeNumber(key, record_.committed_tokens));
  }
  const Status written = store_->records_->Write(pending_, false);
  if (!written.ok()) {
    pending_.Truncate(count);
    return written;
  }
  marked_ = true;
  pending_.Clear();
  return {};
}

Status LineageWriter::Commit(RecordBatch extra) {
  LineageRecord advanced = record_;
  advanced.committed_tokens = position_;
  advanced.committed_blocks = blocks_;
  const size_t count = pending_.changes().size();
  const std::string key = format::LineageKey(record_.id);
  pending_.Put(Family::kMeta, key, format::EncodeLineage(key, advanced));
  if (marked_) pending_.Delete(Family::kMeta, format::UncommittedKey(record_.id));
  pending_.Append(std::move(extra));
  const Status written = store_->records_->Write(pending_, true);
  if (!written.ok()) {
    pending_.Truncate(count);
    return written;
  }
  pending_.Clear();
  marked_ = false;
  record_ = std::move(advanced);
  return {};
}

}  // namespace eidetic::memory
