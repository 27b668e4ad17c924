#include "memory/payload_pool.h"

#include <gtest/gtest.h>

#include <list>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace eidetic::memory {
namespace {

PayloadPtr PayloadOf(size_t bytes, char filling = 'x') {
  Payload payload{kernels::Codec::kInt8, 1, std::string(bytes, filling)};
  return std::make_shared<const Payload>(std::move(payload));
}

PayloadKey KeyAt(uint64_t position, LineageId lineage = 1) {
  return {lineage, 3, Part::kKeys, position};
}

TEST(PayloadPool, GivesUpTheLeastRecentlyUsedFirst) {
  PayloadPool pool(5 * (1000 + 256));  // five of them, with the pool's own overhead
  for (uint64_t i = 0; i < 5; ++i) pool.Insert(KeyAt(i), PayloadOf(1000), pool.epoch());
  ASSERT_NE(pool.Find(KeyAt(0)), nullptr);  // used again
  pool.Insert(KeyAt(5), PayloadOf(1000), pool.epoch());
  EXPECT_NE(pool.Find(KeyAt(0)), nullptr);
  EXPECT_EQ(pool.Find(KeyAt(1)), nullptr);
  EXPECT_NE(pool.Find(KeyAt(2)), nullptr);
  EXPECT_NE(pool.Find(KeyAt(5)), nullptr);
  EXPECT_LE(pool.stats().bytes, pool.stats().budget);
}

TEST(PayloadPool, APayloadReadBeforeItsLineageWasForgottenIsNotPutBack) {
  PayloadPool pool(1u << 20);
  const uint64_t before = pool.epoch();
  pool.Forget(1);  // while somebody reads it from the store
  pool.Insert(KeyAt(0), PayloadOf(100), before);
  EXPECT_EQ(pool.Find(KeyAt(0)), nullptr);
  pool.Insert(KeyAt(0), PayloadOf(100), pool.epoch());
  EXPECT_NE(pool.Find(KeyAt(0)), nullptr);
}

TEST(PayloadPool, ForgetsOneLineageAndKeepsTheOthers) {
  PayloadPool pool(64u << 20);  // several shards
  for (uint64_t i = 0; i < 100; ++i) {
    pool.Insert(KeyAt(i, 1), PayloadOf(100), pool.epoch());
    pool.Insert(KeyAt(i, 2), PayloadOf(100), pool.epoch());
  }
  const uint64_t bytes = pool.stats().bytes;
  pool.Forget(1);
  EXPECT_EQ(pool.stats().bytes, bytes / 2);
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(pool.Find(KeyAt(i, 1)), nullptr);
    EXPECT_NE(pool.Find(KeyAt(i, 2)), nullptr);
  }
}

TEST(PayloadPool, APayloadLargerThanTheBudgetIsNotKept) {
  PayloadPool pool(1000);
  pool.Insert(KeyAt(0), PayloadOf(2000), pool.epoch());
  EXPECT_EQ(pool.Find(KeyAt(0)), nullptr);
  EXPECT_EQ(pool.stats().bytes, 0u);
  PayloadPool none(0);
  none.Insert(KeyAt(0), PayloadOf(1), none.epoch());
  EXPECT_EQ(none.Find(KeyAt(0)), nullptr);
}

TEST(PayloadPool, EveryPartOfAKeyTellsPayloadsApart) {
  PayloadPool pool(1u << 20);
  const std::vector<PayloadKey> keys = {{1, 3, Part::kKeys, 0},
                                        {2, 3, Part::kKeys, 0},
                                        {1, 4, Part::kKeys, 0},
                                        {1, 3, Part::kValues, 0},
                                        {1, 3, Part::kKeys, 32}};
  for (size_t i = 0; i < keys.size(); ++i) {
    pool.Insert(keys[i], PayloadOf(10, static_cast<char>('a' + i)), pool.epoch());
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    const PayloadPtr found = pool.Find(keys[i]);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->bytes[0], static_cast<char>('a' + i));
  }
}

TEST(PayloadPool, ServesManyThreadsAtOnce) {
  PayloadPool pool(200000);
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&pool, thread] {
      for (uint64_t i = 0; i < 20000; ++i) {
        const PayloadKey key = KeyAt((i * (thread + 3)) % 500, 1 + i % 3);
        if (const PayloadPtr found = pool.Find(key)) {
          EXPECT_EQ(found->bytes.size(), 100 + key.position);
        } else {
          pool.Insert(key, PayloadOf(100 + key.position), pool.epoch());
        }
        if (i % 5000 == 0) pool.Forget(1 + i % 3);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.hits + stats.misses, 4u * 20000);
  EXPECT_GT(stats.hits, 0u);
  EXPECT_LE(stats.bytes, stats.budget);
}

// The pool as it is described, in the plainest way: a list, most recently used first.
class PlainPool {
 public:
  explicit PlainPool(uint64_t budget) : budget_(budget) {}
  PayloadPtr Find(const PayloadKey& key) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (!(at->first == key)) continue;
      entries_.splice(entries_.begin(), entries_, at);
      return at->second;
    }
    return nullptr;
  }
  void Insert(const PayloadKey& key, const PayloadPtr& payload) {
    for (const auto& entry : entries_) {
      if (entry.first == key) return;
    }
    entries_.emplace_front(key, payload);
    bytes_ += payload->bytes.size() + 256;
    while (bytes_ > budget_) {
      bytes_ -= entries_.back().second->bytes.size() + 256;
      entries_.pop_back();
    }
  }
  void Forget(LineageId lineage) {
    entries_.remove_if([&](const auto& entry) {
      if (entry.first.lineage != lineage) return false;
      bytes_ -= entry.second->bytes.size() + 256;
      return true;
    });
  }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t budget_;
  uint64_t bytes_ = 0;
  std::list<std::pair<PayloadKey, PayloadPtr>> entries_;
};

TEST(PayloadPool, HoldsWhatAPlainListWouldThroughAnyCalls) {
  for (const uint64_t budget : {uint64_t{3000}, uint64_t{100000}}) {
    PayloadPool pool(budget);  // one shard
    PlainPool plain(budget);
    std::mt19937 random(5);
    const auto any_key = [&] { return KeyAt(random() % 200, 1 + random() % 3); };
    for (int call = 0; call < 20000; ++call) {
      const uint32_t kind = random() % 100;
      if (kind < 50) {
        const PayloadPtr payload = PayloadOf(100 + random() % 900);
        const PayloadKey key = any_key();
        pool.Insert(key, payload, pool.epoch());
        plain.Insert(key, payload);
      } else if (kind < 99) {
        std::vector<PayloadKey> keys(random() % 20);
        for (PayloadKey& key : keys) key = any_key();  // some of them twice
        std::vector<PayloadPtr> found, wanted;
        pool.Find(keys, &found);
        for (const PayloadKey& key : keys) wanted.push_back(plain.Find(key));
        ASSERT_EQ(found, wanted);
      } else if (random() % 5 == 0) {
        const LineageId lineage = 1 + random() % 3;
        pool.Forget(lineage);
        plain.Forget(lineage);
      }
      ASSERT_EQ(pool.stats().bytes, plain.bytes());
    }
  }
}

}  // namespace
}  // namespace eidetic::memory
