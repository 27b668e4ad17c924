#include "sdk/memory_bridge.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/memory/retrieval_fixture.h"

namespace eidetic::sdk {
namespace {

using memory::IndexKind;
using memory::RepresentativeIndex;

constexpr int kHeads = 4;

memory::RetrievalOptions Options() {
  memory::RetrievalOptions options;
  options.k = 4;
  options.scale = 0.25f;
  return options;
}

// Two searched sets of random blocks, and queries for both layers.
class RecallTest : public testing::Test {
 protected:
  RecallTest() : random_(1) {
    for (int i = 0; i < 2; ++i) {
      const memory::LineageId lineage = memories_[i].AddLineage(std::vector<int>(20, 32), &random_);
      indexes_.push_back(std::make_unique<RepresentativeIndex>(memories_[i].layout(),
                                                               IndexKind::kExact, /*threads=*/1));
      EXPECT_TRUE(indexes_[i]->AddLineage(memories_[i].store(), lineage).ok());
      sources_.push_back({indexes_[i].get(), &memories_[i].store()});
    }
  }
  kernels::SpanView Select(Recall* recall, int layer) {
    queries_ = memory::RandomNumbers(static_cast<size_t>(kHeads) * 16, &random_);
    return recall->Select({layer, queries_.data(), 1, kHeads, 16});
  }

