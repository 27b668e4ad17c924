// The attention pass against attention as it is defined: explicit compact positions, an explicit
// softmax, in double precision.
#include "model/attention.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "kernels/block_codec.h"
#include "model/device.h"
#include "model/error.h"
#include "model/state.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

constexpr double kTolerance = 2e-5;  // softmax-weighted means of numbers of order 1, in fp32

ModelConfig Config(int rotary_dims) {
  ModelConfig config;
  config.vocabulary = 1000;
  config.layers = {LayerKind::kAttention, LayerKind::kAttention};
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.rotary_base = 1000;
  config.rotary_dims = rotary_dims;
  config.attention_scale = 0.3f;
  return config;
}

AttentionOptions Options(AttentionMode mode) {
  AttentionOptions options;
  options.mode = mode;
  options.window = 24;
  options.sinks = 8;
  options.block_tokens = 8;
  options.query_offset = 24;
  options.span_layers = {1};
  return options;
}

using Rows = std::vector<std::vector<double>>;  // [tokens][width]

// One head's row turned by `position`.
std::vector<double> Turned(const double* row, const ModelConfig& config, double position) {
  std::vector<double> turned(row, row + config.head_dim);
  for (int pair = 0; pair < config.rotary_dims / 2; ++pair) {
    const double angle = position * std::pow(config.rotary_base, -2.0 * pair / config.rotary_dims);
    const double a = row[2 * pair], b = row[2 * pair + 1];
    turned[2 * pair] = a * std::cos(angle) - b * std::sin(angle);
    turned[2 * pair + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
  return turned;
}

// A random span per call, and what it was asked and told.
class FakeSpan : public SpanSource {
 public:
  FakeSpan(const ModelConfig& config, std::vector<int> page_tokens, kernels::Codec codec)
      : config_(config), page_tokens_(std::move(page_tokens)), codec_(codec), random_(41) {}

  kernels::SpanView Select(const ScoringQueries& queries) override {
    asked_layer = queries.layer;
    asked.assign(queries.data, queries.data + queries.tokens * queries.heads * queries.head_dim);
    payloads_.clear();
    pages_.clear();
    keys.clear();
    values.clear();
    const int row = config_.kv_heads * config_.head_dim;
    for (const int tokens : page_tokens_) {
      kernels::SpanPage page;
      page.tokens = tokens;
      page.codec = codec_;
      page.keys = Draw(tokens, row, &keys);
      page.values = Draw(tokens, row, &values);
      pages_.push_back(page);
    }
    kernels::SpanView view;
    view.pages = pages_.data();
    view.page_count = static_cast<int>(pages_.size());
    for (const int tokens : page_tokens_) view.tokens += tokens;
    view.kv_heads = config_.kv_heads;
    view.head_dim = config_.head_dim;
    return view;
  }
  void Attended(int layer, const double* page_mass, int page_count, int tokens) override {
    attended_layer = layer;
    attended_tokens = tokens;
    mass.assign(page_mass, page_mass + page_count);
  }

  int asked_layer = -1, attended_layer = -1, attended_tokens = 0;
  std::vector<double> asked, mass;
  Rows keys, values;  // of the span just selected, as decoded
  const std::vector<int>& page_tokens() const { return page_tokens_; }

 private:
  const uint8_t* Draw(int tokens, int row, Rows* decoded) {
    std::uniform_real_distribution<float> draw(-1, 1);
    std::vector<float> numbers(static_cast<size_t>(tokens) * row);
    for (float& number : numbers) number = draw(random_);
    const auto size = kernels::PayloadBytes(codec_, tokens, config_.kv_heads, config_.head_dim);
    payloads_.push_back(std::make_unique<std::vector<uint8_t>>(size));
    uint8_t* payload = payloads_.back()->data();
    kernels::EncodeRows(codec_, numbers.data(), tokens, config_.kv_heads, config_.head_dim,
                        payload);
    kernels::DecodeRows(codec_, payload, tokens, config_.kv_heads, config_.head_dim,
                        numbers.data());
    for (int token = 0; token < tokens; ++token) {
      decoded->emplace_back(numbers.begin() + token * row, numbers.begin() + (token + 1) * row);
    }
    return payload;
  }

  const ModelConfig& config_;
  std::vector<int> page_tokens_;
  kernels::Codec codec_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<std::vector<uint8_t>>> payloads_;
  std::vector<kernels::SpanPage> pages_;
};

// Attention by definition over everything a layer has seen.
class LiteralAttention {
 public:
  LiteralAttention(const ModelConfig& config, const AttentionOptions& options)
      : config_(config), options_(options) {}

  // qkv: the segment's rows; `span_keys`, `span_values`: null for none. Returns [L][H d].
  Rows Attend(const Rows& qkv, const Rows* span_keys, const Rows* span_values) {
    const int d = config_.head_dim, group = config_.heads / config_.kv_heads;
    Rows keys, values;
    const auto take = [](Rows* to, const Rows& from, size_t first, size_t last) {
      to->insert(to->end(), from.begin() + static_cast<int64_t>(first),
                 from.begin() + static_cast<int64_t>(last));
    };
    take(&keys, keys_, 0, sinks_);
    take(&values, values_, 0, sinks_);
    if (span_keys != nullptr) {
      take(&keys, *span_keys, 0, span_keys->size());
      take(&values, *span_values, 0, span_values->size());
    }
    span_begin_ = sinks_;
    take(&keys, keys_, window_begin_, keys_.size());
    take(&values, values_, window_begin_, values_.size());
    const size_t before = keys.size();
    for (const auto& row : qkv) {
      const auto key = row.begin() + config_.heads * d;
      const auto value = key + config_.kv_heads * d;
      keys.emplace_back(key, value);
      values.emplace_back(value, row.end());
    }
    std::vector<Rows> turned(config_.kv_heads);  // [K][columns][d]
    for (int kv_head = 0; kv_head < config_.kv_heads; ++kv_head) {
      for (size_t j = 0; j < keys.size(); ++j) {
        turned[kv_head].push_back(Turned(&keys[j][kv_head * d], config_, static_cast<double>(j)));
      }
    }
    Rows output;
    mass.assign(keys.size(), 0.0);
    for (size_t i = 0; i < qkv.size(); ++i) {
      std::vector<double> out(config_.heads * d);
      for (int head = 0; head < config_.heads; ++head) {
        const auto query = Turned(&qkv[i][head * d], config_, static_cast<double>(before + i));
        AttendHead(query, head / group, before + i + 1, turned[head / group], values,
                   &out[head * d]);
      }
      output.push_back(out);
    }
    take(&keys_, keys, before, keys.size());
    take(&values_, values, before, values.size());
    return output;
  }

  // After a segment: the window gives whole blocks away.
  void Advance() {
    if (options_.mode == AttentionMode::kFull) return;
    sinks_ = std::min<size_t>(options_.sinks, keys_.size());
    window_begin_ = std::max(window_begin_, sinks_);
    while (keys_.size() - window_begin_ >=
           static_cast<size_t>(options_.window + options_.block_tokens)) {
      window_begin_ += options_.block_tokens;
    }
  }
  std::vector<double> mass;  // per column, of the last call
  size_t span_begin() const { return span_begin_; }

 private:
  void AttendHead(const std::vector<double>& query, int kv_head, size_t columns,
                  const Rows& turned_keys, const Rows& values, double* out) {
    const int d = config_.head_dim;
    std::vector<double> weights(columns);
    double sum = 0;
    for (size_t j = 0; j < columns; ++j) {
      double dot = 0;
      for (int i = 0; i < d; ++i) dot += query[i] * turned_keys[j][i];
      sum += weights[j] = std::exp(dot * static_cast<double>(config_.attention_scale));
    }
    for (size_t j = 0; j < columns; ++j) {
      mass[j] += weights[j] / sum / config_.heads;
      for (int i = 0; i < d; ++i) out[i] += weights[j] / sum * values[j][kv_head * d + i];
    }
  }

  const ModelConfig& config_;
  AttentionOptions options_;
  Rows keys_, values_;
  size_t sinks_ = 0, window_begin_ = 0, span_begin_ = 0;
};

at::Tensor RandomQkv(const ModelConfig& config, int tokens, std::mt19937* random, Rows* rows) {
  const int width = (config.heads + 2 * config.kv_heads) * config.head_dim;
  at::Tensor qkv = at::empty({tokens, width}, at::kFloat);
  std::normal_distribution<float> draw(0, 1);
  float* values = qkv.mutable_data_ptr<float>();
  for (int64_t i = 0; i < qkv.numel(); ++i) values[i] = draw(*random);
  rows->clear();
  for (int token = 0; token < tokens; ++token) {
    rows->emplace_back(values + token * width, values + (token + 1) * width);
  }
  return qkv.to(OpenDevice(TestDevice()));
}

double Difference(const at::Tensor& output, const Rows& expected) {
  const at::Tensor values = output.contiguous().cpu();
  const float* value = values.const_data_ptr<float>();
  double largest = 0;
  for (const auto& row : expected) {
    for (const double number : row) {
      const double difference = std::fabs(*value++ - number);
      if (!(difference <= largest)) largest = difference;
    }
  }
  return largest;
}

struct Case {
  const char* name;
  AttentionMode mode;
  int rotary_dims;
  std::vector<int> pages;  // empty: no span source
  kernels::Codec codec;
  bool report;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class AttentionTest : public testing::TestWithParam<Case> {};

TEST_P(AttentionTest, EqualsItsDefinitionOverAWholeStream) {
  const Case& c = GetParam();
  const ModelConfig config = Config(c.rotary_dims);
  const AttentionOptions options = Options(c.mode);
  StreamState state(config, options, "graph", OpenDevice(TestDevice()));
  FakeSpan span(config, c.pages, c.codec);
  std::vector<LiteralAttention> literal(2, LiteralAttention(config, options));
  std::mt19937 random(42);
  // Single steps from the start, segments longer than the window, and one beyond a query chunk.
  for (const int tokens : {1, 1, 3, 5, 1, 40, 8, 1, 1, 1, 90, 1, 7, 600, 1, 1}) {
    state.Reserve(tokens);
    AttentionPass pass(config, options, &state.window(), &state.rotary(),
                       static_cast<int64_t>(state.position()), tokens);
    if (!c.pages.empty()) pass.span = &span;
    pass.report_attention = c.report;
    for (int layer = 0; layer < 2; ++layer) {
      Rows rows;
      const at::Tensor qkv = RandomQkv(config, tokens, &random, &rows);
      const at::Tensor output = pass.Attend(qkv, layer, layer);
      const bool spans = layer == 1 && c.mode == AttentionMode::kStream && !c.pages.empty();
      const Rows expected =
          literal[layer].Attend(rows, spans ? &span.keys : nullptr, spans ? &span.values : nullptr);
      ASSERT_LT(Difference(output, expected), kTolerance)
          << "layer " << layer << ", position " << state.position() << ", " << tokens << " tokens";
      if (layer == 1) pass.ReportAttention();
      if (spans && c.report) {
        ASSERT_EQ(span.attended_layer, 1);
        ASSERT_EQ(span.attended_tokens, tokens);
        size_t column = literal[1].span_begin();
        for (size_t page = 0; page < c.pages.size(); ++page) {
          double mass = 0;
          for (int i = 0; i < c.pages[page]; ++i) mass += literal[1].mass[column++];
          ASSERT_NEAR(span.mass[page], mass, kTolerance * tokens);
        }
      }
    }
    state.Advance(std::vector<int32_t>(tokens, 1), nullptr, /*at_once=*/false);
    for (LiteralAttention& layer : literal) layer.Advance();
  }
  EXPECT_EQ(span.attended_layer, c.report && c.mode == AttentionMode::kStream ? 1 : -1);
}

INSTANTIATE_TEST_SUITE_P(
    Modes, AttentionTest,
    testing::Values(
        Case{"full", AttentionMode::kFull, 16, {}, kernels::Codec::kFp16, false},
        Case{"window", AttentionMode::kWindow, 16, {}, kernels::Codec::kFp16, false},
        Case{"stream_without_span", AttentionMode::kStream, 16, {}, kernels::Codec::kFp16, false},
        Case{"window_ignores_the_span",
             AttentionMode::kWindow,
             16,
             {8},
             kernels::Codec::kFp16,
             true},
        Case{"stream_fp16", AttentionMode::kStream, 16, {8, 8, 3}, kernels::Codec::kFp16, false},
        Case{"stream_int8_reported",
             AttentionMode::kStream,
             16,
             {1, 8, 8, 5},
             kernels::Codec::kInt8,
             true},
        Case{"span_beyond_the_reserved_prefix", AttentionMode::kStream, 16, std::vector<int>(40, 8),
             kernels::Codec::kInt8, true},
        Case{"partly_rotary", AttentionMode::kStream, 8, {8, 8}, kernels::Codec::kFp16, true},
        Case{"not_rotary", AttentionMode::kStream, 0, {8, 8}, kernels::Codec::kFp16, true}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

TEST(AttentionTest, ScoringQueriesAreTurnedByTheQueryOffset) {
  const ModelConfig config = Config(16);
  const AttentionOptions options = Options(AttentionMode::kStream);
  StreamState state(config, options, "graph", OpenDevice(TestDevice()));
  FakeSpan span(config, {8}, kernels::Codec::kFp16);
  std::mt19937 random(43);
  Rows rows;
  const at::Tensor qkv = RandomQkv(config, 5, &random, &rows);
  state.Reserve(5);
  AttentionPass pass(config, options, &state.window(), &state.rotary(), 0, 5);
  pass.span = &span;
  pass.Attend(qkv, 0, 0);
  EXPECT_EQ(span.asked_layer, -1);
  pass.Attend(qkv, 1, 1);
  EXPECT_EQ(span.asked_layer, 1);
  ASSERT_EQ(span.asked.size(), size_t{5} * 4 * 16);
  for (int token = 0; token < 5; ++token) {
    for (int head = 0; head < 4; ++head) {
      const auto expected = Turned(&rows[token][head * 16], config, 24);
      for (int i = 0; i < 16; ++i) {
        EXPECT_NEAR(span.asked[(token * 4 + head) * 16 + i], expected[i], 1e-6);
      }
    }
  }
}

TEST(AttentionTest, AMillionTokensIntoAStreamIsAsExactAsItsStart) {
  const ModelConfig config = Config(16);
  const AttentionOptions options = Options(AttentionMode::kStream);
  const WindowShape shape{2, config.kv_heads, config.head_dim};
  const c10::Device device = OpenDevice(TestDevice());
  FakeSpan near_span(config, {8, 8}, kernels::Codec::kFp16);
  FakeSpan far_span(config, {8, 8}, kernels::Codec::kFp16);
  KeyValueWindow near_window(shape, 8, device), far_window(shape, 8, device);
  RotaryTable near_table(16, config.rotary_base, device), far_table(16, config.rotary_base, device);
  std::mt19937 random(44);
  int64_t position = 0;
  for (const int tokens : {20, 1, 30, 1, 7}) {
    Rows rows;
    const at::Tensor qkv = RandomQkv(config, tokens, &random, &rows);
    const auto attend = [&](KeyValueWindow* window, RotaryTable* table, FakeSpan* span,
                            int64_t start) {
      window->Reserve(32, tokens);
      AttentionPass pass(config, options, window, table, start + position, tokens);
      pass.span = span;
      const at::Tensor output = pass.Attend(qkv, 1, 1);
      window->Advance(tokens);
      if (window->window_tokens() > 32) window->Drop(window->window_tokens() - 32);
      return output;
    };
    const at::Tensor near_output = attend(&near_window, &near_table, &near_span, 0);
    const at::Tensor far_output = attend(&far_window, &far_table, &far_span, 1000000);
    EXPECT_LT(far_output.sub(near_output).abs().max().item<float>(), kTolerance);
    position += tokens;
  }
}

TEST(AttentionTest, RefusesASpanOfAnotherShape) {
  const ModelConfig config = Config(16);
  ModelConfig other = config;
  other.head_dim = 8;
  const AttentionOptions options = Options(AttentionMode::kStream);
  StreamState state(config, options, "graph", OpenDevice(TestDevice()));
  FakeSpan span(other, {8}, kernels::Codec::kFp16);
  std::mt19937 random(45);
  Rows rows;
  const at::Tensor qkv = RandomQkv(config, 2, &random, &rows);
  state.Reserve(2);
  AttentionPass pass(config, options, &state.window(), &state.rotary(), 0, 2);
  pass.span = &span;
  EXPECT_THROW(pass.Attend(qkv, 1, 1), Error);
}

TEST(RotaryTableTest, KeepsItsAccuracyAtAnyPosition) {
  RotaryTable table(64, 100000, OpenDevice(TestDevice()));
  for (const int64_t first : {int64_t{0}, int64_t{-600}, int64_t{100}, int64_t{1000000},
                              int64_t{999000}, int64_t{50000000}, int64_t{0}}) {
    const at::Tensor slice = table.Slice(first, 50).cpu();
    for (int64_t i = 0; i < 50; ++i) {
      for (int64_t pair = 0; pair < 32; ++pair) {
        const long double angle =
            (first + i) * std::pow(100000.0L, -2.0L * static_cast<long double>(pair) / 64);
        EXPECT_NEAR(slice[i][pair][0].item<float>(), static_cast<double>(std::cos(angle)), 1e-6);
        EXPECT_NEAR(slice[i][pair][1].item<float>(), static_cast<double>(std::sin(angle)), 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace eidetic::model
