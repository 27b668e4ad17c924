#include "memory/payload_pool.h"

#include <algorithm>

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

}  // namespace

size_t PayloadPool::KeyHash::operator()(const PayloadKey& key) const {
  const uint64_t place = (static_cast<uint64_t>(key.layer) << 1) | static_cast<uint64_t>(key.part);
  return Mix(Mix(key.lineage * 0x9e3779b97f4a7c15ull + place) + key.position);
}

PayloadPool::PayloadPool(uint64_t budget) : budget_(budget) {
  const uint64_t count = std::clamp<uint64_t>(budget / kShardBytes, 1, kMostShards);
  shard_budget_ = budget / count;
  for (uint64_t i = 0; i < count; ++i) shards_.push_back(std::make_unique<Shard>());
}

PayloadPool::Shard& PayloadPool::ShardOf(const PayloadKey& key) {
  // The high bits: the map inside uses the low ones.
  return *shards_[(KeyHash()(key) >> 40) % shards_.size()];
}

PayloadPtr PayloadPool::Find(const PayloadKey& key) {
  Shard& shard = ShardOf(key);
  std::lock_guard lock(shard.mutex);
  auto found = shard.places.find(key);
  if (found == shard.places.end()) {
    ++shard.misses;
    return nullptr;
  }
  ++shard.hits;
  shard.entries.splice(shard.entries.begin(), shard.entries, found->second);
  return found->second->payload;
}

void PayloadPool::Insert(const PayloadKey& key, PayloadPtr payload, uint64_t epoch) {
  const uint64_t bytes = BytesOf(*payload);
  if (bytes > shard_budget_) return;
  Shard& shard = ShardOf(key);
  std::lock_guard lock(shard.mutex);
  if (epoch != epoch_.load() || shard.places.contains(key)) return;
  shard.entries.push_front({key, std::move(payload)});
  shard.places.emplace(key, shard.entries.begin());
  shard.bytes += bytes;
  while (shard.bytes > shard_budget_) {
    const Entry& last = shard.entries.back();
    shard.bytes -= BytesOf(*last.payload);
    shard.places.erase(last.key);
    shard.entries.pop_back();
  }
}

void PayloadPool::Forget(LineageId lineage) {
  epoch_.fetch_add(1);
  for (const auto& shard : shards_) {
    std::lock_guard lock(shard->mutex);
    for (auto at = shard->entries.begin(); at != shard->entries.end();) {
      if (at->key.lineage != lineage) {
        ++at;
        continue;
      }
      shard->bytes -= BytesOf(*at->payload);
      shard->places.erase(at->key);
      at = shard->entries.erase(at);
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
