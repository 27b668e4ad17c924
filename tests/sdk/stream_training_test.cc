// A model that is trained under `se-stream` computes what a stream will: the whole sequence at once
// against a stream whose evicted blocks go into a memory and are chosen by its retriever.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memory/block_store.h"
#include "memory/record_store.h"
#include "memory/representative_index.h"
#include "model/hybrid_model.h"
#include "sdk/memory_bridge.h"
#include "tests/model/tiny_model.h"

namespace eidetic::sdk {
namespace {

constexpr int kSequenceBlock = 8, kSequenceSegment = 40, kSequenceTokens = 640;

// A stream that searches what left its window, as a session does.
class SearchedStream {
 public:
  SearchedStream(const model::HybridModel& model, const model::SequenceAttentionOptions& options)
      : model_(model),
        store_(Open()),
        writer_(std::move(store_->NewLineage(LayoutOf(model), "test")).value()) {
    model::AttentionOptions attention;
    attention.window = options.stream.window;
    attention.sinks = options.stream.sinks;
    attention.block_tokens = options.block_tokens;
    attention.query_offset = options.stream.query_offset;
    attention.span_layers = model.config().AttentionLayers();
    state_ = model.NewState(attention);
    index_ = std::make_unique<memory::RepresentativeIndex>(LayoutOf(model),
                                                           memory::IndexKind::kExact, 1);
    sink_ = std::make_unique<BlockWriter>(
        LayoutOf(model), [](uint64_t position) { return position; },
        [this](memory::Block block) { return Keep(std::move(block)); });
    memory::RetrievalOptions retrieval;
    retrieval.k = options.stream.span_blocks;
    retrieval.successors = model::DefaultSuccessors(options.stream.span_blocks);
    retrieval.candidates = options.stream.candidates;
    retrieval.votes = options.stream.votes;
    retrieval.scale = model.config().attention_scale;
    retrieval.threads = 1;
    recall_ = std::make_unique<Recall>(retrieval, RecallChoice::kAttention, 0);
    recall_->SetSources({{index_.get(), store_.get()}});
  }

  std::vector<float> Read(const std::vector<int32_t>& tokens) {
    model::ForwardOptions forward;
    forward.span = recall_.get();
    forward.sink = sink_.get();
    return model::Read(model_, state_.get(), tokens, kSequenceSegment, forward);
  }
  uint64_t spans() const { return recall_->record().selections; }

 private:
  static memory::Layout LayoutOf(const model::HybridModel& model) {
    memory::Layout layout;
    layout.fingerprint = std::string(64, 'a');
    layout.layers = model.config().AttentionLayers();
    layout.kv_heads = model.config().kv_heads;
    layout.head_dim = model.config().head_dim;
    layout.block_tokens = kSequenceBlock;
    layout.representative_tokens = 2;
    layout.codec = kernels::Codec::kFp16;
    return layout;
  }
  static std::unique_ptr<memory::BlockStore> Open() {
    return std::move(memory::BlockStore::Open(memory::NewRamRecordStore(), 64u << 20, false))
        .value();
  }
  memory::Status Keep(memory::Block block) {
    memory::BlockHeader header = block.header;
    const std::vector<uint16_t> representatives = block.representatives;
    EID_RETURN_IF_ERROR(writer_->Append(std::move(block), &header.id));
    EID_RETURN_IF_ERROR(writer_->Flush());
    if (header.position < static_cast<uint64_t>(state_->options().sinks)) return {};
    header.lineage = writer_->lineage();
    return index_->Add(header, representatives);
  }

  const model::HybridModel& model_;
  std::unique_ptr<memory::BlockStore> store_;
  std::unique_ptr<memory::LineageWriter> writer_;
  std::unique_ptr<memory::RepresentativeIndex> index_;
  std::unique_ptr<BlockWriter> sink_;
  std::unique_ptr<Recall> recall_;
  std::unique_ptr<model::ModelState> state_;
};

model::SequenceForwardOptions ReadingOptions() {
  model::SequenceForwardOptions options;
  options.attention.mode = model::SequenceMode::kStream;
  options.attention.block_tokens = kSequenceBlock;
  options.attention.stream.segment = kSequenceSegment;
  options.attention.stream.window = 60;  // no multiple of a block: some wait for a whole one
  options.attention.stream.sinks = 16;
  options.attention.stream.query_offset = 60;
  options.attention.stream.representative_tokens = 2;
  options.attention.stream.votes = 8;
  options.attention.stream.candidates = 24;
  options.attention.stream.span_blocks = 6;
  options.logit_rows = kSequenceTokens;
  return options;
}

double LargestNumber(const std::vector<float>& numbers) {
  double largest = 0;
  for (const float number : numbers) largest = std::max(largest, std::fabs(double{number}));
  return largest;
}

TEST(StreamTraining, GivesTheLogitsOfAStreamThatSearchesItsOwnPast) {
  const model::HybridModel& model = model::TinyModel();
  // A random model has nearly equal blocks, of which fp16 may choose the other one. Of the texts of
  // seeds 60 to 120 twelve have such: in nine a query's last vote goes to another mean, or the last
  // of the candidates is another; in three the last of the span. Logits are then .066 of the
  // largest off, or more. Of the texts below, and of all others, every span is the same, and what
  // is left is the rounding of the span's keys and values: in most rows 4e-5, and in one row of
  // seed 85, which makes much of it, 4.6e-3. (Where training rounds them too, that row is 1e-4
  // off.)
  std::vector<int32_t> ids;
  std::vector<float> expected;
  for (const auto& [seed, tolerance] :
       {std::pair(68u, 1e-3), {73u, 1e-3}, {75u, 1e-3}, {85u, 1e-2}}) {
    ids = model::RandomTokens(kSequenceTokens, model.config().vocabulary, seed);
    const model::SequenceForwardOptions options = ReadingOptions();
    SearchedStream stream(model, options.attention);
    expected = stream.Read(ids);
    // 60 blocks at the end, more than are rescored: all of the choice is at work.
    EXPECT_EQ(stream.spans(), 2u * (kSequenceTokens / kSequenceSegment));
    const std::vector<float> logits = model.ForwardSequence(ids, options).logits;
    EXPECT_LT(model::LargestDifference(logits, expected), tolerance * LargestNumber(expected));
  }
  for (const auto& change : std::vector<std::function<void(model::StreamReading*)>>{
           [](auto* reading) { reading->span_blocks = 0; },
           [](auto* reading) { reading->span_blocks = 5; },
           [](auto* reading) { reading->query_offset = 0; },
           [](auto* reading) { reading->sinks = 8; },
           [](auto* reading) { reading->span_layers = {1}; }}) {
    model::SequenceForwardOptions options = ReadingOptions();
    change(&options.attention.stream);
    const std::vector<float> others = model.ForwardSequence(ids, options).logits;
    EXPECT_GT(model::LargestDifference(others, expected), 1e-2 * LargestNumber(expected));
  }
}

}  // namespace
}  // namespace eidetic::sdk
