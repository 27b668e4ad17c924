#include "memory/representative_index.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/memory/retrieval_fixture.h"

namespace eidetic::memory {
namespace {

// (position, lineage) of the k best blocks' representatives for one query.
std::vector<std::pair<LineageId, uint64_t>> Found(const RepresentativeIndex& index, int layer_index,
                                                  int kv_head, const std::vector<float>& query,
                                                  int k) {
  std::vector<int64_t> ordinals(static_cast<size_t>(k));
  std::vector<float> scores(static_cast<size_t>(k));
  EXPECT_TRUE(
      index.Search(layer_index, kv_head, query.data(), 1, k, ordinals.data(), scores.data()).ok());
  std::vector<std::pair<LineageId, uint64_t>> found;
  for (const int64_t ordinal : ordinals) {
    if (ordinal < 0) break;
    found.emplace_back(index.block(ordinal).lineage, index.block(ordinal).position);
  }
  return found;
}

// The same by sorting everything.
std::vector<std::pair<LineageId, uint64_t>> SlowFound(const TestMemory& memory, int layer_index,
                                                      int kv_head, const std::vector<float>& query,
                                                      int k, const std::set<LineageId>& without) {
  auto scores = SlowScores({{&memory.known(), &memory.layout()}},
                           memory.layout().layers[static_cast<size_t>(layer_index)], kv_head,
                           query.data(), false);
  std::erase_if(scores,
                [&](const auto& one) { return without.count(std::get<1>(one.second)) > 0; });
  std::stable_sort(scores.begin(), scores.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::pair<LineageId, uint64_t>> found;
  for (const auto& [score, key] : scores) {
    if (static_cast<int>(found.size()) < k) {
      found.emplace_back(std::get<1>(key), std::get<2>(key));
    }
  }
  return found;
}

class RepresentativeIndexOfKind : public ::testing::TestWithParam<IndexKind> {
 protected:
  RepresentativeIndexOfKind() : random_(1), index_(TestLayout(), GetParam(), 2) {}

  void ExpectSearchIsRight(const std::set<LineageId>& without = {}) {
    for (int layer = 0; layer < 2; ++layer) {
      for (int kv_head = 0; kv_head < 2; ++kv_head) {
        const std::vector<float> query = RandomNumbers(16, &random_);
        for (const int k : {1, 16, 200}) {
          auto wanted = SlowFound(memory_, layer, kv_head, query, k, without);
          auto found = Found(index_, layer, kv_head, query, k);
          if (GetParam() == IndexKind::kInt8) {
            // Its scores are rounded (vector_index_test.cc has by how much): all are found, in an
            // order of its own.
            if (k < static_cast<int>(memory_.known().size()) * 4) continue;
            std::sort(wanted.begin(), wanted.end());
            std::sort(found.begin(), found.end());
          }
          ASSERT_EQ(wanted, found);
        }
      }
    }
  }

  std::mt19937 random_;
  TestMemory memory_;
  RepresentativeIndex index_;
};

TEST_P(RepresentativeIndexOfKind, FindsTheBlockOfEachRepresentativePerLayerAndHead) {
  const LineageId lineage = memory_.AddLineage(Blocks(30), &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), lineage).ok());
  EXPECT_EQ(30, index_.size());
  ExpectSearchIsRight();
}

TEST_P(RepresentativeIndexOfKind, ShortBlocksHaveFewerRepresentatives) {
  const LineageId lineage = memory_.AddLineage({32, 1, 8, 9, 31, 17, 32, 5}, &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), lineage).ok());
  // 4 + 1 + 1 + 2 + 4 + 3 + 4 + 1 representatives.
  EXPECT_EQ(20u, Found(index_, 1, 1, RandomNumbers(16, &random_), 200).size());
  ExpectSearchIsRight();
}

TEST_P(RepresentativeIndexOfKind, KnowsWhereEachBlockStands) {
  const LineageId lineage = memory_.AddLineage({32, 7}, &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), lineage).ok());
  ASSERT_EQ((std::vector<int64_t>{0, 1}), index_.live());
  const IndexedBlock& second = index_.block(1);
  EXPECT_NE(0u, second.id);
  EXPECT_EQ(lineage, second.lineage);
  EXPECT_EQ(32u, second.position);
  EXPECT_EQ(7, second.tokens);
  EXPECT_EQ(128u, second.text_begin);
  EXPECT_EQ(156u, second.text_end);
}

