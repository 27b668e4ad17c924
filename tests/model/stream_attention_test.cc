// Attention as a stream reads, against its rules as they are written: a stream of tokens with sinks
// and a window, and loops in double precision over every query, head, block and key.
#include "model/stream_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <random>
#include <vector>

#include "model/device.h"
#include "model/error.h"
#include "tests/model/attention_numbers.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

// Tensors this small are faster on one thread, and by far on a busy machine.
const bool kOnOneThread = (SetComputeThreads(1), true);

struct Shape {
  const char* name;
  int tokens, heads, kv_heads, width;
  int rotated;  // numbers of a head; 0: none
  int segment, window, sinks, block, mean, votes, candidates, span;
  int successors = -1;  // the default
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.name;
}

SequenceAttentionOptions Options(const Shape& shape) {
  SequenceAttentionOptions options;
  options.mode = SequenceMode::kStream;
  options.block_tokens = shape.block;
  options.stream.segment = shape.segment;
  options.stream.window = shape.window;
  options.stream.sinks = shape.sinks;
  options.stream.query_offset = shape.window + 3;
  options.stream.representative_tokens = shape.mean;
  options.stream.votes = shape.votes;
  options.stream.candidates = shape.candidates;
  options.stream.span_blocks = shape.span;
  options.stream.successors = shape.successors;
  return options;
}

constexpr double kBase = 100;

at::Tensor AnglesOf(const Shape& shape, int64_t positions) {
  at::Tensor angles = at::empty({positions, shape.rotated / 2, 2}, at::kDouble);
  double* number = angles.mutable_data_ptr<double>();
  for (int64_t position = 0; position < positions; ++position) {
    for (int pair = 0; pair < shape.rotated / 2; ++pair) {
      const double angle =
          static_cast<double>(position) * std::pow(kBase, -2.0 * pair / shape.rotated);
      *number++ = std::cos(angle);
      *number++ = std::sin(angle);
    }
  }
  return angles;
}

using Row = std::vector<double>;

