// Pages that stay in a layer's prefix: what is attended to must not tell them from pages that are
// written anew.
#include "model/span_pages.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kernels/block_codec.h"
#include "model/attention.h"
#include "model/device.h"
#include "model/state.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

constexpr int kKvHeads = 2, kHeadDim = 16, kHeads = 4;

// The bytes of named pages: random, the same for the same name until Redraw.
class PageBytes {
 public:
  explicit PageBytes(uint32_t seed) : random_(seed) {}

  kernels::SpanPage Page(int source, uint64_t block, int tokens, kernels::Codec codec) {
    kernels::SpanPage page;
    page.source = source;
    page.block = block;
    page.tokens = tokens;
    page.codec = codec;
    page.keys = Payload({source, block, 0}, tokens, codec);
    page.values = Payload({source, block, 1}, tokens, codec);
    return page;
  }
  void Redraw() { payloads_.clear(); }

 private:
  using Name = std::tuple<int, uint64_t, int>;
  const uint8_t* Payload(const Name& name, int tokens, kernels::Codec codec) {
    std::vector<uint8_t>& payload = payloads_[name];
    if (payload.empty()) {
      std::uniform_real_distribution<float> draw(-1, 1);
      std::vector<float> numbers(static_cast<size_t>(tokens) * kKvHeads * kHeadDim);
      for (float& number : numbers) number = draw(random_);
      payload.resize(kernels::PayloadBytes(codec, tokens, kKvHeads, kHeadDim));
      kernels::EncodeRows(codec, numbers.data(), tokens, kKvHeads, kHeadDim, payload.data());
    }
    return payload.data();
  }
  std::mt19937 random_;
  std::map<Name, std::vector<uint8_t>> payloads_;
};

kernels::SpanView ViewOf(const std::vector<kernels::SpanPage>& pages) {
  kernels::SpanView view;
  view.pages = pages.data();
  view.page_count = static_cast<int>(pages.size());
  for (const kernels::SpanPage& page : pages) view.tokens += page.tokens;
  view.kv_heads = kKvHeads;
  view.head_dim = kHeadDim;
  return view;
}

// Gives out the pages set before, by name or as pages that nothing is known of.
class ListedSpan : public SpanSource {
 public:
  explicit ListedSpan(bool named) : named_(named) {}
  kernels::SpanView Select(const ScoringQueries&) override {
    given_ = pages;
    for (kernels::SpanPage& page : given_) {
      if (!named_) page.block = 0;
    }
    return ViewOf(given_);
  }
  void Attended(int layer, const double* mass, int page_count, int) override {
    paid[layer].assign(mass, mass + page_count);
  }
  void NewEpoch() { BeginEpoch(); }

  std::vector<kernels::SpanPage> pages;
  std::map<int, std::vector<double>> paid;

 private:
  bool named_;
  std::vector<kernels::SpanPage> given_;
};

ModelConfig Config() {
  ModelConfig config;
  config.vocabulary = 1000;
  config.layers = {LayerKind::kAttention, LayerKind::kAttention};
  config.heads = kHeads;
  config.kv_heads = kKvHeads;
  config.head_dim = kHeadDim;
  config.rotary_base = 1000;
  config.rotary_dims = kHeadDim;
  config.attention_scale = 0.3f;
  return config;
}

AttentionOptions Options(int sinks) {
  AttentionOptions options;
  options.window = 24;
  options.sinks = sinks;
  options.block_tokens = 8;
  options.query_offset = 24;
  options.span_layers = {0, 1};
  return options;
}

// A choice as retrieval makes it from one step to the next: most pages stay, some come and go, in
// order of source and block. Blocks of both sources have the same ids.
class ChangingChoice {
 public:
  explicit ChangingChoice(uint32_t seed) : random_(seed) {}
  std::vector<std::pair<int, uint64_t>> Next() {
    for (int change = static_cast<int>(random_() % 4); change > 0; --change) {
      if (!chosen_.empty() && random_() % 2 == 0) {
        chosen_.erase(std::next(chosen_.begin(), static_cast<int64_t>(random_() % chosen_.size())));
      } else {
        chosen_[{static_cast<int>(random_() % 2), 1 + random_() % 12}] = true;
      }
    }
    std::vector<std::pair<int, uint64_t>> list;
    for (const auto& [name, there] : chosen_) list.push_back(name);
    return list;
  }