TEST_P(RepresentativeIndexOfKind, ABlocksSuccessorBeginsWhereItEnds) {
  const LineageId first = memory_.AddLineage({32, 7}, &random_);
  const LineageId second = memory_.AddLineage({32, 32}, &random_);
  std::vector<BlockHeader> blocks;
  for (const KnownBlock& known : memory_.known()) {
    blocks.push_back(known.header);
    blocks.back().id = blocks.size();
  }
  blocks[2].position = 39, blocks[3].position = 71;  // the second goes on where the first ends
  for (size_t b = 0; b < blocks.size(); ++b) {
    ASSERT_TRUE(index_.Add(blocks[b], memory_.known()[b].representatives).ok());
  }
  const auto after = [&](int64_t ordinal, bool in_any_lineage) -> int64_t {
    const IndexedBlock* next = index_.Successor(index_.block(ordinal), in_any_lineage);
    return next == nullptr ? -1 : static_cast<int64_t>(next->position);
  };
  EXPECT_EQ(32, after(0, false));
  EXPECT_EQ(-1, after(1, false));
  EXPECT_EQ(39, after(1, true));
  EXPECT_EQ(71, after(2, false));
  EXPECT_EQ(-1, after(3, true));
  ASSERT_TRUE(index_.RemoveLineage(second).ok());
  EXPECT_EQ(32, after(0, true));
  EXPECT_EQ(-1, after(1, true));
  // Back, and as the store has it: from its own beginning.
  ASSERT_TRUE(index_.AddLineage(memory_.store(), second).ok());
  const int64_t back = index_.live()[2];
  EXPECT_EQ(-1, after(1, true));
  EXPECT_EQ(32, after(back, false));
  EXPECT_EQ(-1, after(back + 1, true));
  EXPECT_EQ(first, index_.block(0).lineage);
}

TEST_P(RepresentativeIndexOfKind, BlocksAddedOneByOneAreFoundLikeALineage) {
  memory_.AddLineage({32, 32, 12, 32}, &random_);
  for (const KnownBlock& block : memory_.known()) {
    ASSERT_TRUE(index_.Add(block.header, block.representatives).ok());
  }
  ExpectSearchIsRight();
}

TEST_P(RepresentativeIndexOfKind, ALineageOfManyBlocksIsAddedWhole) {
  const LineageId lineage = memory_.AddLineage(Blocks(600, 8), &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), lineage).ok());
  EXPECT_EQ(600, index_.size());
  ExpectSearchIsRight();
}

TEST_P(RepresentativeIndexOfKind, ARemovedLineageIsNeverFoundAgain) {
  const LineageId first = memory_.AddLineage(Blocks(10), &random_);
  const LineageId second = memory_.AddLineage(Blocks(7), &random_);
  const LineageId third = memory_.AddLineage(Blocks(3), &random_);
  for (const LineageId lineage : {first, second, third}) {
    ASSERT_TRUE(index_.AddLineage(memory_.store(), lineage).ok());
  }
  ASSERT_TRUE(index_.RemoveLineage(second).ok());
  EXPECT_EQ(13, index_.size());
  for (const int64_t ordinal : index_.live()) EXPECT_NE(second, index_.block(ordinal).lineage);
  ExpectSearchIsRight({second});
  ASSERT_TRUE(index_.RemoveLineage(second).ok());
  ASSERT_TRUE(index_.RemoveLineage(12345).ok());
  ASSERT_TRUE(index_.RemoveLineage(first).ok());
  ExpectSearchIsRight({first, second});
  ASSERT_TRUE(index_.AddLineage(memory_.store(), second).ok());
  EXPECT_EQ(10, index_.size());
  ExpectSearchIsRight({first});
}

TEST_P(RepresentativeIndexOfKind, RemovalReachesBlocksThatLieBetweenOthers) {
  const LineageId first = memory_.AddLineage(Blocks(6), &random_);
  const LineageId second = memory_.AddLineage(Blocks(6), &random_);
  const std::vector<KnownBlock>& known = memory_.known();
  for (size_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(index_.Add(known[i].header, known[i].representatives).ok());
    ASSERT_TRUE(index_.Add(known[6 + i].header, known[6 + i].representatives).ok());
  }
  ASSERT_TRUE(index_.RemoveLineage(first).ok());
  EXPECT_EQ((std::vector<int64_t>{1, 3, 5, 7, 9, 11}), index_.live());
  ASSERT_TRUE(index_.AddLineage(memory_.store(), first).ok());
  EXPECT_EQ(12, index_.size());
  ASSERT_TRUE(index_.RemoveLineage(second).ok());
  ExpectSearchIsRight({second});
}

TEST_P(RepresentativeIndexOfKind, ALineageIsNotAddedTwice) {
  const LineageId lineage = memory_.AddLineage(Blocks(3), &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), lineage).ok());
  EXPECT_EQ(Code::kAlreadyExists, index_.AddLineage(memory_.store(), lineage).code());
  EXPECT_EQ(3, index_.size());
}