struct Inputs {
  Shape shape;
  at::Tensor query, key, value;
  Inputs(const Shape& s, uint32_t seed) : shape(s) {
    std::mt19937 random(seed);
    query = Normal({s.tokens, s.heads, s.width}, &random);
    key = Normal({s.tokens, s.kv_heads, s.width}, &random);
    value = Normal({s.tokens, s.kv_heads, s.width}, &random);
  }
  int KeyHead(int head) const { return head / (shape.heads / shape.kv_heads); }
  static Row Of(const at::Tensor& tensor, int token, int head) {
    const int64_t width = tensor.size(2);
    const double* begin = tensor.const_data_ptr<double>() + (token * tensor.size(1) + head) * width;
    return {begin, begin + width};
  }
  Row Turned(Row row, int position) const {
    for (int pair = 0; pair < shape.rotated / 2; ++pair) {
      const double angle = position * std::pow(kBase, -2.0 * pair / shape.rotated);
      const double a = row[2 * pair], b = row[2 * pair + 1];
      row[2 * pair] = a * std::cos(angle) - b * std::sin(angle);
      row[2 * pair + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
    return row;
  }
  Row Query(int token, int head, int position) const {
    return Turned(Of(query, token, head), position);
  }
  Row Key(int token, int head, int position) const {
    return Turned(Of(key, token, KeyHead(head)), position);
  }
  at::Tensor Angles() const {
    return shape.rotated == 0 ? at::Tensor() : AnglesOf(shape, StreamPositions(Options(shape)));
  }
  // On the device and in the type of the test.
  at::Tensor Attend(const SequenceAttentionOptions& options, at::ScalarType type = at::kDouble,
                    at::Tensor* spans = nullptr) const {
    return StreamAttention(There(query, type), There(key, type), There(value, type),
                           There(Angles(), type), options, spans);
  }
  at::Tensor Choose(const SequenceAttentionOptions& options,
                    at::ScalarType type = at::kDouble) const {
    return ChooseStreamSpans(There(query, type), There(key, type), There(Angles(), type), options);
  }
  static at::Tensor There(const at::Tensor& tensor, at::ScalarType type) {
    return tensor.defined() ? tensor.to(OpenDevice(TestDevice()), type) : tensor;
  }
};

double Dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Probabilities of the scores.
Row Softmax(Row scores) {
  double largest = -INFINITY, sum = 0;
  for (const double score : scores) largest = std::max(largest, score);
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (double& score : scores) score /= sum;
  return scores;
}

// The `count` largest of `masses`, the largest first, the earlier of equals first.
std::vector<int> Heaviest(const Row& masses, int count) {
  std::vector<int> order(masses.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return masses[a] > masses[b]; });
  order.resize(std::min<size_t>(order.size(), count));
  return order;
}

// The span of tokens first .. last - 1 out of `blocks` (numbers of blocks).
std::vector<int> LiteralSpan(const Inputs& in, const std::vector<int>& blocks, int first, int last,
                             double scale) {
  const Shape& s = in.shape;
  const int offset = Options(s).stream.query_offset;
  std::vector<int> candidates = blocks;
  if (static_cast<int>(blocks.size()) > std::max(s.candidates, s.span)) {
    Row votes(blocks.size());
    for (int t = first; t < last; ++t) {
      for (int h = 0; h < s.heads; ++h) {
        const Row query = in.Query(t, h, offset);
        std::vector<std::pair<double, int>> scores;  // and the block
        for (size_t b = 0; b < blocks.size(); ++b) {
          for (int mean = 0; mean < s.block / s.mean; ++mean) {
            Row sum(s.width);
            for (int i = 0; i < s.mean; ++i) {
              const Row key = in.Key(blocks[b] * s.block + mean * s.mean + i, h, 0);
              for (int x = 0; x < s.width; ++x) sum[x] += key[x] / s.mean;
            }
            scores.emplace_back(scale * Dot(query, sum), static_cast<int>(b));
          }
        }
        std::stable_sort(scores.begin(), scores.end(),
                         [](const auto& a, const auto& b) { return a.first > b.first; });
        scores.resize(std::min<size_t>(scores.size(), s.votes));
        Row best;
        for (const auto& [score, block] : scores) best.push_back(score);
        best = Softmax(best);
        for (size_t i = 0; i < scores.size(); ++i) votes[scores[i].second] += best[i];
      }
    }
    candidates.clear();
    for (const int b : Heaviest(votes, std::max(s.candidates, s.span))) {
      if (votes[b] > 0) candidates.push_back(blocks[b]);
    }
    std::sort(candidates.begin(), candidates.end());
  }
  Row mass(candidates.size());
  for (int t = first; t < last; ++t) {
    for (int h = 0; h < s.heads; ++h) {
      const Row query = in.Query(t, h, offset);
      Row scores;
      for (const int block : candidates) {
        for (int i = 0; i < s.block; ++i) {
          scores.push_back(scale * Dot(query, in.Key(block * s.block + i, h, 0)));
        }
      }
      scores = Softmax(scores);
      for (size_t i = 0; i < scores.size(); ++i) mass[i / s.block] += scores[i];
    }
  }
  std::vector<int> span;
  const auto take = [&](int block) {
    if (static_cast<int>(span.size()) < s.span && block <= blocks.back() &&
        std::find(span.begin(), span.end(), block) == span.end()) {
      span.push_back(block);
    }
  };
  int leaders = s.successors < 0 ? DefaultSuccessors(s.span) : s.successors;
  for (const int c : Heaviest(mass, s.span)) {
    take(candidates[c]);
    if (leaders-- > 0) take(candidates[c] + 1);
  }
  std::sort(span.begin(), span.end());
  return span;
}

struct Literal {
  std::vector<double> output;           // [L, H, d]
  std::vector<std::vector<int>> spans;  // of each segment
};

// A stream: what was read stands in sinks, window or blocks.
Literal LiteralStream(const Inputs& in, double scale) {
  const Shape& s = in.shape;
  Literal literal;
  std::vector<int> sinks, blocks;  // blocks that are searched
  std::deque<int> window;
  for (int first = 0; first < s.tokens; first += s.segment) {
    const int last = std::min(first + s.segment, s.tokens);
    literal.spans.push_back(LiteralSpan(in, blocks, first, last, scale));
    std::vector<int> seen = sinks;  // tokens, in the order of their positions
    for (const int block : literal.spans.back()) {
      for (int i = 0; i < s.block; ++i) seen.push_back(block * s.block + i);
    }
    seen.insert(seen.end(), window.begin(), window.end());
    for (int t = first; t < last; ++t) {
      seen.push_back(t);
      const int position = static_cast<int>(seen.size()) - 1;
      for (int h = 0; h < s.heads; ++h) {
        Row scores;
        for (int i = 0; i <= position; ++i) {
          scores.push_back(scale * Dot(in.Query(t, h, position), in.Key(seen[i], h, i)));
        }
        scores = Softmax(scores);
        Row row(s.width);
        for (int i = 0; i <= position; ++i) {
          const Row value = Inputs::Of(in.value, seen[i], in.KeyHead(h));
          for (int x = 0; x < s.width; ++x) row[x] += scores[i] * value[x];
        }
        literal.output.insert(literal.output.end(), row.begin(), row.end());
      }
    }
    for (int t = first; t < last; ++t) {
      if (static_cast<int>(sinks.size()) < s.sinks) {
        sinks.push_back(t);
      } else {
        window.push_back(t);
      }
    }
    while (static_cast<int>(window.size()) >= s.window + s.block) {
      blocks.push_back(window.front() / s.block);
      EXPECT_EQ(window.front() % s.block, 0);
      window.erase(window.begin(), window.begin() + s.block);
    }
  }
  return literal;
}

std::vector<std::vector<int>> Read(const at::Tensor& spans) {
  const at::Tensor host = spans.cpu().contiguous();
  std::vector<std::vector<int>> read(static_cast<size_t>(host.size(0)));
  for (int64_t i = 0; i < host.size(0); ++i) {
    for (int64_t j = 0; j < host.size(1); ++j) {
      const auto block = static_cast<int>(host.const_data_ptr<int64_t>()[i * host.size(1) + j]);
      if (block >= 0) read[static_cast<size_t>(i)].push_back(block);
    }
  }
  return read;
}

double Scale(const Shape& shape) {
  return 1 / std::sqrt(shape.width);
}

class StreamAttentionOf : public testing::TestWithParam<Shape> {};

TEST_P(StreamAttentionOf, EqualsItsRulesInDoublePrecision) {
  const Inputs in(GetParam(), 1);
  const auto options = Options(in.shape);
  const Literal literal = LiteralStream(in, Scale(in.shape));
  EXPECT_EQ(Read(in.Choose(options)), literal.spans);
  EXPECT_LT(Largest(Numbers(in.Attend(options)), literal.output), 1e-12);
}

TEST_P(StreamAttentionOf, ChoosesAndComputesTheSameInSinglePrecision) {
  Inputs in(GetParam(), 2);
  for (at::Tensor* tensor : {&in.query, &in.key, &in.value}) {
    *tensor = tensor->to(at::kFloat).to(at::kDouble);
  }
  auto options = Options(in.shape);
  options.scale = 0.4;
  const Literal literal = LiteralStream(in, options.scale);
  EXPECT_EQ(Read(in.Choose(options, at::kFloat)), literal.spans);
  const at::Tensor output = in.Attend(options, at::kFloat);
  EXPECT_EQ(output.scalar_type(), at::kFloat);
  EXPECT_LT(Largest(Numbers(output), literal.output), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, StreamAttentionOf,
    testing::Values(
        //                        L   H  K  d  r  seg win sinks S mean votes cand k
        Shape{"as_usual", 150, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 6, 3},
        Shape{"a_key_head_each", 100, 3, 3, 4, 4, 12, 16, 4, 4, 4, 2, 5, 2},
        Shape{"half_rotated", 110, 6, 2, 8, 4, 16, 16, 8, 8, 2, 4, 3, 2},
        Shape{"not_rotated", 110, 2, 1, 6, 0, 16, 16, 8, 8, 4, 4, 3, 2},
        Shape{"cut_across_blocks", 130, 4, 2, 4, 4, 10, 14, 8, 4, 2, 3, 5, 3},
        Shape{"segments_of_one", 60, 2, 1, 4, 4, 1, 8, 4, 4, 2, 3, 4, 2},
        Shape{"segments_in_sinks", 90, 2, 1, 4, 4, 6, 8, 16, 4, 2, 3, 4, 2},
        Shape{"without_sinks", 90, 2, 1, 4, 4, 16, 8, 0, 4, 1, 3, 4, 2},
        Shape{"nobody_votes", 150, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 100, 3},
        Shape{"no_rescoring", 110, 4, 2, 8, 8, 16, 16, 8, 4, 2, 3, 1, 4},
        Shape{"everything", 110, 4, 2, 8, 8, 16, 16, 8, 4, 2, 3, 6, 100},
        Shape{"no_span", 110, 4, 2, 8, 8, 16, 16, 8, 4, 2, 3, 6, 0},
        Shape{"a_quarter_brings_another", 180, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 12, 8},
        Shape{"without_successors", 150, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 8, 4, 0},
        Shape{"one_successor", 150, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 8, 4, 1},
        Shape{"a_successor_each", 150, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 8, 5, 9},
        // 1,250 means at the end: their best are looked for in groups.
        Shape{"long_rows", 1400, 2, 1, 4, 4, 100, 50, 4, 4, 1, 3, 6, 3},
        Shape{"one_segment", 30, 4, 2, 8, 8, 64, 16, 8, 4, 2, 3, 6, 3}),
    [](const auto& info) { return std::string(info.param.name); });

const Shape kUsual = {"", 150, 4, 2, 8, 8, 16, 24, 8, 4, 2, 3, 6, 3};

// Gradients of sum(weights * output) by query, key and value, and the choice that was made.
std::vector<at::Tensor> Gradients(const Inputs& in, const at::Tensor& weights,
                                  const SequenceAttentionOptions& options, at::Tensor* spans) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& tensor : {in.query, in.key, in.value}) {
    leaves.push_back(Inputs::There(tensor, at::kDouble).clone().set_requires_grad(true));
  }
  StreamAttention(leaves[0], leaves[1], leaves[2], Inputs::There(in.Angles(), at::kDouble), options,
                  spans)
      .backward(Inputs::There(weights, at::kDouble));
  return {leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
}

TEST(StreamAttention, GradientsAreThoseOfFiniteDifferencesAtTheChoiceThatWasMade) {
  const Shape shape = {"", 44, 4, 2, 4, 4, 8, 8, 4, 4, 2, 3, 3, 2};
  Inputs in(shape, 3);
  const auto options = Options(shape);
  std::mt19937 random(4);
  const at::Tensor weights = Normal({shape.tokens, shape.heads, shape.width}, &random);
  at::Tensor spans;
  const std::vector<at::Tensor> gradients = Gradients(in, weights, options, &spans);
  const auto value_of = [&] {
    return in.Attend(options, at::kDouble, &spans).cpu().mul(weights).sum().item<double>();
  };
  ExpectFiniteDifferences({&in.query, &in.key, &in.value}, gradients, value_of, "a stream");
}

TEST(StreamAttention, GradientsReachTheSpanAndTheWindowAndNothingElseThatIsPast) {
  const Inputs in(kUsual, 5);
  const auto options = Options(kUsual);
  const int begin = 7 * kUsual.segment, end = begin + kUsual.segment;
  at::Tensor weights = at::zeros({kUsual.tokens, kUsual.heads, kUsual.width}, at::kDouble);
  weights.narrow(0, begin, kUsual.segment).fill_(1).select(2, 0).fill_(2);
  at::Tensor spans;
  const std::vector<at::Tensor> gradients = Gradients(in, weights, options, &spans);
  const std::vector<int> span = Read(spans)[7];
  ASSERT_EQ(span.size(), 3u);
  for (int t = 0; t < kUsual.tokens; ++t) {
    const bool own = t >= begin && t < end;
    const bool window = t >= begin - kUsual.window && t < begin;  // segments are whole blocks here
    const bool seen = own || window || t < kUsual.sinks ||
                      std::count(span.begin(), span.end(), t / kUsual.block) > 0;
    EXPECT_EQ(gradients[0][t].abs().sum().item<double>() > 0, own) << "query " << t;
    EXPECT_EQ(gradients[1][t].abs().sum().item<double>() > 0, seen) << "key " << t;
    EXPECT_EQ(gradients[2][t].abs().sum().item<double>() > 0, seen) << "value " << t;
  }
}

TEST(StreamAttention, TakesTheSpansItIsGivenAndTellsThoseItChose) {
  const Inputs in(kUsual, 6);
  const auto options = Options(kUsual);
  at::Tensor spans;
  const at::Tensor output = in.Attend(options, at::kDouble, &spans);
  EXPECT_EQ(Read(spans), Read(in.Choose(options)));
  EXPECT_EQ(Numbers(in.Attend(options, at::kDouble, &spans)), Numbers(output));
  at::Tensor others = spans.clone();
  others[9][0].fill_(2);  // the first block behind the sinks
  if (Read(spans)[9][0] == 2) others[9][0].fill_(3);
  const std::vector<double> changed = Numbers(in.Attend(options, at::kDouble, &others));
  const std::vector<double> kept = Numbers(output);
  const size_t row = static_cast<size_t>(kUsual.heads) * kUsual.width;
  const size_t segment = 9 * static_cast<size_t>(kUsual.segment) * row;
  EXPECT_TRUE(std::equal(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(segment),
                         changed.begin()));
  EXPECT_GT(std::fabs(kept.back() - changed.back()), 0);
}

TEST(StreamAttention, NoSegmentDependsOnALaterOne) {
  const Inputs in(kUsual, 7);
  const auto options = Options(kUsual);
  const std::vector<double> expected = Numbers(in.Attend(options));
  for (int first = kUsual.segment; first < kUsual.tokens; first += 3 * kUsual.segment) {
    Inputs other = in;
    const Inputs drawn(kUsual, 8);
    const auto replace = [&](at::Tensor* to, const at::Tensor& from) {
      *to = to->clone();
      to->narrow(0, first, kUsual.tokens - first)
          .copy_(from.narrow(0, first, kUsual.tokens - first));
    };
    replace(&other.query, drawn.query);
    replace(&other.key, drawn.key);
    replace(&other.value, drawn.value);
    const std::vector<double> changed = Numbers(other.Attend(options));
    const auto before = static_cast<std::ptrdiff_t>(first) * kUsual.heads * kUsual.width;
    EXPECT_LT(Largest({expected.begin(), expected.begin() + before},
                      {changed.begin(), changed.begin() + before}),
              1e-12);
    EXPECT_NE(expected, changed);
  }
}

TEST(StreamAttention, ComputesInBf16WithinItsRounding) {
  const Inputs in(kUsual, 9);
  auto options = Options(kUsual);
  at::Tensor spans;  // of the exact numbers: rounded scores may choose others
  const std::vector<double> exact = Numbers(in.Attend(options, at::kDouble, &spans));
  const auto there = [](const at::Tensor& tensor) {
    return Inputs::There(tensor, at::kDouble).to(at::kBFloat16).set_requires_grad(true);
  };
  const at::Tensor query = there(in.query), key = there(in.key), value = there(in.value);
  const at::Tensor angles = Inputs::There(in.Angles(), at::kFloat);
  const at::Tensor output = StreamAttention(query, key, value, angles, options, &spans);
  EXPECT_EQ(output.scalar_type(), at::kBFloat16);
  EXPECT_LT(Largest(Numbers(output), exact), 0.1);
  output.sum().backward();
  EXPECT_GT(key.grad().abs().sum().item<double>(), 0);
  const auto own = Read(ChooseStreamSpans(query, key, angles, options)), expected = Read(spans);
  int same = 0, all = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    for (const int block : expected[i]) {
      ++all;
      same += std::count(own[i].begin(), own[i].end(), block) > 0 ? 1 : 0;
    }
  }
  EXPECT_GT(same, 0.8 * all);
}

TEST(StreamAttention, WrongCallsAreErrorsThatNameWhatIsWrong) {
  const Inputs in(kUsual, 10);
  const auto refuse = [&](const auto& change, const char* part) {
    auto options = Options(kUsual);
    change(options);
    try {
      in.Attend(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  refuse([](auto& o) { o.mode = SequenceMode::kPaper; }, "paper");
  refuse([](auto& o) { o.stream.segment = 0; }, "segment is 0");
  refuse([](auto& o) { o.stream.sinks = 6; }, "sinks is 6");
  refuse([](auto& o) { o.stream.representative_tokens = 3; }, "representative_tokens is 3");
  refuse([](auto& o) { o.stream.span_blocks = -1; }, "span_blocks is -1");
  refuse([](auto& o) { o.stream.window = 4000; }, "positions");
}

}  // namespace
}  // namespace eidetic::model