 private:
  std::mt19937 random_;
  std::map<std::pair<int, uint64_t>, bool> chosen_;
};

struct Stream {
  Stream(const ModelConfig& config, const AttentionOptions& options, bool named)
      : state(config, options, "graph", OpenDevice(TestDevice())), span(named) {}
  StreamState state;
  ListedSpan span;
};

class PagesThatStay : public testing::TestWithParam<std::tuple<kernels::Codec, int>> {};

TEST_P(PagesThatStay, AreAttendedBitForBitAsPagesWrittenAnew) {
  const auto [codec, sinks] = GetParam();
  const ModelConfig config = Config();
  const AttentionOptions options = Options(sinks);
  Stream kept(config, options, /*named=*/true), anew(config, options, /*named=*/false);
  PageBytes bytes(1);
  ChangingChoice choice(2);
  std::mt19937 random(3);
  std::normal_distribution<float> draw(0, 1);
  for (int step = 0; step < 400; ++step) {
    // Single tokens and segments: the window moves on, the buffer is moved back and reallocated.
    const int tokens = step % 40 == 39 ? 70 : (step % 7 == 6 ? 5 : 1);
    const bool without_span = step % 23 == 22;
    if (step % 50 == 49) {  // the same names stand for other bytes
      bytes.Redraw();
      kept.span.NewEpoch();
    }
    const at::Tensor host = at::empty({2, tokens, (kHeads + 2 * kKvHeads) * kHeadDim}, at::kFloat);
    float* numbers = host.mutable_data_ptr<float>();
    for (int64_t i = 0; i < host.numel(); ++i) numbers[i] = draw(random);
    const at::Tensor qkv = host.to(OpenDevice(TestDevice()));
    std::vector<std::vector<kernels::SpanPage>> pages(2);
    for (auto& of_layer : pages) {
      for (const auto& [source, block] : choice.Next()) {
        // Every fifth block is the short end of a document.
        of_layer.push_back(bytes.Page(source, block, block % 5 == 0 ? 3 : 8, codec));
      }
    }
    std::vector<at::Tensor> outputs;
    for (Stream* stream : {&kept, &anew}) {
      stream->state.Reserve(tokens);
      stream->span.paid.clear();
      AttentionPass pass(config, options, &stream->state.window(), &stream->state.rotary(),
                         static_cast<int64_t>(stream->state.position()), tokens);
      if (!without_span) pass.span = &stream->span;
      pass.report_attention = true;
      for (int layer = 0; layer < 2; ++layer) {
        stream->span.pages = pages[layer];
        outputs.push_back(pass.Attend(qkv[layer], layer, layer).cpu());
      }
      pass.ReportAttention();
      stream->state.Advance(std::vector<int32_t>(tokens, 1), nullptr,
                            /*at_once=*/false);
    }
    ASSERT_TRUE(at::equal(outputs[0], outputs[2])) << "step " << step;
    ASSERT_TRUE(at::equal(outputs[1], outputs[3])) << "step " << step;
    ASSERT_EQ(kept.span.paid, anew.span.paid) << "step " << step;
    if (!without_span && !pages[1].empty()) {
      ASSERT_EQ(kept.span.paid.at(1).size(), pages[1].size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(CodecsAndSinks, PagesThatStay,
                         testing::Combine(testing::Values(kernels::Codec::kInt8,
                                                          kernels::Codec::kFp16),
                                          testing::Values(0, 8)));

TEST(StalePages, AreThoseThatDoNotStandWhereTheyAreWanted) {
  KeyValueWindow window({1, kKvHeads, kHeadDim}, 0, OpenDevice(TestDevice()));
  window.Reserve(64, 32);
  window.Advance(16);
  PageBytes bytes(4);
  const auto page = [&](int source, uint64_t block, int tokens = 8) {
    return bytes.Page(source, block, tokens, kernels::Codec::kInt8);
  };
  ListedSpan source(true), other(true);
  const auto stale = [&](const std::vector<kernels::SpanPage>& pages, SpanSource& of) {
    return window.StalePages(0, ViewOf(pages), of.epoch());
  };
  const std::vector<kernels::SpanPage> first = {page(0, 1), page(0, 2), page(1, 1)};
  EXPECT_EQ(stale(first, source), (std::vector<int>{0, 1, 2}));
  window.MarkPagesWritten(0, ViewOf(first), source.epoch());
  EXPECT_EQ(stale(first, source), std::vector<int>());
  // One more before them moves none; a short one at the end moves all.
  EXPECT_EQ(stale({page(0, 9), first[0], first[1], first[2]}, source), (std::vector<int>{0}));
  EXPECT_EQ(stale({first[0], first[1], first[2], page(1, 5, 3)}, source),
            (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(stale({first[0], page(0, 3), first[2]}, source), (std::vector<int>{1}));
  EXPECT_EQ(stale({first[0], first[2]}, source), (std::vector<int>{0}));
  // The same id of another searched set, a page without an id, another source, another epoch.
  EXPECT_EQ(stale({page(1, 1), first[1], first[2]}, source), (std::vector<int>{0}));
  EXPECT_EQ(stale({page(0, 0), first[1], first[2]}, source), (std::vector<int>{0}));
  EXPECT_EQ(stale(first, other), (std::vector<int>{0, 1, 2}));
  window.Advance(3);  // the window grows at its end
  EXPECT_EQ(stale(first, source), std::vector<int>());
  window.Drop(8);  // and begins elsewhere
  EXPECT_EQ(stale(first, source), (std::vector<int>{0, 1, 2}));
  window.MarkPagesWritten(0, ViewOf(first), source.epoch());
  source.NewEpoch();
  EXPECT_EQ(stale(first, source), (std::vector<int>{0, 1, 2}));
  window.MarkPagesWritten(0, ViewOf(first), source.epoch());
  window.Reserve(640, 1);  // another buffer
  EXPECT_EQ(stale(first, source), (std::vector<int>{0, 1, 2}));
  window.MarkPagesWritten(0, ViewOf(first), source.epoch());
  window.MarkPagesWritten(0, {}, nullptr);  // a pass without a span
  EXPECT_EQ(stale(first, source), (std::vector<int>{0, 1, 2}));
}

TEST(DecodePages, GivesTheBitsOfTheCodecWhereverItDecodes) {
  PageBytes bytes(5);
  const auto int8 = kernels::Codec::kInt8, fp16 = kernels::Codec::kFp16;
  const std::vector<std::vector<kernels::SpanPage>> spans = {
      {bytes.Page(0, 1, 8, int8), bytes.Page(0, 2, 8, int8), bytes.Page(0, 3, 8, int8)},
      {bytes.Page(0, 4, 3, int8)},
      {bytes.Page(0, 5, 8, int8), bytes.Page(0, 6, 5, int8)},
      {bytes.Page(0, 7, 8, fp16), bytes.Page(0, 8, 8, int8)},
      {bytes.Page(0, 9, 8, fp16)}};
  for (const std::vector<kernels::SpanPage>& pages : spans) {
    for (int first = 0; first < static_cast<int>(pages.size()); ++first) {
      const int last = static_cast<int>(pages.size());
      const at::Tensor decoded =
          DecodePages(ViewOf(pages), first, last, OpenDevice(TestDevice())).contiguous().cpu();
      int64_t token = 0;
      for (int i = first; i < last; ++i) {
        const int64_t count = pages[i].tokens;
        for (int part = 0; part < 2; ++part) {
          const at::Tensor wanted = at::empty({count, kKvHeads, kHeadDim}, at::kFloat);
          kernels::DecodeRows(pages[i].codec, part == 0 ? pages[i].keys : pages[i].values,
                              pages[i].tokens, kKvHeads, kHeadDim,
                              wanted.mutable_data_ptr<float>());
          EXPECT_TRUE(at::equal(decoded[part].narrow(1, token, count), wanted.transpose(0, 1)));
        }
        token += count;
      }
      EXPECT_EQ(decoded.size(2), token);
    }
  }
}

}  // namespace
}  // namespace eidetic::model
