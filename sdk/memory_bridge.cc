#include "sdk/memory_bridge.h"

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "sdk/error_wall.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Status;

BlockWriter::BlockWriter(memory::Layout layout,
                         std::function<uint64_t(uint64_t position)> text_offset,
                         std::function<Status(memory::Block)> append)
    : layout_(std::move(layout)),
      text_offset_(std::move(text_offset)),
      append_(std::move(append)) {}

void BlockWriter::Accept(const model::EvictedRun& run) {
  std::vector<int> run_index(layout_.layers.size());
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    const int* found = std::find(run.layer_ids, run.layer_ids + run.layers, layout_.layers[i]);
    if (found == run.layer_ids + run.layers) {
      throw StatusError(Status(Code::kInternal, "the model evicted no keys of layer " +
                                                    std::to_string(layout_.layers[i])));
    }
    run_index[i] = static_cast<int>(found - run.layer_ids);
  }

  std::vector<const float*> keys(run_index.size()), values(run_index.size());
  for (int begin = 0; begin < run.tokens; begin += layout_.block_tokens) {
    const int count = std::min(layout_.block_tokens, run.tokens - begin);
    const size_t row = static_cast<size_t>(begin) * layout_.RowWidth();
    for (size_t i = 0; i < run_index.size(); ++i) {
      keys[i] = run.keys[run_index[i]] + row;
      values[i] = run.values[run_index[i]] + row;
    }
    memory::BlockHeader header;
    header.position = run.position + begin;
    header.tokens.assign(run.token_ids + begin, run.token_ids + begin + count);
    header.text_begin = text_offset_(header.position);
    header.text_end = text_offset_(header.position + count);
    auto block = memory::EncodeBlock(layout_, std::move(header), keys.data(), values.data());
    ThrowIfError(block.status());
    ThrowIfError(append_(std::move(block).value()));
  }
}

namespace {

// Documents replaced while one layer chooses: more is not bad luck but a fault.
constexpr int kMostRefreshes = 16;

constexpr int kGone = -1;  // the source of a block whose source is no more

}  // namespace

Recall::Recall(memory::RetrievalOptions options, RecallChoice choice, uint64_t seed)
    : options_(options), choice_(choice), random_(seed) {}

void Recall::SetSources(std::vector<memory::RetrievalSource> sources) {
  sources_ = std::move(sources);
  payloads_.clear();
  pages_.clear();
  BeginEpoch();
}

void Recall::DropSource(int source) {
  const auto moved = [source](int one) { return one > source ? one - 1 : one; };
  std::erase_if(pinned_, [source](const auto& pin) { return pin.source == source; });
  for (memory::PinnedBlock& pin : pinned_) pin.source = moved(pin.source);
  decltype(record_.uses) uses;
  for (auto& [key, use] : record_.uses) {
    if (use.source == source) continue;
    use.source = moved(use.source);
    uses.emplace(std::tuple(use.source, std::get<1>(key), std::get<2>(key)), std::move(use));
  }
  record_.uses = std::move(uses);
  for (auto& [layer, last] : last_) {
    std::erase_if(last, [source](const auto& one) { return one.source == source; });
    for (memory::ChosenBlock& one : last) one.source = moved(one.source);
  }
  // Attention to these may still be reported, by their place among the others.
  for (auto& [layer, chosen] : chosen_) {
    for (memory::ChosenBlock& one : chosen) {
      one.source = one.source == source ? kGone : moved(one.source);
    }
  }
}

kernels::SpanView Recall::Select(const model::ScoringQueries& queries) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<memory::ChosenBlock>& chosen = chosen_[queries.layer];
  Status status = Choose(queries, /*first=*/true, &chosen);
  for (int attempt = 0;
       attempt < kMostRefreshes && refresh_ != nullptr && status.code() == Code::kNotFound;
       ++attempt) {
    ThrowIfError(refresh_());
    status = Choose(queries, /*first=*/false, &chosen);
  }
  ThrowIfError(status);

  kernels::SpanView view;
  view.pages = pages_.data();
  view.page_count = static_cast<int>(pages_.size());
  view.head_dim = queries.head_dim;
  for (const kernels::SpanPage& page : pages_) view.tokens += page.tokens;
  if (!sources_.empty()) view.kv_heads = sources_.front().index->layout().kv_heads;

  ++record_.selections;
  ++record_.layers[queries.layer].selections;
  for (const memory::ChosenBlock& one : chosen) {
    BlockUse& use = UseOf(one);
    use.retrieval += one.mass;
    use.by_attention |= one.by_attention;
    use.by_words |= one.by_words;
    use.word_score = std::max(use.word_score, one.word_score);
    ++use.layers[queries.layer].selections;
  }
  record_.seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return view;
}

