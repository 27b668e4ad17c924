#include "memory/block_store.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "memory/format.h"
#include "memory/id_counter.h"
#include "memory/payload_pool.h"

namespace eidetic::memory {
namespace {

constexpr size_t kFlushBytes = 4u << 20;
constexpr uint64_t kBlockReservation = 1u << 16;

// Adds the removal of everything of a lineage at and past `position`.
void RemoveTail(const LineageRecord& lineage, uint64_t position, RecordBatch* batch) {
  batch->DeleteRange(Family::kEmbeddings, format::EmbeddingKey(lineage.id, position),
                     format::PrefixEnd(format::LineagePrefix(lineage.id)));
  for (int layer : lineage.layout.layers) {
    for (Part part : {Part::kKeys, Part::kValues}) {
      batch->DeleteRange(Family::kBlocks,
                         format::PayloadRecordKey({lineage.id, layer, part, position}),
                         format::PrefixEnd(format::PayloadPrefix(lineage.id, layer, part)));
    }
  }
  batch->Delete(Family::kMeta, format::UncommittedKey(lineage.id));
}

void RemoveAll(LineageId lineage, RecordBatch* batch) {
  const std::string begin = format::LineagePrefix(lineage);
  const std::string end = format::PrefixEnd(begin);
  batch->DeleteRange(Family::kBlocks, begin, end);
  batch->DeleteRange(Family::kEmbeddings, begin, end);
  batch->Delete(Family::kMeta, format::LineageKey(lineage));
  batch->Delete(Family::kMeta, format::UncommittedKey(lineage));
}

}  // namespace

struct BlockStore::Impl {
  Impl(uint64_t pool_bytes) : pool(pool_bytes) {}
  PayloadPool pool;
  // Null when read-only.
  std::unique_ptr<IdCounter> blocks;
  std::unique_ptr<IdCounter> lineages;
};

BlockStore::BlockStore(std::shared_ptr<RecordStore> records, std::unique_ptr<Impl> impl)
    : records_(std::move(records)), impl_(std::move(impl)) {}

BlockStore::~BlockStore() = default;

Result<std::unique_ptr<BlockStore>> BlockStore::Open(std::shared_ptr<RecordStore> records,
                                                     uint64_t pool_bytes, bool read_only) {
  auto impl = std::make_unique<Impl>(pool_bytes);
  if (!read_only) {
    EID_ASSIGN_OR_RETURN(
        impl->blocks, IdCounter::Open(records.get(), format::Counter::kBlock, kBlockReservation));
    EID_ASSIGN_OR_RETURN(impl->lineages,
                         IdCounter::Open(records.get(), format::Counter::kLineage, 1));
  }
  auto store = std::unique_ptr<BlockStore>(new BlockStore(std::move(records), std::move(impl)));
  if (!read_only) EID_RETURN_IF_ERROR(store->SweepUncommitted());
  return store;
}

Status BlockStore::SweepUncommitted() {
  std::vector<LineageId> marked;
  const std::string prefix = format::TagPrefix(format::MetaTag::kUncommitted);
  EID_RETURN_IF_ERROR(
      records_->Scan(Family::kMeta, prefix, format::PrefixEnd(prefix),
                     [&](std::string_view key, std::string_view) -> Status {
                       // The key says it all: a damaged value must not keep the tail.
                       EID_ASSIGN_OR_RETURN(
                           uint64_t id, format::ParseTaggedId(format::MetaTag::kUncommitted, key));
                       marked.push_back(id);
                       return {};
                     }));
  if (marked.empty()) return {};
  RecordBatch batch;
  for (LineageId id : marked) {
    Result<LineageRecord> lineage = Lineage(id);
    if (lineage.ok()) {
      RemoveTail(*lineage, lineage->committed_tokens, &batch);
    } else if (lineage.status().code() == Code::kNotFound) {
      RemoveAll(id, &batch);
    } else if (lineage.status().code() != Code::kCorruption) {
      // A damaged record is verification's to report: it must not keep the rest from being read.
      return lineage.status();
    }
  }
  return records_->Write(batch, true);
}

Result<std::unique_ptr<LineageWriter>> BlockStore::NewLineage(const Layout& layout,
                                                              std::string owner, uint64_t begin) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(layout.Validate());
  if (owner.size() > format::kMaxOwnerBytes) {
    return Status(Code::kInvalidArgument, "a lineage's owner has " + std::to_string(owner.size()) +
                                              " bytes, at most " +
                                              std::to_string(format::kMaxOwnerBytes));
  }
  LineageRecord record;
  EID_ASSIGN_OR_RETURN(record.id, impl_->lineages->Next());
  record.layout = layout;
  record.begin = begin;
  record.committed_tokens = begin;
  record.owner = std::move(owner);
  return std::unique_ptr<LineageWriter>(new LineageWriter(this, std::move(record), kFlushBytes));
}

