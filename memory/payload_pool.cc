#include "memory/payload_pool.h"

#include <algorithm>
#include <utility>

namespace eidetic::memory {
namespace {

// Few enough for a small budget to be used well, many enough for threads not to wait.
constexpr uint64_t kShardBytes = 8u << 20;
constexpr uint64_t kMostShards = 16;
// List node, hash node, shared pointer's block and the payload's own fields.
constexpr uint64_t kEntryOverhead = 256;

uint64_t BytesOf(const Payload& payload) {
  return payload.bytes.size() + kEntryOverhead;
}

uint64_t Mix(uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccdull;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53ull;
  return value ^ (value >> 33);
}

uint64_t HashOf(const PayloadKey& key) {
  const uint64_t place = (static_cast<uint64_t>(key.layer) << 1) | static_cast<uint64_t>(key.part);
  return Mix(Mix(key.lineage * 0x9e3779b97f4a7c15ull + place) + key.position);
}

uint32_t TagOf(uint64_t hash) {
  return static_cast<uint32_t>(hash >> 32);
}

}  // namespace

PayloadPool::Place PayloadPool::Shard::PlaceOf(const PayloadKey& key, uint64_t hash) const {
  if (slots.empty()) return kNowhere;
  for (size_t at = HomeOf(hash);; at = (at + 1) & (slots.size() - 1)) {
    const Slot& slot = slots[at];
    if (slot.place == kNowhere) return kNowhere;
    if (slot.tag == TagOf(hash) && entries[slot.place].key == key) return slot.place;
  }
}

void PayloadPool::Shard::PutFirst(Place place) {
  Entry& entry = entries[place];
  entry.newer = kNowhere;
  entry.older = newest;
  (newest == kNowhere ? oldest : entries[newest].newer) = place;
  newest = place;
}

void PayloadPool::Shard::TakeOut(Place place) {
  const Entry& entry = entries[place];
  (entry.newer == kNowhere ? newest : entries[entry.newer].older) = entry.older;
  (entry.older == kNowhere ? oldest : entries[entry.older].newer) = entry.newer;
}

void PayloadPool::Shard::Grow() {
  std::vector<Slot> larger(std::max<size_t>(16, slots.size() * 2));
  slots.swap(larger);
  for (Place place = newest; place != kNowhere; place = entries[place].older) {
    const uint64_t hash = HashOf(entries[place].key);
    size_t at = HomeOf(hash);
    while (slots[at].place != kNowhere) at = (at + 1) & (slots.size() - 1);
    slots[at] = {TagOf(hash), place};
  }
}

// The key is not there.
void PayloadPool::Shard::Add(const PayloadKey& key, uint64_t hash, PayloadPtr payload) {
  if ((used + 1) * 2 > slots.size()) Grow();
  if (unused == kNowhere) {
    unused = static_cast<Place>(entries.size());
    entries.emplace_back();
  }
  const Place place = unused;
  unused = entries[place].older;
  size_t at = HomeOf(hash);
  while (slots[at].place != kNowhere) at = (at + 1) & (slots.size() - 1);
  slots[at] = {TagOf(hash), place};
  bytes += BytesOf(*payload);
  entries[place].key = key;
  entries[place].payload = std::move(payload);
  PutFirst(place);
  ++used;
}

void PayloadPool::Shard::Remove(Place place) {
  const size_t mask = slots.size() - 1;
  size_t hole = HomeOf(HashOf(entries[place].key));
  while (slots[hole].place != place) hole = (hole + 1) & mask;
  // What was pushed past the hole by what stood in it moves back, so that probing finds it.
  for (size_t at = (hole + 1) & mask; slots[at].place != kNowhere; at = (at + 1) & mask) {
    const size_t home = HomeOf(HashOf(entries[slots[at].place].key));
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    slots[hole] = slots[at];
    hole = at;
  }
  slots[hole] = Slot();
  bytes -= BytesOf(*entries[place].payload);
  TakeOut(place);
  entries[place] = Entry();
  entries[place].older = unused;
  unused = place;
  --used;
}

PayloadPool::PayloadPool(uint64_t budget) : budget_(budget) {
  const uint64_t count = std::clamp<uint64_t>(budget / kShardBytes, 1, kMostShards);
  shard_budget_ = budget / count;
  for (uint64_t i = 0; i < count; ++i) shards_.push_back(std::make_unique<Shard>());
}

size_t PayloadPool::ShardOf(uint64_t hash) const {
  // The high bits: the table inside uses the low ones.
  return (hash >> 40) % shards_.size();
}

PayloadPtr PayloadPool::Find(const PayloadKey& key) {
  std::vector<PayloadPtr> payloads;
  Find(std::vector<PayloadKey>{key}, &payloads);
  return std::move(payloads[0]);
}

void PayloadPool::Find(const std::vector<PayloadKey>& keys, std::vector<PayloadPtr>* payloads) {
  payloads->assign(keys.size(), nullptr);
  struct Wanted {
    size_t shard;
    size_t key;
    uint64_t hash;
    Place place;
  };
  std::vector<Wanted> wanted;
  wanted.reserve(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint64_t hash = HashOf(keys[i]);
    wanted.push_back({ShardOf(hash), i, hash, kNowhere});
  }
  // Stable: within a shard the keys are used in the order they are asked for.
  std::stable_sort(wanted.begin(), wanted.end(),
                   [](const Wanted& a, const Wanted& b) { return a.shard < b.shard; });
  for (auto begin = wanted.begin(); begin != wanted.end();) {
    Shard& shard = *shards_[begin->shard];
    const auto end = std::find_if(begin, wanted.end(),
                                  [&](const Wanted& one) { return one.shard != begin->shard; });
    std::lock_guard lock(shard.mutex);
    if (!shard.slots.empty()) {
      for (auto one = begin; one != end; ++one) {
        __builtin_prefetch(&shard.slots[shard.HomeOf(one->hash)]);
      }
      for (auto one = begin; one != end; ++one) {
        const Place likely = shard.slots[shard.HomeOf(one->hash)].place;
        if (likely != kNowhere) __builtin_prefetch(&shard.entries[likely]);
      }
    }
    for (auto one = begin; one != end; ++one) {
      one->place = shard.PlaceOf(keys[one->key], one->hash);
      if (one->place == kNowhere) continue;
      const Entry& entry = shard.entries[one->place];
      __builtin_prefetch(entry.payload.get());
      if (entry.newer != kNowhere) __builtin_prefetch(&shard.entries[entry.newer]);
      if (entry.older != kNowhere) __builtin_prefetch(&shard.entries[entry.older]);
    }
    for (; begin != end; ++begin) {
      if (begin->place == kNowhere) {
        ++shard.misses;
        continue;
      }
      ++shard.hits;
      shard.TakeOut(begin->place);
      shard.PutFirst(begin->place);
      (*payloads)[begin->key] = shard.entries[begin->place].payload;
    }
  }
}

void PayloadPool::Insert(const PayloadKey& key, PayloadPtr payload, uint64_t epoch) {
  if (BytesOf(*payload) > shard_budget_) return;
  const uint64_t hash = HashOf(key);
  Shard& shard = *shards_[ShardOf(hash)];
  std::lock_guard lock(shard.mutex);
  if (epoch != epoch_.load() || shard.PlaceOf(key, hash) != kNowhere) return;
  shard.Add(key, hash, std::move(payload));
  while (shard.bytes > shard_budget_) shard.Remove(shard.oldest);
}

void PayloadPool::Forget(LineageId lineage) {
  epoch_.fetch_add(1);
  for (const auto& shard : shards_) {
    std::lock_guard lock(shard->mutex);
    for (Place at = shard->newest; at != kNowhere;) {
      const Place next = shard->entries[at].older;
      if (shard->entries[at].key.lineage == lineage) shard->Remove(at);
      at = next;
    }
  }
}

PoolStats PayloadPool::stats() const {
  PoolStats stats;
  stats.budget = budget_;
  for (const auto& shard : shards_) {
    std::lock_guard lock(shard->mutex);
    stats.hits += shard->hits;
    stats.misses += shard->misses;
    stats.bytes += shard->bytes;
  }
  return stats;
}

}  // namespace eidetic::memory
