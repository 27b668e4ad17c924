// The seam under everything that is kept: ordered byte records in five families, changed by atomic
// batches. RocksDB on disk, a map in RAM; both pass the same contract tests, and a test's own store
// can fail or damage what it likes.
#ifndef EIDETIC_MEMORY_RECORD_STORE_H_
#define EIDETIC_MEMORY_RECORD_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/status.h"

namespace eidetic::memory {

enum class Family : uint8_t { kMeta, kBlocks, kEmbeddings, kText, kSessions };
inline constexpr int kFamilyCount = 5;
const char* FamilyName(Family family);

// Changes that become visible and durable together, in order.
class RecordBatch {
 public:
  enum class Kind : uint8_t { kPut, kDelete, kDeleteRange };
  struct Change {
    Kind kind;
    Family family;
    std::string key;
    std::string value;  // kDeleteRange: the end key, exclusive
  };

  void Put(Family family, std::string key, std::string value);
  void Delete(Family family, std::string key);
  void DeleteRange(Family family, std::string begin, std::string end);
  // All changes of `other`, after these.
  void Append(RecordBatch other);
  // Drops all but the first `count` changes.
  void Truncate(size_t count);
  void Clear();

  const std::vector<Change>& changes() const { return changes_; }
  size_t bytes() const { return bytes_; }  // of keys and values put

 private:
  std::vector<Change> changes_;
  size_t bytes_ = 0;
};

// Records of begin <= key < end; an empty end: to the last.
struct KeyRange {
  Family family = Family::kMeta;
  std::string begin, end;
};

class ForgottenBytes;
struct FileScan;

// Thread-safe: any number of readers beside one writer.
class RecordStore {
 public:
  virtual ~RecordStore() = default;

  // All or nothing. With `durable`, an OK means that the batch survives SIGKILL and power loss, as
  // does everything written before (rule 2); without, it survives once a later durable write does.
  virtual Status Write(const RecordBatch& batch, bool durable) = 0;
  // kNotFound when there is no such record.
  virtual Result<std::string> Get(Family family, std::string_view key) const = 0;
  // One result per key, in order.
  virtual std::vector<Result<std::string>> MultiGet(Family family,
                                                    const std::vector<std::string>& keys) const = 0;
  // Calls `visit` for the records with begin <= key < end in key order (an empty end: to the last)
  // on one consistent snapshot, until it returns a status that is not OK, which is returned. The
  // views are valid during the call.
  virtual Status Scan(
      Family family, std::string_view begin, std::string_view end,
      const std::function<Status(std::string_view key, std::string_view value)>& visit) const = 0;
  // What is lost because the log was damaged: one sentence, or empty. Opened read-only, a store
  // with such a log shows what is left.
  virtual std::string LogDamage() const { return {}; }
  // Bytes held on disk (or in RAM).
  virtual Result<uint64_t> SizeOnDisk() const = 0;
  // Makes disk use small: merges, and drops deleted bytes. May take long.
  virtual Status Compact() = 0;
  // The records of begin <= key < end were deleted or overwritten: gives their space back now.
  virtual Status Reclaim(Family family, std::string_view begin, std::string_view end) = 0;
  // Rids the files of what was deleted or overwritten in these ranges: tables are written anew,
  // values in files of their own too, and the log begins anew. No ranges: everywhere. What somebody
  // is just scanning stays until that ends.
  virtual Status Purge(const std::vector<KeyRange>& ranges) = 0;
  // Looks for samples in every file below the store's folder, tables and logs read both as they are
  // and record by record; in RAM, in every record.
  virtual Status SearchFiles(const ForgottenBytes& samples, FileScan* scan) const = 0;
};

std::unique_ptr<RecordStore> NewRamRecordStore();

struct RocksOptions {
  std::string path;  // a folder of the archive's own: the database, and the lock of its writer
  bool create = false;
  bool read_only = false;  // takes no lock; sees the archive as it is now
  bool repair = false;     // a damaged log is no error: goes on without what it lost, for good
  size_t write_buffer_bytes = 16u << 20;  // of the family with bulk data; the others have less
  size_t block_cache_bytes = 32u << 20;   // indexes and filters of tables, and small records
};
// kNotFound (nothing there and not `create`), kInvalidArgument (the folder holds other things:
// nothing is touched), kLocked (names the holder), kNoSpace, kCorruption, kIoError.
//
// What a crash leaves at the end of the log is dropped in silence: it was never acknowledged.
// Damage before something acknowledged is kCorruption, unless `read_only` or `repair`
// (write_log.h).
//
// After a write that failed, every later write is refused with the same error: what follows a hole
// must not be acknowledged (rule 2). Opening again recovers.
Result<std::unique_ptr<RecordStore>> OpenRocksRecordStore(const RocksOptions& options);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_RECORD_STORE_H_
