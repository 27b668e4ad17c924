// Blocks and lineages over a record store: the truth from which every index is rebuilt (rule 1).
//
// A lineage has a committed length. A writer may put blocks beyond it; they become part of the
// lineage when Commit() advances the length in the same batch, and are swept away when the store is
// opened if that never happened: what was not acknowledged is absent as a whole (rule 2).
#ifndef EIDETIC_MEMORY_BLOCK_STORE_H_
#define EIDETIC_MEMORY_BLOCK_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/block.h"
#include "memory/record_store.h"

namespace eidetic::memory {

enum class Part : uint8_t { kKeys = 0, kValues = 1 };  // values stand in files

// Names one payload. Ordered as on disk.
struct PayloadKey {
  LineageId lineage = 0;
  int layer = 0;  // model layer
  Part part = Part::kKeys;
  uint64_t position = 0;
  bool operator==(const PayloadKey&) const = default;
};

// A verified payload in the host pool, shared by whoever reads it.
struct Payload {
  kernels::Codec codec;
  int tokens = 0;
  std::string bytes;  // as block_codec.h lays it out
};
using PayloadPtr = std::shared_ptr<const Payload>;

struct LineageRecord {
  LineageId id = 0;
  Layout layout;
  uint64_t begin = 0;             // position of its first block: where a session left another one
  uint64_t committed_tokens = 0;  // the position up to which it is committed; at least `begin`
  uint64_t committed_blocks = 0;
  std::string owner;  // "document/<id>" or "session/<name>": says who to ask, and what is an orphan
};

struct PoolStats {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t bytes = 0;
  uint64_t budget = 0;
};

class BlockStore;

// Appends blocks to one lineage. Not thread-safe; one writer per lineage at a time.
class LineageWriter {
 public:
  // Takes over the block (assigns id and lineage; `id`, when not null, gets the id). Positions must
  // follow on: kInvalidArgument otherwise. Buffers up to `flush_bytes`, then writes without
  // committing.
  Status Append(Block block, BlockId* id = nullptr);
  // Writes what is buffered without committing: readable from now on, durable with the next Commit.
  Status Flush();
  // Everything appended so far, the new length and `extra` (may be empty) become durable in one
  // atomic batch. On failure nothing of it is there, and the same Commit may be tried again (the
  // RocksDB store refuses writes after a failed one: open it again and resume).
  Status Commit(RecordBatch extra = {});

  LineageId lineage() const { return record_.id; }
  const Layout& layout() const { return record_.layout; }
  uint64_t begin() const { return record_.begin; }
  uint64_t position() const { return position_; }  // appended so far
  uint64_t committed() const { return record_.committed_tokens; }
  // Of the whole lineage, also before this writer.
  uint64_t blocks_appended() const { return blocks_; }
  // Bytes of records by this writer.
  uint64_t bytes_appended() const { return bytes_; }

 private:
  friend class BlockStore;
  LineageWriter(BlockStore* store, LineageRecord record, size_t flush_bytes);
  BlockStore* store_;
  LineageRecord record_;
  RecordBatch pending_;
  size_t flush_bytes_;
  uint64_t position_ = 0;
  uint64_t blocks_ = 0;
  uint64_t bytes_ = 0;
  bool marked_ = false;  // the store knows that there may be blocks past the committed length
};

// Thread-safe.
class BlockStore {
 public:
  // Unless `read_only`: reads the counters, and sweeps uncommitted tails of lineages and blocks of
  // lineages that were never committed. `pool_bytes`: the budget of the host pool.
  static Result<std::unique_ptr<BlockStore>> Open(std::shared_ptr<RecordStore> records,
                                                  uint64_t pool_bytes, bool read_only);

  // A new, empty lineage whose first block stands at `begin`: durable with the first Commit.
  Result<std::unique_ptr<LineageWriter>> NewLineage(const Layout& layout, std::string owner,
                                                    uint64_t begin = 0);
  // Goes on at the committed length.
  Result<std::unique_ptr<LineageWriter>> ResumeLineage(LineageId lineage);

  Result<LineageRecord> Lineage(LineageId lineage) const;
  Result<std::vector<LineageRecord>> Lineages() const;
  // Adds to `batch` the removal of everything of a lineage, damaged or not; drops it from the pool
  // when `batch` has been written, by ForgetPooled.
  Status RemoveLineage(LineageId lineage, RecordBatch* batch) const;
  void ForgetPooled(LineageId lineage);
  // Adds to `batch` what shortens a lineage: it then has `blocks` blocks, up to position `end`,
  // which is the edge of one. The caller knows that nobody writes it or sees what goes;
  // ForgetPooled as above.
  Status TruncateLineage(LineageId lineage, uint64_t end, uint64_t blocks,
                         RecordBatch* batch) const;

  // Calls `visit` for every committed block of a lineage that begins before `end`, by position.
  // Representatives are fp16 [layers, kv_heads, count, head_dim]. Verified (rule 3).
  Status ScanBlocks(
      LineageId lineage,
      const std::function<Status(const BlockHeader& header,
                                 const std::vector<uint16_t>& representatives)>& visit,
      uint64_t end = UINT64_MAX) const;
  // Payloads in the order of `keys`, from the pool or the store. The first damaged or missing one
  // is the error (names the block); kNotFound when its lineage was removed.
  Status ReadPayloads(const std::vector<PayloadKey>& keys, std::vector<PayloadPtr>* payloads) const;
  // The header and representatives of one block; as ScanBlocks gives them.
  Status ReadBlock(LineageId lineage, uint64_t position, BlockHeader* header,
                   std::vector<uint16_t>* representatives) const;
  // A payload straight from the store, past the pool: for verification.
  Result<Payload> ReadPayloadUncached(const PayloadKey& key) const;

  PoolStats pool_stats() const;
  RecordStore& records() const { return *records_; }
  // "block 12 (lineage 3 of document/2, position 64), layer 7, keys": for messages.
  std::string Describe(const PayloadKey& key) const;

 private:
  friend class LineageWriter;
  // (the implementation's business: pool, counters, mutexes)
  struct Impl;
  BlockStore(std::shared_ptr<RecordStore> records, std::unique_ptr<Impl> impl);
  Status CheckWritable() const;
  Status SweepUncommitted();
  Result<BlockId> NextBlockId();
  // The same error with the block's name before it.
  static Status Named(const Status& status, const LineageRecord& lineage, std::string_view key);
  Status PayloadError(const PayloadKey& key, const Status& status) const;
  std::shared_ptr<RecordStore> records_;
  std::unique_ptr<Impl> impl_;

 public:
  ~BlockStore();
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_BLOCK_STORE_H_