Status BlockStore::CheckWritable() const {
  if (impl_->blocks != nullptr) return {};
  return Status(Code::kInvalidArgument, "the store was opened read-only",
                "open it without read_only to write");
}

Result<std::unique_ptr<LineageWriter>> BlockStore::ResumeLineage(LineageId lineage) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_ASSIGN_OR_RETURN(LineageRecord record, Lineage(lineage));
  // An earlier writer of this process may have been given up with blocks past its last commit.
  Result<std::string> mark = records_->Get(Family::kMeta, format::UncommittedKey(lineage));
  if (mark.ok()) {
    RecordBatch batch;
    RemoveTail(record, record.committed_tokens, &batch);
    EID_RETURN_IF_ERROR(records_->Write(batch, false));
    ForgetPooled(lineage);
  } else if (mark.status().code() != Code::kNotFound) {
    return mark.status();
  }
  return std::unique_ptr<LineageWriter>(new LineageWriter(this, std::move(record), kFlushBytes));
}

Result<LineageRecord> BlockStore::Lineage(LineageId lineage) const {
  const std::string key = format::LineageKey(lineage);
  Result<std::string> value = records_->Get(Family::kMeta, key);
  if (!value.ok()) {
    if (value.status().code() != Code::kNotFound) return value.status();
    return Status(Code::kNotFound, "lineage " + std::to_string(lineage) + " is not in the store",
                  "its document or session was removed, or never committed");
  }
  return format::DecodeLineage(key, *value);
}

Result<std::vector<LineageRecord>> BlockStore::Lineages() const {
  std::vector<LineageRecord> lineages;
  const std::string prefix = format::TagPrefix(format::MetaTag::kLineage);
  EID_RETURN_IF_ERROR(records_->Scan(Family::kMeta, prefix, format::PrefixEnd(prefix),
                                     [&](std::string_view key, std::string_view value) -> Status {
                                       EID_ASSIGN_OR_RETURN(LineageRecord lineage,
                                                            format::DecodeLineage(key, value));
                                       lineages.push_back(std::move(lineage));
                                       return {};
                                     }));
  return lineages;
}

Status BlockStore::RemoveLineage(LineageId lineage, RecordBatch* batch) const {
  const Status there = Lineage(lineage).status();
  if (!there.ok() && there.code() != Code::kNotFound && there.code() != Code::kCorruption) {
    return there;
  }
  RemoveAll(lineage, batch);
  return {};
}

Status BlockStore::TruncateLineage(LineageId lineage, uint64_t end, uint64_t blocks,
                                   RecordBatch* batch) const {
  EID_ASSIGN_OR_RETURN(LineageRecord record, Lineage(lineage));
  if (end < record.begin || end > record.committed_tokens || blocks > record.committed_blocks) {
    return Status(Code::kInvalidArgument, "lineage " + std::to_string(lineage) + " of " +
                                              record.owner + " cannot be cut to " +
                                              std::to_string(blocks) + " blocks up to position " +
                                              std::to_string(end));
  }
  RemoveTail(record, end, batch);
  record.committed_tokens = end;
  record.committed_blocks = blocks;
  const std::string key = format::LineageKey(lineage);
  batch->Put(Family::kMeta, key, format::EncodeLineage(key, record));
  return {};
}

void BlockStore::ForgetPooled(LineageId lineage) {
  impl_->pool.Forget(lineage);
}

Status BlockStore::ScanBlocks(
    LineageId lineage,
    const std::function<Status(const BlockHeader&, const std::vector<uint16_t>&)>& visit,
    uint64_t end) const {
  EID_ASSIGN_OR_RETURN(const LineageRecord record, Lineage(lineage));
  end = std::min(end, record.committed_tokens);
  BlockHeader header;
  std::vector<uint16_t> representatives;
  uint64_t position = record.begin;
  uint64_t blocks = 0;
  EID_RETURN_IF_ERROR(records_->Scan(
      Family::kEmbeddings, format::EmbeddingKey(lineage, 0), format::EmbeddingKey(lineage, end),
      [&](std::string_view key, std::string_view value) -> Status {
        EID_RETURN_IF_ERROR(
            Named(format::DecodeEmbedding(key, value, record.layout, &header, &representatives),
                  record, key));
        if (header.position != position) {
          return Status(Code::kCorruption,
                        "lineage " + std::to_string(lineage) + " of " + record.owner +
                            ": its next block should be at position " + std::to_string(position) +
                            ", found one at " + std::to_string(header.position));
        }
        position += header.tokens.size();
        ++blocks;
        return visit(header, representatives);
      }));
  if (end < record.committed_tokens && position >= end) return {};
  if (position == record.committed_tokens && blocks == record.committed_blocks) return {};
  // Nothing is missing when it was removed while we read.
  EID_RETURN_IF_ERROR(Lineage(lineage).status());
  return Status(Code::kCorruption, "lineage " + std::to_string(lineage) + " of " + record.owner +
                                       ": " + std::to_string(blocks) + " blocks up to position " +
                                       std::to_string(position) + " are there, of " +
                                       std::to_string(record.committed_blocks) + " up to " +
                                       std::to_string(record.committed_tokens));
}

