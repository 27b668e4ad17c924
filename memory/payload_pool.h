// The host pool: verified payloads, least recently used ones given up first.
#ifndef EIDETIC_MEMORY_PAYLOAD_POOL_H_
#define EIDETIC_MEMORY_PAYLOAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
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
  // Of all keys, in their order. A model that decodes has driven the pool out of the caches between
  // two calls: what a lookup touches is asked for ahead, for all keys of a shard at once.
  void Find(const std::vector<PayloadKey>& keys, std::vector<PayloadPtr>* payloads);
  // The number of Forget calls so far: taken before a payload is read from the store, and given to
  // Insert, so that a payload which was forgotten meanwhile is not put back.
  uint64_t epoch() const { return epoch_.load(); }
  void Insert(const PayloadKey& key, PayloadPtr payload, uint64_t epoch);
  void Forget(LineageId lineage);
  PoolStats stats() const;

 private:
  using Place = uint32_t;  // of an entry in its shard
  static constexpr Place kNowhere = std::numeric_limits<Place>::max();
  // Entries of a shard are a list from the one used last; unused ones are a list through `older`.
  struct Entry {
    PayloadKey key;
    PayloadPtr payload;
    Place newer = kNowhere;
    Place older = kNowhere;
  };
  // Part of the hash, so that probing seldom has to look at entries.
  struct Slot {
    uint32_t tag = 0;
    Place place = kNowhere;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::vector<Entry> entries;
    std::vector<Slot> slots;  // probed linearly; a power of two, at least twice the entries in use
    Place newest = kNowhere;
    Place oldest = kNowhere;
    Place unused = kNowhere;
    size_t used = 0;
    uint64_t bytes = 0;
    uint64_t hits = 0;
    uint64_t misses = 0;

    size_t HomeOf(uint64_t hash) const { return hash & (slots.size() - 1); }
    Place PlaceOf(const PayloadKey& key, uint64_t hash) const;
    void PutFirst(Place place);
    void TakeOut(Place place);  // of the list
    void Add(const PayloadKey& key, uint64_t hash, PayloadPtr payload);
    void Remove(Place place);
    void Grow();
  };
  size_t ShardOf(uint64_t hash) const;

  uint64_t budget_;
  uint64_t shard_budget_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::atomic<uint64_t> epoch_{0};
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_PAYLOAD_POOL_H_
