// When the files of large values (RocksDB's blob files) are written anew. A file goes by itself
// once its last value was deleted or overwritten, which costs nothing; one in which some value
// lives on keeps all of its bytes. RocksDB's own way against that rewrites what is live in the
// oldest quarter of the files with every merge, however little they would shrink: ten times what a
// turn writes once there are many sessions. So it is off, and files are rewritten only when enough
// bytes come back (docs/decisions/094).
#ifndef EIDETIC_MEMORY_BLOB_GARBAGE_H_
#define EIDETIC_MEMORY_BLOB_GARBAGE_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
}  // namespace rocksdb

namespace eidetic::memory {

struct BlobFile {
  uint64_t bytes = 0;
  uint64_t garbage = 0;  // of them: values that are deleted or overwritten
};

// Garbage up to this and half of what is live is left alone.
inline constexpr uint64_t kBlobGarbageLeft = 32u << 20;

// How many of the oldest files to write anew, `files` from the oldest: those with the most garbage
// above half of what is live in them. 0 while all together have no more than is left alone.
size_t BlobFilesToRewrite(const std::vector<BlobFile>& files);

// Rewrites blob files of one family in a thread of its own. Collect() is called by one thread at a
// time; the database outlives this.
class BlobCollector {
 public:
  BlobCollector(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family) : db_(db), family_(family) {}
  // Stops, without waiting for a rewriting to end.
  ~BlobCollector();
  BlobCollector(const BlobCollector&) = delete;
  BlobCollector& operator=(const BlobCollector&) = delete;

  // Begins a rewriting if it is worth it and none is going on; returns at once. A failure leaves
  // the files as they are.
  void Collect();

 private:
  uint64_t Property(const char* name) const;
  void Rewrite();

  rocksdb::DB* db_;
  rocksdb::ColumnFamilyHandle* family_;
  // Garbage that the last rewriting left: the next one waits for more.
  std::atomic<uint64_t> left_ = 0;
  std::atomic<bool> running_ = false;
  std::atomic<bool> cancelled_ = false;
  std::thread thread_;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_BLOB_GARBAGE_H_