TEST_P(RepresentativeIndexOfKind, ADamagedBlockAddsNothingOfItsLineage) {
  const LineageId good = memory_.AddLineage(Blocks(4), &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), good).ok());
  const LineageId bad = memory_.AddLineage(Blocks(300, 8), &random_);
  // The last record of the family: the last block of `bad`, so that others went in before it.
  std::string last;
  ASSERT_TRUE(memory_.records()
                  .Scan(Family::kEmbeddings, "", "",
                        [&](std::string_view key, std::string_view) {
                          last = key;
                          return Status();
                        })
                  .ok());
  ASSERT_EQ(1,
            memory_.Damage(Family::kEmbeddings, [&](std::string_view key) { return key == last; }));
  EXPECT_EQ(Code::kCorruption, index_.AddLineage(memory_.store(), bad).code());
  EXPECT_EQ(4, index_.size());
  ExpectSearchIsRight({bad});
  // And the index still works.
  const LineageId next = memory_.AddLineage(Blocks(2), &random_);
  ASSERT_TRUE(index_.AddLineage(memory_.store(), next).ok());
  ExpectSearchIsRight({bad});
}

INSTANTIATE_TEST_SUITE_P(Kinds, RepresentativeIndexOfKind,
                         ::testing::Values(IndexKind::kInt8, IndexKind::kExact, IndexKind::kFaiss),
                         [](const auto& info) {
                           return info.param == IndexKind::kInt8    ? std::string("Int8")
                                  : info.param == IndexKind::kExact ? std::string("Exact")
                                                                    : std::string("Faiss");
                         });

TEST(RepresentativeIndex, MemoryOfAnotherModelOrLayoutIsRefused) {
  std::mt19937 random(2);
  TestMemory memory;
  const LineageId lineage = memory.AddLineage(Blocks(2), &random);
  Layout other_model = TestLayout();
  other_model.fingerprint = std::string(64, 'b');
  RepresentativeIndex of_other_model(other_model, IndexKind::kExact, 1);
  EXPECT_EQ(Code::kFingerprintMismatch, of_other_model.AddLineage(memory.store(), lineage).code());
  Layout other_layers = TestLayout();
  other_layers.layers = {2};
  RepresentativeIndex of_other_layers(other_layers, IndexKind::kExact, 1);
  EXPECT_EQ(Code::kInvalidArgument, of_other_layers.AddLineage(memory.store(), lineage).code());
  Layout other_codec = TestLayout();
  other_codec.codec = kernels::Codec::kFp16;
  RepresentativeIndex of_other_codec(other_codec, IndexKind::kExact, 1);
  EXPECT_TRUE(of_other_codec.AddLineage(memory.store(), lineage).ok());
}

TEST(RepresentativeIndex, BlocksThatAreNotOfItsLayoutAreRefused) {
  std::mt19937 random(3);
  TestMemory memory;
  memory.AddLineage({32}, &random);
  const KnownBlock& known = memory.known()[0];
  RepresentativeIndex index(TestLayout(), IndexKind::kExact, 1);
  std::vector<uint16_t> too_few = known.representatives;
  too_few.pop_back();
  EXPECT_EQ(Code::kInvalidArgument, index.Add(known.header, too_few).code());
  BlockHeader header = known.header;
  header.tokens.clear();
  EXPECT_EQ(Code::kInvalidArgument, index.Add(header, known.representatives).code());
  header.tokens.assign(33, 1);
  EXPECT_EQ(Code::kInvalidArgument, index.Add(header, known.representatives).code());
  std::vector<uint16_t> infinite = known.representatives;
  infinite.back() = 0x7c00;
  EXPECT_EQ(Code::kInvalidArgument, index.Add(known.header, infinite).code());
  EXPECT_EQ(0, index.size());
  ASSERT_TRUE(index.Add(known.header, known.representatives).ok());
  EXPECT_EQ(4u, Found(index, 0, 0, RandomNumbers(16, &random), 10).size());
}

TEST(RepresentativeIndex, ASearchOutsideItsLayersOrHeadsIsRefused) {
  const RepresentativeIndex index(TestLayout(), IndexKind::kExact, 1);
  const std::vector<float> query(16, 1.0f);
  int64_t ordinal;
  float score;
  for (const auto& [layer, head] : {std::pair{-1, 0}, {2, 0}, {0, -1}, {0, 2}}) {
    EXPECT_EQ(Code::kInvalidArgument,
              index.Search(layer, head, query.data(), 1, 1, &ordinal, &score).code());
  }
}

}  // namespace
}  // namespace eidetic::memory
