// The host pool: verified payloads, least recently used ones given up first.
#ifndef EIDETIC_MEMORY_PAYLOAD_POOL_H_
#define EIDETIC_MEMORY_PAYLOAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory/block_store.h"

namespace eidetic::memory {

// Thread-safe. Holds at most `budget` bytes, counted with an estimate of its own overhead; payloads
// that somebody still shares live on beyond it.
class PayloadPool {
 public:
  explicit PayloadPool(uint64_t budget);

  // Null when it is not there.
  PayloadPtr Find(const PayloadKey& key);
  // The number of Forget calls so far: taken before a payload is read from the store, and given to
  // Insert, so that a payload which was forgotten meanwhile is not put back.
  uint64_t epoch() const { return epoch_.load(); }
  void Insert(const PayloadKey& key, PayloadPtr payload, uint64_t epoch);
  void Forget(LineageId lineage);
  PoolStats stats() const;

 private:
  struct KeyHash {
    size_t operator()(const PayloadKey& key) const;
  };
  struct Entry {
    PayloadKey key;
    PayloadPtr payload;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::list<Entry> entries;  // most recently used first
    std::unordered_map<PayloadKey, std::list<Entry>::iterator, KeyHash> places;
    uint64_t bytes = 0;
    uint64_t hits = 0;
    uint64_t misses = 0;
  };
  Shard& ShardOf(const PayloadKey& key);

  uint64_t budget_;
  uint64_t shard_budget_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::atomic<uint64_t> epoch_{0};
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_PAYLOAD_POOL_H_