Status BlockStore::ReadBlock(LineageId lineage, uint64_t position, BlockHeader* header,
                             std::vector<uint16_t>* representatives) const {
  EID_ASSIGN_OR_RETURN(const LineageRecord record, Lineage(lineage));
  const std::string key = format::EmbeddingKey(lineage, position);
  Result<std::string> value = records_->Get(Family::kEmbeddings, key);
  if (!value.ok()) return Named(value.status(), record, key);
  return Named(format::DecodeEmbedding(key, *value, record.layout, header, representatives), record,
               key);
}

Status BlockStore::Named(const Status& status, const LineageRecord& lineage, std::string_view key) {
  if (status.ok()) return {};
  std::string where = "lineage " + std::to_string(lineage.id) + " of " + lineage.owner;
  Result<format::EmbeddingKeyParts> parts = format::ParseEmbeddingKey(key);
  if (parts.ok()) {
    where = "the block at position " + std::to_string(parts->position) + " of " + where +
            ", embeddings";
  }
  return Status(status.code(), where + ": " + status.message(), status.remedy());
}

std::string BlockStore::Describe(const PayloadKey& key) const {
  BlockHeader header;
  std::vector<uint16_t> representatives;
  const Status known = ReadBlock(key.lineage, key.position, &header, &representatives);
  const Result<LineageRecord> lineage = Lineage(key.lineage);
  return (known.ok() ? "block " + std::to_string(header.id) : std::string("a block")) +
         " (lineage " + std::to_string(key.lineage) +
         (lineage.ok() ? " of " + lineage->owner : std::string()) + ", position " +
         std::to_string(key.position) + "), layer " + std::to_string(key.layer) + ", " +
         (key.part == Part::kKeys ? "keys" : "values");
}

Status BlockStore::PayloadError(const PayloadKey& key, const Status& status) const {
  if (status.code() != Code::kNotFound) {
    return Status(status.code(), Describe(key) + ": " + status.message(), status.remedy());
  }
  const Result<LineageRecord> lineage = Lineage(key.lineage);
  if (!lineage.ok()) return lineage.status();
  if (key.position < lineage->committed_tokens && lineage->layout.LayerIndex(key.layer) >= 0) {
    return Status(Code::kCorruption, Describe(key) + ": the record is missing",
                  "the archive is damaged there: run `eidetic memory verify`, and ingest the named "
                  "document again");
  }
  return Status(Code::kNotFound, Describe(key) + ": there is no such payload");
}

Status BlockStore::ReadPayloads(const std::vector<PayloadKey>& keys,
                                std::vector<PayloadPtr>* payloads) const {
  impl_->pool.Find(keys, payloads);
  std::vector<size_t> missing;
  for (size_t i = 0; i < keys.size(); ++i) {
    if ((*payloads)[i] == nullptr) missing.push_back(i);
  }
  if (missing.empty()) return {};

  const uint64_t epoch = impl_->pool.epoch();
  std::vector<std::string> record_keys;
  record_keys.reserve(missing.size());
  for (size_t i : missing) record_keys.push_back(format::PayloadRecordKey(keys[i]));
  std::vector<Result<std::string>> values = records_->MultiGet(Family::kBlocks, record_keys);
  for (size_t m = 0; m < missing.size(); ++m) {
    const PayloadKey& key = keys[missing[m]];
    if (!values[m].ok()) return PayloadError(key, values[m].status());
    Result<Payload> payload = format::DecodePayload(record_keys[m], *values[m]);
    if (!payload.ok()) return PayloadError(key, payload.status());
    auto shared = std::make_shared<const Payload>(std::move(payload).value());
    impl_->pool.Insert(key, shared, epoch);
    (*payloads)[missing[m]] = std::move(shared);
  }
  return {};
}

Result<Payload> BlockStore::ReadPayloadUncached(const PayloadKey& key) const {
  const std::string record_key = format::PayloadRecordKey(key);
  Result<std::string> value = records_->Get(Family::kBlocks, record_key);
  if (!value.ok()) return PayloadError(key, value.status());
  Result<Payload> payload = format::DecodePayload(record_key, *value);
  if (!payload.ok()) return PayloadError(key, payload.status());
  return payload;
}

PoolStats BlockStore::pool_stats() const {
  return impl_->pool.stats();
}

Result<BlockId> BlockStore::NextBlockId() {
  return impl_->blocks->Next();
}

}  // namespace eidetic::memory
