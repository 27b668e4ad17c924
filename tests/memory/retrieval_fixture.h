// Random blocks in a store, for the tests of the indexes and of the retriever.
#ifndef EIDETIC_TESTS_MEMORY_RETRIEVAL_FIXTURE_H_
#define EIDETIC_TESTS_MEMORY_RETRIEVAL_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "memory/block_store.h"
#include "memory/representative_index.h"
#include "memory/retriever.h"
#include "tests/memory/slow_retrieval.h"

namespace eidetic::memory {

inline Layout TestLayout() {
  Layout layout;
  layout.fingerprint = std::string(64, 'a');
  layout.layers = {2, 5};
  layout.kv_heads = 2;
  layout.head_dim = 16;
  return layout;
}

inline std::vector<float> RandomNumbers(size_t count, std::mt19937* random, float size = 1.0f) {
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = normal(*random);
  return numbers;
}

// A store in RAM with lineages of random blocks.
class TestMemory {
 public:
  explicit TestMemory(Layout layout = TestLayout())
      : layout_(std::move(layout)), records_(NewRamRecordStore()) {
    store_ = std::move(BlockStore::Open(records_, 64u << 20, false)).value();
  }

  // A committed lineage whose blocks have these numbers of tokens. `change` may edit the keys of
  // (block, layer index), [tokens, kv_heads, head_dim].
  template <typename Change>
  LineageId AddLineage(const std::vector<int>& tokens, std::mt19937* random, Change change) {
    auto writer = std::move(store_->NewLineage(layout_, "session/test")).value();
    uint64_t position = 0;
    for (size_t b = 0; b < tokens.size(); ++b) {
      BlockHeader header;
      header.position = position;
      header.tokens.assign(static_cast<size_t>(tokens[b]), 7);
      header.text_begin = position * 4;
      header.text_end = (position + static_cast<uint64_t>(tokens[b])) * 4;
      std::vector<std::vector<float>> keys;
      std::vector<const float*> pointers;
      for (size_t layer = 0; layer < layout_.layers.size(); ++layer) {
        keys.push_back(RandomNumbers(static_cast<size_t>(tokens[b]) * layout_.RowWidth(), random));
        change(b, layer, &keys.back());
      }
      for (const std::vector<float>& one : keys) pointers.push_back(one.data());
      Block block =
          std::move(EncodeBlock(layout_, header, pointers.data(), pointers.data())).value();
      known_.push_back({block.header, block.keys, block.representatives});
      EXPECT_TRUE(writer->Append(std::move(block)).ok());
      position += static_cast<uint64_t>(tokens[b]);
    }
    EXPECT_TRUE(writer->Commit().ok());
    const LineageId lineage = writer->lineage();
    for (size_t b = known_.size() - tokens.size(); b < known_.size(); ++b) {
      known_[b].header.lineage = lineage;
    }
    return lineage;
  }
  LineageId AddLineage(const std::vector<int>& tokens, std::mt19937* random) {
    return AddLineage(tokens, random, [](size_t, size_t, std::vector<float>*) {});
  }

  const Layout& layout() const { return layout_; }
  BlockStore& store() { return *store_; }
  RecordStore& records() { return *records_; }
  const std::vector<KnownBlock>& known() const { return known_; }

  // Flips one bit in the middle of every record of a family whose key `chosen` accepts.
  template <typename Chosen>
  int Damage(Family family, Chosen chosen) {
    RecordBatch batch;
    int damaged = 0;
    EXPECT_TRUE(records_
                    ->Scan(family, "", "",
                           [&](std::string_view key, std::string_view value) {
                             if (!chosen(key)) return Status();
                             std::string changed(value);
                             changed[changed.size() / 2] ^= 1;
                             batch.Put(family, std::string(key), changed);
                             ++damaged;
                             return Status();
                           })
                    .ok());
    EXPECT_TRUE(records_->Write(batch, true).ok());
    return damaged;
  }

 private:
  Layout layout_;
  std::shared_ptr<RecordStore> records_;
  std::unique_ptr<BlockStore> store_;
  std::vector<KnownBlock> known_;
};

inline std::vector<int> Blocks(int count, int tokens = 32) {
  return std::vector<int>(static_cast<size_t>(count), tokens);
}

}  // namespace eidetic::memory

#endif  // EIDETIC_TESTS_MEMORY_RETRIEVAL_FIXTURE_H_