void Recall::Attended(int layer, const double* mass, int page_count, int tokens) {
  const std::vector<memory::ChosenBlock>& chosen = chosen_.at(layer);
  LayerTotals& totals = record_.layers[layer];
  (answering_ ? totals.answer_tokens : totals.read_tokens) += tokens;
  for (int page = 0; page < page_count; ++page) {
    const memory::ChosenBlock& block = chosen[static_cast<size_t>(page)];
    if (block.source == kGone) continue;
    LayerUse& use = UseOf(block).layers[layer];
    (answering_ ? use.answer_attention : use.read_attention) += mass[page];
  }
}

void Recall::ShareChoices(const std::vector<int>& layers, int group) {
  leaders_.clear();
  if (choice_ == RecallChoice::kRandom) return;
  const auto size = static_cast<size_t>(group);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (i % size != 0) leaders_[layers[i]] = layers[i - i % size];
  }
}

// Layers come in order, so that the leader of this one has chosen for the same tokens just before.
Status Recall::Choose(const model::ScoringQueries& queries, bool first,
                      std::vector<memory::ChosenBlock>* chosen) {
  if (const auto leader = leaders_.find(queries.layer); first && leader != leaders_.end()) {
    const std::vector<memory::ChosenBlock>& its = chosen_.at(leader->second);
    // In the middle of a pass its source may have gone.
    if (std::none_of(its.begin(), its.end(), [](const auto& one) { return one.source == kGone; })) {
      *chosen = its;
      return FetchPages(*chosen, queries.layer);
    }
  }
  chosen->clear();
  std::vector<memory::ChosenBlock> by_attention;
  if (choice_ == RecallChoice::kRandom) {
    EID_RETURN_IF_ERROR(memory::ChooseRandomBlocks(sources_, options_.k, &random_, chosen));
  } else if (policy_ != memory::RecallPolicy::kWords) {
    memory::LayerQueries layer{queries.layer, queries.data, queries.tokens, queries.heads};
    const auto last = last_.find(queries.layer);
    if (queries.tokens == 1 && last != last_.end()) layer.last = &last->second;
    EID_RETURN_IF_ERROR(memory::ChooseBlocks(sources_, options_, layer, chosen));
    by_attention = *chosen;
  }
  if (choice_ == RecallChoice::kAttention && policy_ != memory::RecallPolicy::kAttention) {
    memory::MergePinned(pinned_, share_, chosen);
  }
  EID_RETURN_IF_ERROR(FetchPages(*chosen, queries.layer));
  last_[queries.layer] = std::move(by_attention);
  return Status();
}

// Payloads of one source are read together; pages stand in the order of the choice.
Status Recall::FetchPages(const std::vector<memory::ChosenBlock>& chosen, int layer) {
  payloads_.assign(chosen.size() * 2, nullptr);
  for (size_t source = 0; source < sources_.size(); ++source) {
    std::vector<memory::PayloadKey> wanted;
    std::vector<size_t> slots;
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (chosen[i].source != static_cast<int>(source)) continue;
      const memory::IndexedBlock& block = chosen[i].block;
      for (memory::Part part : {memory::Part::kKeys, memory::Part::kValues}) {
        wanted.push_back({block.lineage, layer, part, block.position});
        slots.push_back(2 * i + static_cast<size_t>(part));
      }
    }
    if (wanted.empty()) continue;
    std::vector<memory::PayloadPtr> read;
    EID_RETURN_IF_ERROR(sources_[source].store->ReadPayloads(wanted, &read));
    for (size_t i = 0; i < slots.size(); ++i) payloads_[slots[i]] = std::move(read[i]);
  }
  pages_.clear();
  for (size_t i = 0; i < chosen.size(); ++i) {
    const memory::Payload& keys = *payloads_[2 * i];
    const memory::Payload& values = *payloads_[2 * i + 1];
    kernels::SpanPage page;
    page.block = chosen[i].block.id;
    page.source = chosen[i].source;
    page.tokens = keys.tokens;
    page.keys = reinterpret_cast<const uint8_t*>(keys.bytes.data());
    page.values = reinterpret_cast<const uint8_t*>(values.bytes.data());
    page.codec = keys.codec;
    if (values.tokens != keys.tokens || values.codec != keys.codec) {
      return Status(Code::kCorruption,
                    "block " + std::to_string(page.block) + ", layer " + std::to_string(layer) +
                        ": keys and values disagree in length",
                    "run 'eidetic memory verify' and ingest the document again");
    }
    pages_.push_back(page);
  }
  return Status();
}

BlockUse& Recall::UseOf(const memory::ChosenBlock& chosen) {
  BlockUse& use = record_.uses[{chosen.source, chosen.block.lineage, chosen.block.position}];
  use.source = chosen.source;
  use.block = chosen.block;
  return use;
}

}  // namespace eidetic::sdk