  std::mt19937 random_;
  memory::TestMemory memories_[2];
  std::vector<std::unique_ptr<RepresentativeIndex>> indexes_;
  std::vector<memory::RetrievalSource> sources_;
  std::vector<float> queries_;
};

// The names of a span's pages.
std::vector<std::pair<int, uint64_t>> PagesOf(const kernels::SpanView& span) {
  std::vector<std::pair<int, uint64_t>> pages;
  for (int i = 0; i < span.page_count; ++i) {
    pages.emplace_back(span.pages[i].source, span.pages[i].block);
  }
  return pages;
}

TEST_F(RecallTest, LayersOfAGroupGetTheBlocksOfItsFirst) {
  Recall alone(Options(), RecallChoice::kAttention, 0),
      shared(Options(), RecallChoice::kAttention, 0);
  const int first = memories_[0].layout().layers[0], second = memories_[0].layout().layers[1];
  for (Recall* recall : {&alone, &shared}) recall->SetSources(sources_);
  shared.ShareChoices(memories_[0].layout().layers, 2);
  bool differed = false;
  for (int pass = 0; pass < 5; ++pass) {
    const auto leads = PagesOf(Select(&shared, first));
    const kernels::SpanView span = Select(&shared, second);
    const auto follows = PagesOf(span);
    EXPECT_EQ(leads, follows);
    // Of the second layer's own keys, and paid to in its name.
    EXPECT_EQ(PagesOf(alone.Select({second, queries_.data(), 1, kHeads, 16})).size(), leads.size());
    differed |= PagesOf(alone.Select({second, queries_.data(), 1, kHeads, 16})) != leads;
    const std::vector<double> mass(leads.size(), 0.1);
    shared.Attended(second, mass.data(), static_cast<int>(mass.size()), 1);
  }
  EXPECT_TRUE(differed);
  EXPECT_EQ(shared.record().layers.at(second).selections, 5u);
  shared.ShareChoices(memories_[0].layout().layers, 1);
  const auto own = PagesOf(Select(&shared, second));
  EXPECT_EQ(own, PagesOf(alone.Select({second, queries_.data(), 1, kHeads, 16})));
}

TEST_F(RecallTest, AGroupThatBeginsWhereAChoiceIsGoneChoosesAnew) {
  Recall recall(Options(), RecallChoice::kAttention, 0);
  const std::vector<int> layers = memories_[0].layout().layers;
  recall.SetSources({sources_[1]});
  ASSERT_EQ(Select(&recall, layers[0]).page_count, 4);
  // In the middle of a pass the only collection goes, and the own past alone is left.
  recall.DropSource(0);
  recall.SetSources({sources_[0]});
  recall.ShareChoices(layers, 2);
  const auto pages = PagesOf(Select(&recall, layers[1]));
  recall.ShareChoices(layers, 1);
  EXPECT_EQ(pages, PagesOf(recall.Select({layers[1], queries_.data(), 1, kHeads, 16})));
}

TEST_F(RecallTest, WhatLingersStaysWhereAnotherSourceGoes) {
  memory::RetrievalOptions options = Options();
  options.linger = 0.9;
  options.threads = 1;
  const int layer = memories_[0].layout().layers[0];
  int differed = 0;
  for (int round = 0; round < 8; ++round) {
    Recall recall(options, RecallChoice::kAttention, 0);
    recall.SetSources(sources_);
    queries_ = memory::RandomNumbers(static_cast<size_t>(kHeads) * 16, &random_);
    for (float& number : queries_) number *= 8;  // much for few blocks
    recall.Select({layer, queries_.data(), 1, kHeads, 16});
    std::vector<memory::ChosenBlock> last, wanted, alone;
    memory::LayerQueries asked{layer, queries_.data(), 1, kHeads};
    ASSERT_TRUE(memory::ChooseBlocks(sources_, options, asked, &last).ok());
    std::erase_if(last, [](const auto& one) { return one.source == 0; });
    for (memory::ChosenBlock& one : last) one.source = 0;
    recall.DropSource(0);
    recall.SetSources({sources_[1]});
    const auto pages = PagesOf(Select(&recall, layer));
    asked.data = queries_.data();
    ASSERT_TRUE(memory::ChooseBlocks({sources_[1]}, options, asked, &alone).ok());
    asked.last = &last;
    ASSERT_TRUE(memory::ChooseBlocks({sources_[1]}, options, asked, &wanted).ok());
    const auto ids = [](const std::vector<memory::ChosenBlock>& chosen) {
      std::vector<std::pair<int, uint64_t>> named;
      for (const memory::ChosenBlock& one : chosen) named.emplace_back(one.source, one.block.id);
      return named;
    };
    EXPECT_EQ(pages, ids(wanted));
    differed += ids(wanted) != ids(alone);
  }
  EXPECT_GT(differed, 0);
}

TEST_F(RecallTest, AttentionReportedAfterAllLayersGoesToTheBlocksOfItsOwnLayer) {
  Recall recall(Options(), RecallChoice::kAttention, 0);
  recall.SetSources(sources_);
  recall.SetAnswering(true);
  std::map<std::tuple<int, uint64_t, int>, double> wanted;  // by source, block id and layer
  for (int pass = 0; pass < 5; ++pass) {
    std::map<int, std::vector<double>> paid;
    for (const int layer : {2, 5}) {
      const kernels::SpanView span = Select(&recall, layer);
      ASSERT_EQ(span.page_count, 4);
      for (int page = 0; page < span.page_count; ++page) {
        ASSERT_NE(span.pages[page].block, 0u);
        paid[layer].push_back(0.01 * (page + 1) + 0.1 * layer);
        wanted[{span.pages[page].source, span.pages[page].block, layer}] += paid[layer].back();
      }
    }
    for (const auto& [layer, mass] : paid) {
      recall.Attended(layer, mass.data(), static_cast<int>(mass.size()), 1);
    }
  }
  size_t told = 0;
  for (const auto& [place, use] : recall.record().uses) {
    for (const auto& [layer, of_layer] : use.layers) {
      ++told;
      EXPECT_DOUBLE_EQ(of_layer.answer_attention, wanted.at({use.source, use.block.id, layer}));
    }
  }
  EXPECT_EQ(told, wanted.size());
  for (const int layer : {2, 5}) {
    EXPECT_EQ(recall.record().layers.at(layer).answer_tokens, 5u);
    EXPECT_EQ(recall.record().layers.at(layer).selections, 5u);
  }
}

TEST_F(RecallTest, APageThatNamesItsBlockBringsTheSameBytesUntilTheSourcesAreSetAgain) {
  Recall recall(Options(), RecallChoice::kRandom, 3);
  recall.SetSources(sources_);
  const std::shared_ptr<const void> epoch = recall.epoch();
  std::map<std::tuple<int, int, uint64_t>, std::vector<uint8_t>> known;
  std::set<int> seen_sources;
  for (int pass = 0; pass < 30; ++pass) {
    for (const int layer : {2, 5}) {
      const kernels::SpanView span = Select(&recall, layer);
      for (int i = 0; i < span.page_count; ++i) {
        const kernels::SpanPage& page = span.pages[i];
        const size_t size = kernels::PayloadBytes(page.codec, page.tokens, span.kv_heads, 16);
        std::vector<uint8_t> bytes(page.keys, page.keys + size);
        bytes.insert(bytes.end(), page.values, page.values + size);
        const auto [at, fresh] = known.insert({{layer, page.source, page.block}, bytes});
        if (!fresh) {
          EXPECT_EQ(at->second, bytes);
        }
        seen_sources.insert(page.source);
      }
    }
  }
  EXPECT_EQ(seen_sources.size(), 2u);
  EXPECT_EQ(recall.epoch(), epoch);
  recall.SetSources({sources_[1], sources_[0]});  // the same names now mean other blocks
  EXPECT_NE(recall.epoch(), epoch);
}

using BlockNames = std::vector<std::pair<int, uint64_t>>;  // source and id

BlockNames Ids(const kernels::SpanView& span) {
  BlockNames ids;
  for (int i = 0; i < span.page_count; ++i) {
    ids.push_back({span.pages[i].source, span.pages[i].block});
  }
  return ids;
}

// The first `count` blocks of a set.
std::vector<memory::PinnedBlock> PinFirst(const RepresentativeIndex& index, int source, int count) {
  std::vector<memory::PinnedBlock> pinned;
  for (int i = 0; i < count; ++i) pinned.push_back({source, index.block(index.live()[i]), 2.5});
  return pinned;
}

TEST_F(RecallTest, PinnedBlocksAreInTheSpanOfEveryLayerBesideWhatAttentionChose) {
  Recall attention(Options(), RecallChoice::kAttention, 0),
      both(Options(), RecallChoice::kAttention, 0);
  Recall words(Options(), RecallChoice::kAttention, 0);
  both.SetPolicy(memory::RecallPolicy::kBoth, {});
  words.SetPolicy(memory::RecallPolicy::kWords, {});
  const auto pinned = PinFirst(*indexes_[1], 1, 3);
  for (Recall* recall : {&attention, &both, &words}) {
    recall->SetSources(sources_);
    recall->SetPinned(pinned);
  }
  for (int pass = 0; pass < 4; ++pass) {
    for (const int layer : {2, 5}) {
      const BlockNames alone = Ids(Select(&attention, layer));
      const kernels::SpanView span = both.Select({layer, queries_.data(), 1, kHeads, 16});
      const std::set<std::pair<int, uint64_t>> seen = [&] {
        const BlockNames ids = Ids(span);
        return std::set<std::pair<int, uint64_t>>(ids.begin(), ids.end());
      }();
      EXPECT_EQ(seen.size(), static_cast<size_t>(span.page_count)) << "a block stands there twice";
      for (const memory::PinnedBlock& pin : pinned)
        EXPECT_TRUE(seen.contains({pin.source, pin.block.id}));
      for (const auto& id : alone) EXPECT_TRUE(seen.contains(id));
      EXPECT_LE(seen.size(), alone.size() + pinned.size());
      const kernels::SpanView only = words.Select({layer, queries_.data(), 1, kHeads, 16});
      ASSERT_EQ(only.page_count, 3);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(only.pages[i].block, pinned[i].block.id);
    }
  }
  int by_words = 0;
  for (const auto& [place, use] : both.record().uses) {
    EXPECT_TRUE(use.by_words || use.by_attention);
    EXPECT_EQ(use.word_score, use.by_words ? 2.5 : 0);
    by_words += use.by_words;
  }
  EXPECT_EQ(by_words, 3);
  for (const auto& [place, use] : attention.record().uses) EXPECT_FALSE(use.by_words);
}

TEST_F(RecallTest, NothingPinnedChangesNothing) {
  Recall attention(Options(), RecallChoice::kAttention, 0),
      both(Options(), RecallChoice::kAttention, 0);
  both.SetPolicy(memory::RecallPolicy::kBoth, {});
  attention.SetSources(sources_);
  both.SetSources(sources_);
  for (int pass = 0; pass < 10; ++pass) {
    const BlockNames alone = Ids(Select(&attention, 2));
    EXPECT_EQ(Ids(both.Select({2, queries_.data(), 1, kHeads, 16})), alone);
  }
}

}  // namespace
}  // namespace eidetic::sdk
