// Attention over whole sequences against the formulas as they are written: loops in double
// precision over every query, head and key.
#include "model/sequence_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <set>
#include <vector>

#include "model/device.h"
#include "model/error.h"
#include "tests/model/attention_numbers.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

constexpr double kDoubleTolerance = 1e-12;
constexpr double kFloatTolerance = 1e-5;  // softmax-weighted means of numbers of order 1, in fp32

struct Sizes {
  int tokens, heads, kv_heads, width;  // L, H, K, d
};

at::Tensor OnDevice(const at::Tensor& tensor) {
  return tensor.to(OpenDevice(TestDevice()));
}

struct Inputs {
  Sizes sizes;
  at::Tensor query, key, value;  // double, on the CPU
  std::vector<double> q, k, v;
  Inputs(const Sizes& s, uint32_t seed) : sizes(s) {
    std::mt19937 random(seed);
    query = Normal({s.tokens, s.heads, s.width}, &random);
    key = Normal({s.tokens, s.kv_heads, s.width}, &random);
    value = Normal({s.tokens, s.kv_heads, s.width}, &random);
    Read();
  }
  void Read() {
    q = Numbers(query);
    k = Numbers(key);
    v = Numbers(value);
  }
  at::Tensor Attend(const SequenceAttentionOptions& options) const {
    return SequenceAttention(OnDevice(query), OnDevice(key), OnDevice(value), options);
  }
  std::vector<at::Tensor> Choose(const SequenceAttentionOptions& options) const {
    return ChooseSpans(OnDevice(query), OnDevice(key), OnDevice(value), options);
  }
  int KeyHead(int head) const { return head / (sizes.heads / sizes.kv_heads); }
  double Q(int t, int h, int i) const { return q[(t * sizes.heads + h) * sizes.width + i]; }
  double K(int t, int h, int i) const {
    return k[(t * sizes.kv_heads + KeyHead(h)) * sizes.width + i];
  }
  double V(int t, int h, int i) const {
    return v[(t * sizes.kv_heads + KeyHead(h)) * sizes.width + i];
  }
  double Dot(int t, int h, int u) const {  // q_t . k_u
    double sum = 0;
    for (int i = 0; i < sizes.width; ++i) sum += Q(t, h, i) * K(u, h, i);
    return sum;
  }
};

// Whether head h of token t sees token u.
using Sees = std::function<bool(int t, int h, int u)>;

// softmax(scale q k^T) v over the tokens that each token sees: [L][H][d].
std::vector<double> LiteralAttention(const Inputs& in, double scale, const Sees& sees) {
  std::vector<double> output;
  for (int t = 0; t < in.sizes.tokens; ++t) {
    for (int h = 0; h < in.sizes.heads; ++h) {
      std::vector<double> row(in.sizes.width);
      double sum = 0;
      for (int u = 0; u < in.sizes.tokens; ++u) {
        if (!sees(t, h, u)) continue;
        const double weight = std::exp(scale * in.Dot(t, h, u));
        sum += weight;
        for (int i = 0; i < in.sizes.width; ++i) row[i] += weight * in.V(u, h, i);
      }
      for (const double number : row) output.push_back(number / sum);
    }
  }
  return output;
}

// c_j of one head: the mean row of softmax(scale Q_j K_j^T) V_j, without a causal mask.
std::vector<double> LiteralSummary(const Inputs& in, double scale, int block, int rows, int head) {
  std::vector<double> summary(in.sizes.width);
  for (int s = block * rows; s < (block + 1) * rows; ++s) {
    double sum = 0;
    std::vector<double> row(in.sizes.width);
    for (int u = block * rows; u < (block + 1) * rows; ++u) {
      const double weight = std::exp(scale * in.Dot(s, head, u));
      sum += weight;
      for (int i = 0; i < in.sizes.width; ++i) row[i] += weight * in.V(u, head, i);
    }
    for (int i = 0; i < in.sizes.width; ++i) summary[i] += row[i] / sum / rows;
  }
  return summary;
}

using Spans = std::vector<std::vector<std::vector<int64_t>>>;  // [chunk][key head][n]

// softmax((R + mask) / sqrt(d)) over all blocks, then the k largest that are not masked.
std::vector<int64_t> LiteralTop(std::vector<double> scores, int candidates, int k, int width) {
  double sum = 0;
  for (size_t j = 0; j < scores.size(); ++j) {
    const double mask = static_cast<int>(j) < candidates ? 0 : -INFINITY;
    sum += scores[j] = std::exp((scores[j] + mask) / std::sqrt(width));
  }
  std::vector<int64_t> best;
  while (static_cast<int>(best.size()) < std::min(k, candidates)) {
    const auto top = std::max_element(scores.begin(), scores.end());
    EXPECT_GT(*top / sum, 0) << "the softmax of this test underflows";
    best.push_back(top - scores.begin());
    *top = -1;
  }
  std::sort(best.begin(), best.end());
  return best;
}

Spans LiteralSpans(const Inputs& in, double scale, const SequenceAttentionOptions& options) {
  const int chunk = options.chunk_sizes[0], rows = options.block_tokens;
  const Sizes& s = in.sizes;
  Spans spans;
  for (int first = 0; first < s.tokens; first += chunk) {
    int candidates = 0;
    while ((candidates + 1) * rows <= first) ++candidates;
    std::vector<std::vector<double>> scores(s.kv_heads, std::vector<double>(s.tokens / rows));
    for (int h = 0; h < s.heads; ++h) {
      for (int j = 0; j < s.tokens / rows; ++j) {
        std::vector<double> summary = LiteralSummary(in, scale, j, rows, h);
        if (options.mode == SequenceMode::kPaperLandmark) {  // the key of the block's last token
          for (int i = 0; i < s.width; ++i) summary[i] = in.K((j + 1) * rows - 1, h, i);
        }
        for (int t = first; t < std::min(first + chunk, s.tokens); ++t) {
          for (int i = 0; i < s.width; ++i) scores[in.KeyHead(h)][j] += in.Q(t, h, i) * summary[i];
        }
      }
    }
    if (options.one_choice_for_all_heads) {
      for (int head = 1; head < s.kv_heads; ++head) {
        for (size_t j = 0; j < scores[0].size(); ++j) scores[0][j] += scores[head][j];
      }
      for (auto& row : scores) row = scores[0];
    }
    spans.emplace_back();
    for (auto& row : scores) {
      spans.back().push_back(LiteralTop(row, candidates, options.span_blocks, s.width));
    }
  }
  return spans;
}

Spans Read(const std::vector<at::Tensor>& chosen) {
  Spans spans;
  for (const at::Tensor& chunk : chosen) {
    spans.emplace_back();
    for (int64_t head = 0; head < chunk.size(0); ++head) {
      const at::Tensor row = chunk[head].cpu().contiguous();
      const int64_t* begin = row.const_data_ptr<int64_t>();
      spans.back().emplace_back(begin, begin + row.numel());
    }
  }
  return spans;
}

// The chosen blocks, and the token's chunk up to itself.
Sees SeesSpanAndChunk(const Inputs& in, const SequenceAttentionOptions& options, Spans spans) {
  const int chunk = options.chunk_sizes[0], rows = options.block_tokens;
  return [=, &in](int t, int h, int u) {
    if (u / chunk == t / chunk) return u <= t;
    const auto& span = spans[t / chunk][in.KeyHead(h)];
    return std::find(span.begin(), span.end(), u / rows) != span.end();
  };
}

struct Case {
  const char* name;
  Sizes sizes;
  int chunk, block, k;
  bool one_choice = false;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

SequenceAttentionOptions Options(const Case& c, SequenceMode mode) {
  SequenceAttentionOptions options;
  options.mode = mode;
  options.chunk_sizes = {c.chunk};
  options.block_tokens = c.block;
  options.span_blocks = c.k;
  options.one_choice_for_all_heads = c.one_choice;
  options.groups = 4;
  options.window = c.chunk;
  options.seed = 5;
  return options;
}

double Scale(const Sizes& sizes) {
  return 1 / std::sqrt(sizes.width);
}

class PaperAttention : public testing::TestWithParam<Case> {};

TEST_P(PaperAttention, EqualsItsFormulas) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 11);
  const auto options = Options(c, SequenceMode::kPaper);
  const Spans spans = LiteralSpans(in, Scale(c.sizes), options);
  EXPECT_EQ(Read(in.Choose(options)), spans);
  const auto expected = LiteralAttention(in, Scale(c.sizes), SeesSpanAndChunk(in, options, spans));
  EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance);
}

TEST_P(PaperAttention, ChoosesAndComputesTheSameInSinglePrecision) {
  const Case& c = GetParam();
  Inputs in(c.sizes, 12);
  auto options = Options(c, SequenceMode::kPaper);
  options.scale = 0.4;
  for (at::Tensor* tensor : {&in.query, &in.key, &in.value}) *tensor = tensor->to(at::kFloat);
  in.Read();
  const Spans spans = LiteralSpans(in, options.scale, options);
  EXPECT_EQ(Read(in.Choose(options)), spans);
  const at::Tensor output = in.Attend(options);
  EXPECT_EQ(output.scalar_type(), at::kFloat);
  EXPECT_LT(Largest(Numbers(output),
                    LiteralAttention(in, options.scale, SeesSpanAndChunk(in, options, spans))),
            kFloatTolerance);
}

TEST_P(PaperAttention, WithLandmarksChoosesByTheKeysOfLastTokens) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 19);
  const auto options = Options(c, SequenceMode::kPaperLandmark);
  const Spans spans = LiteralSpans(in, Scale(c.sizes), options);
  EXPECT_EQ(Read(in.Choose(options)), spans);
  const auto expected = LiteralAttention(in, Scale(c.sizes), SeesSpanAndChunk(in, options, spans));
  EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance);
}

TEST_P(PaperAttention, WithoutMemorySeesItsChunkAlone) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 13);
  const auto options = Options(c, SequenceMode::kPaperNoMemory);
  const auto expected = LiteralAttention(
      in, Scale(c.sizes), [&](int t, int, int u) { return u / c.chunk == t / c.chunk && u <= t; });
  EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance);
  EXPECT_TRUE(in.Choose(options).empty());
}

TEST_P(PaperAttention, AtRandomSeesTheBlocksThatItSaysItDrew) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 14);
  const auto options = Options(c, SequenceMode::kPaperRandom);
  const Spans spans = Read(in.Choose(options));
  ASSERT_EQ(spans.size(), (c.sizes.tokens + c.chunk - 1) / c.chunk);
  for (size_t chunk = 0; chunk < spans.size(); ++chunk) {
    const int64_t candidates = static_cast<int64_t>(chunk) * c.chunk / c.block;
    ASSERT_EQ(spans[chunk].size(), c.sizes.kv_heads);
    for (const auto& span : spans[chunk]) {
      ASSERT_EQ(static_cast<int64_t>(span.size()), std::min<int64_t>(c.k, candidates));
      ASSERT_EQ(std::set<int64_t>(span.begin(), span.end()).size(), span.size());
      for (const int64_t block : span) ASSERT_TRUE(block >= 0 && block < candidates);
      if (c.one_choice) {
        ASSERT_EQ(span, spans[chunk][0]);
      }
    }
  }
  const auto expected = LiteralAttention(in, Scale(c.sizes), SeesSpanAndChunk(in, options, spans));
  EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance);
}

TEST_P(PaperAttention, OfTheFirstChunkIsFullCausalAttention) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 15);
  const std::vector<double> full = Numbers(in.Attend(Options(c, SequenceMode::kFull)));
  const size_t first =
      static_cast<size_t>(std::min(c.chunk, c.sizes.tokens)) * c.sizes.heads * c.sizes.width;
  for (const auto mode :
       {SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kPaperNoMemory}) {
    const std::vector<double> output = Numbers(in.Attend(Options(c, mode)));
    for (size_t i = 0; i < first; ++i) ASSERT_NEAR(output[i], full[i], kDoubleTolerance);
  }
}

TEST_P(PaperAttention, FullIsTheCausalAttentionOfLibTorch) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 16);
  const int64_t group = c.sizes.heads / c.sizes.kv_heads;
  const auto by_head = [&](const at::Tensor& rows, int64_t repeat) {
    return OnDevice(rows).repeat_interleave(repeat, 1).transpose(0, 1).unsqueeze(0);
  };
  const at::Tensor expected =
      at::scaled_dot_product_attention(by_head(in.query, 1), by_head(in.key, group),
                                       by_head(in.value, group), {}, 0.0, /*is_causal=*/true);
  const auto options = Options(c, SequenceMode::kFull);
  const std::vector<double> output = Numbers(in.Attend(options));
  EXPECT_LT(Largest(output, Numbers(expected[0].transpose(0, 1))), kDoubleTolerance);
  EXPECT_LT(Largest(output,
                    LiteralAttention(in, Scale(c.sizes), [](int t, int, int u) { return u <= t; })),
            kDoubleTolerance);
}

TEST_P(PaperAttention, WindowIsFullAttentionUnderABand) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 17);
  for (const int window : {1, 7, c.sizes.tokens - 1, c.sizes.tokens, 1000}) {
    if (window < 1) continue;
    auto options = Options(c, SequenceMode::kWindow);
    options.window = window;
    const auto expected = LiteralAttention(
        in, Scale(c.sizes), [&](int t, int, int u) { return u <= t && u > t - window; });
    EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance)
        << "window " << window;
  }
}

TEST_P(PaperAttention, ShiftedGroupsBeginHalfAGroupLaterForTheUpperHalfOfTheHeads) {
  const Case& c = GetParam();
  const Inputs in(c.sizes, 18);
  for (const int groups : {1, 3, 4, 1000}) {
    auto options = Options(c, SequenceMode::kShiftedSparse);
    options.groups = groups;
    const int size = (c.sizes.tokens + groups - 1) / groups, shift = size / 2;
    const auto group_of = [&](int t, int h) {
      if (h < c.sizes.heads / 2) return t / size;
      return t < shift ? -1 : (t - shift) / size;
    };
    const auto expected = LiteralAttention(in, Scale(c.sizes), [&](int t, int h, int u) {
      return u <= t && group_of(u, h) == group_of(t, h);
    });
    EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance)
        << groups << " groups";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PaperAttention,
    testing::Values(Case{"a_key_head_per_head", {48, 4, 4, 8}, 16, 4, 2},
                    Case{"grouped_heads_and_a_ragged_end", {77, 9, 3, 8}, 16, 4, 3},
                    Case{"one_choice_for_all_heads", {77, 9, 3, 8}, 16, 4, 3, true},
                    Case{"one_key_head", {33, 3, 1, 4}, 8, 2, 5},
                    Case{"one_head", {33, 1, 1, 6}, 8, 4, 2},
                    Case{"less_than_a_chunk", {10, 9, 3, 8}, 16, 4, 2},
                    Case{"one_token", {1, 4, 2, 4}, 16, 4, 2},
                    Case{"a_last_chunk_of_one_token", {33, 4, 2, 4}, 16, 4, 2},
                    Case{"more_blocks_than_candidates", {40, 6, 2, 4}, 8, 4, 50},
                    Case{"chunks_that_cut_blocks", {53, 4, 2, 6}, 10, 4, 2},
                    Case{"blocks_longer_than_chunks", {37, 4, 2, 4}, 3, 8, 2},
                    Case{"blocks_of_one_token", {33, 4, 2, 4}, 8, 1, 5},
                    Case{"chunks_of_one_token", {23, 4, 2, 4}, 1, 2, 3}),
    [](const auto& info) { return std::string(info.param.name); });

const Case kCase = {"", {77, 9, 3, 8}, 16, 4, 3};

TEST(SequenceAttention, WithEveryBlockChosenIsFullAttention) {
  const Inputs in(kCase.sizes, 21);
  auto options = Options(kCase, SequenceMode::kPaper);
  options.span_blocks = 1000;
  EXPECT_LT(
      Largest(Numbers(in.Attend(options)), Numbers(in.Attend(Options(kCase, SequenceMode::kFull)))),
      kDoubleTolerance);
}

TEST(SequenceAttention, OfManyWindowPiecesEqualsTheBandInSinglePrecision) {
  // 1,300 tokens: two pieces of 512 queries and a ragged one behind the first window.
  const Sizes sizes = {1300, 2, 1, 4};
  Inputs in(sizes, 22);
  for (at::Tensor* tensor : {&in.query, &in.key, &in.value}) *tensor = tensor->to(at::kFloat);
  in.Read();
  SequenceAttentionOptions options;
  options.mode = SequenceMode::kWindow;
  options.window = 100;
  const auto expected =
      LiteralAttention(in, Scale(sizes), [](int t, int, int u) { return u <= t && u > t - 100; });
  EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kFloatTolerance);
}

TEST(SequenceAttention, ChoosesTheSameBlocksWhenSummariesAreMadeInPieces) {
  // 600 blocks of 32 tokens: more than are summarised at once.
  const Sizes sizes = {19300, 2, 1, 4};
  const Inputs in(sizes, 23);
  const Case c = {"", sizes, 19200, 32, 5};
  const auto options = Options(c, SequenceMode::kPaper);
  EXPECT_EQ(Read(in.Choose(options)), LiteralSpans(in, Scale(sizes), options));
}

TEST(SequenceAttention, ShiftedGroupsAreThoseOfARolledSequenceWithoutItsLeak) {
  // LongLoRA rolls half of the heads back by half a group and cuts the rolled sequence. In the last
  // group the sequence's first tokens then stand behind its last ones and must not see them.
  const Sizes sizes = {64, 4, 2, 6};
  const Inputs in(sizes, 24);
  const int size = sizes.tokens / 4;
  const auto place = [&](int t, int h) {
    return h < 2 ? t : (t - size / 2 + sizes.tokens) % sizes.tokens;
  };
  const auto expected = LiteralAttention(in, Scale(sizes), [&](int t, int h, int u) {
    return place(u, h) / size == place(t, h) / size && place(u, h) <= place(t, h) && u <= t;
  });
  SequenceAttentionOptions options;
  options.mode = SequenceMode::kShiftedSparse;
  EXPECT_LT(Largest(Numbers(in.Attend(options)), expected), kDoubleTolerance);
}

// `in` with tokens from `first` on replaced.
Inputs WithOtherTokensFrom(const Inputs& in, int first) {
  Inputs other = in;
  const Inputs drawn(in.sizes, 99);
  const auto replace = [&](at::Tensor* to, const at::Tensor& from) {
    *to = to->clone();
    to->narrow(0, first, in.sizes.tokens - first)
        .copy_(from.narrow(0, first, in.sizes.tokens - first));
  };
  replace(&other.query, drawn.query);
  replace(&other.key, drawn.key);
  replace(&other.value, drawn.value);
  return other;
}

// The largest change of outputs of tokens before `end`.
double ChangeBefore(int end, const Inputs& a, const Inputs& b,
                    const SequenceAttentionOptions& options) {
  return Largest(Numbers(a.Attend(options).narrow(0, 0, end)),
                 Numbers(b.Attend(options).narrow(0, 0, end)));
}

TEST(SequenceAttention, NoOutputDependsOnALaterToken) {
  const Inputs in(kCase.sizes, 25);
  for (const auto mode :
       {SequenceMode::kFull, SequenceMode::kWindow, SequenceMode::kShiftedSparse,
        SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kPaperNoMemory}) {
    auto options = Options(kCase, mode);
    // As many blocks as there are: the paper's choice, which does listen to later queries of its
    // chunk, then has nothing to choose.
    if (mode == SequenceMode::kPaper) options.span_blocks = 1000;
    for (int t = 1; t < kCase.sizes.tokens; ++t) {
      const Inputs other = WithOtherTokensFrom(in, t);
      ASSERT_LT(ChangeBefore(t, in, other, options), kDoubleTolerance)
          << SequenceModeName(mode) << ", token " << t;
      ASSERT_GT(ChangeBefore(t + 1, in, other, options), 1e-3) << SequenceModeName(mode);
    }
  }
}

TEST(SequenceAttention, PaperChoicesListenToTheirWholeChunkAndToNothingBehindIt) {
  const Inputs in(kCase.sizes, 26);
  const auto options = Options(kCase, SequenceMode::kPaper);
  for (int first = kCase.chunk; first < kCase.sizes.tokens; first += kCase.chunk) {
    EXPECT_LT(ChangeBefore(first, in, WithOtherTokensFrom(in, first), options), kDoubleTolerance);
  }
  // Only the last query of the third chunk changes, and with it what the chunk's first token sees.
  Inputs other = in;
  other.query = in.query.clone();
  other.query[3 * kCase.chunk - 1].mul_(-30);
  EXPECT_LT(ChangeBefore(2 * kCase.chunk, in, other, options), kDoubleTolerance);
  EXPECT_GT(ChangeBefore(2 * kCase.chunk + 1, in, other, options), 1e-3);
  EXPECT_NE(Read(in.Choose(options))[2], Read(other.Choose(options))[2]);
}

// Gradients of sum(weights * output) by query, key and value.
std::vector<at::Tensor> Gradients(const Inputs& in, const at::Tensor& weights,
                                  const SequenceAttentionOptions& options) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& tensor : {in.query, in.key, in.value}) {
    leaves.push_back(OnDevice(tensor).clone().set_requires_grad(true));
  }
  const at::Tensor output = SequenceAttention(leaves[0], leaves[1], leaves[2], options);
  output.backward(OnDevice(weights));
  return {leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
}

TEST(SequenceAttention, GradientsAreThoseOfFiniteDifferences) {
  // 4 query heads on 2 key heads, five chunks, the last one ragged; halves of heads in s2 are whole
  // key heads here and cut one below, with 6 heads on 2.
  for (const Sizes& sizes : {Sizes{22, 4, 2, 3}, Sizes{19, 6, 2, 3}}) {
    Inputs in(sizes, 27);
    std::mt19937 random(28);
    const at::Tensor weights = Normal({sizes.tokens, sizes.heads, sizes.width}, &random);
    const Case c = {"", sizes, 5, 2, 2};
    for (const auto mode :
         {SequenceMode::kFull, SequenceMode::kWindow, SequenceMode::kShiftedSparse,
          SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kPaperNoMemory}) {
      const auto options = Options(c, mode);
      const auto value_of = [&] {
        return in.Attend(options).cpu().mul(weights).sum().item<double>();
      };
      ExpectFiniteDifferences({&in.query, &in.key, &in.value}, Gradients(in, weights, options),
                              value_of, SequenceModeName(mode));
    }
  }
}

double LengthOf(const at::Tensor& tensor) {
  return std::sqrt(tensor.square().sum().item<double>());
}

// Against double precision on the same rounded inputs. On CUDA this is the one kernel over all
// chunks; elsewhere each chunk's own call.
TEST(SequenceAttention, InSixteenBitsChunksAndTheirGradientsAreThoseOfDouble) {
  const double kRounding = std::ldexp(1.0, -8);  // of bfloat16; numbers and gradients of order 1
  for (const Case& c :
       {kCase, Case{"", {40, 6, 2, 8}, 8, 4, 50}, Case{"", {33, 4, 4, 16}, 16, 8, 1}}) {
    for (const auto mode :
         {SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kPaperNoMemory}) {
      Inputs in(c.sizes, 33);
      std::mt19937 random(34);
      const at::Tensor weights =
          Normal({c.sizes.tokens, c.sizes.heads, c.sizes.width}, &random).to(at::kBFloat16);
      for (at::Tensor* tensor : {&in.query, &in.key, &in.value}) {
        *tensor = tensor->to(at::kBFloat16);
      }
      Inputs exact = in;
      for (at::Tensor* tensor : {&exact.query, &exact.key, &exact.value}) {
        *tensor = tensor->to(at::kDouble);
      }
      const auto options = Options(c, mode);
      EXPECT_EQ(Read(in.Choose(options)), Read(exact.Choose(options))) << SequenceModeName(mode);
      EXPECT_LT(Largest(Numbers(in.Attend(options)), Numbers(exact.Attend(options))),
                4 * kRounding);
      const auto gradients = Gradients(in, weights, options);
      const auto expected = Gradients(exact, weights.to(at::kDouble), options);
      for (size_t i = 0; i < gradients.size(); ++i) {
        const at::Tensor wrong = gradients[i].to(at::kDouble).sub(expected[i]);
        EXPECT_LT(LengthOf(wrong), 2 * kRounding * LengthOf(expected[i]))
            << SequenceModeName(mode) << " input " << i;
      }
    }
  }
}

TEST(SequenceAttention, AChunkReachesKeysAndValuesOfItsSpanAndNoOtherEarlierTokens) {
  const Inputs in(kCase.sizes, 29);
  const auto options = Options(kCase, SequenceMode::kPaper);
  const int begin = 3 * kCase.chunk, end = 4 * kCase.chunk;
  at::Tensor weights = at::zeros({77, 9, 8}, at::kDouble);
  weights.narrow(0, begin, kCase.chunk).fill_(1).select(2, 0).fill_(2);
  const std::vector<at::Tensor> gradients = Gradients(in, weights, options);
  const Spans spans = Read(in.Choose(options));
  for (int t = 0; t < kCase.sizes.tokens; ++t) {
    const bool own = t >= begin && t < end;
    // Earlier queries make the summaries; through these no gradient comes.
    EXPECT_EQ(gradients[0][t].abs().sum().item<double>() > 0, own) << "query " << t;
    for (int head = 0; head < kCase.sizes.kv_heads; ++head) {
      const auto& span = spans[3][head];
      const bool seen = own || std::count(span.begin(), span.end(), t / kCase.block) > 0;
      EXPECT_EQ(gradients[1][t][head].abs().sum().item<double>() > 0, seen) << "key " << t;
      EXPECT_EQ(gradients[2][t][head].abs().sum().item<double>() > 0, seen) << "value " << t;
    }
  }
}

TEST(SequenceAttention, DrawsBlocksBySeedAndForEachKeyHeadApart) {
  const Inputs in(kCase.sizes, 30);
  auto options = Options(kCase, SequenceMode::kPaperRandom);
  const Spans first = Read(in.Choose(options));
  EXPECT_EQ(Read(in.Choose(options)), first);
  EXPECT_EQ(Numbers(in.Attend(options)), Numbers(in.Attend(options)));
  // What comes later in the sequence does not change earlier draws.
  Inputs longer(Sizes{200, 9, 3, 8}, 31);
  const Spans more = Read(longer.Choose(options));
  EXPECT_TRUE(std::equal(first.begin(), first.end(), more.begin()));
  EXPECT_TRUE(more.back()[0] != more.back()[1] || more.back()[1] != more.back()[2]);
  options.seed += 1;
  EXPECT_NE(Read(in.Choose(options)), first);
}

TEST(SequenceAttention, DrawsAChunkSizeForEachSeed) {
  const Sizes sizes = {64, 2, 1, 4};
  const Inputs in(sizes, 32);
  SequenceAttentionOptions options;
  options.mode = SequenceMode::kPaperNoMemory;
  std::set<std::vector<double>> outputs;
  for (const int chunk : {8, 16}) {
    options.chunk_sizes = {chunk};
    outputs.insert(Numbers(in.Attend(options)));
  }
  options.chunk_sizes = {8, 16};
  std::set<std::vector<double>> drawn;
  for (options.seed = 0; options.seed < 20; ++options.seed) {
    drawn.insert(Numbers(in.Attend(options)));
  }
  EXPECT_EQ(drawn, outputs);
}

TEST(SequenceAttention, TakesTensorsOfAnyStrides) {
  const Inputs in(kCase.sizes, 33);
  const auto options = Options(kCase, SequenceMode::kPaper);
  const auto strided = [](const at::Tensor& rows) {
    return OnDevice(rows).transpose(0, 1).contiguous().transpose(0, 1);
  };
  const at::Tensor output =
      SequenceAttention(strided(in.query), strided(in.key), strided(in.value), options);
  EXPECT_TRUE(output.is_contiguous());
  EXPECT_LT(Largest(Numbers(output), Numbers(in.Attend(options))), kDoubleTolerance);
}

int64_t PeakMegabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

TEST(SequenceAttention, ForwardAndBackwardOfALongSequenceTakeLinearMemory) {
  // One byte for each pair of tokens would be 1,074 MB. Inputs and gradients are a few.
  const Sizes sizes = {32768, 1, 1, 8};
  Inputs in(sizes, 34);
  for (at::Tensor* tensor : {&in.query, &in.key, &in.value}) *tensor = tensor->to(at::kFloat);
  const at::Tensor weights = at::empty({sizes.tokens, 1, 8}, at::kFloat).fill_(1);
  for (const auto mode :
       {SequenceMode::kFull, SequenceMode::kWindow, SequenceMode::kShiftedSparse,
        SequenceMode::kPaper, SequenceMode::kPaperRandom, SequenceMode::kPaperNoMemory}) {
    SequenceAttentionOptions options;
    options.mode = mode;
    options.chunk_sizes = {2048};
    options.window = 1024;
    const int64_t before = PeakMegabytes();
    EXPECT_TRUE(Gradients(in, weights, options)[1].isfinite().all().item<bool>());
    EXPECT_LT(PeakMegabytes() - before, 500) << SequenceModeName(mode);
  }
}

TEST(SequenceAttention, TensorsThatDoNotFitTogetherAreRefusedWithTheirShapes) {
  const at::Tensor query = at::zeros({6, 4, 8}), key = at::zeros({6, 2, 8});
  const auto refuse = [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const char* part) {
    try {
      SequenceAttention(q, k, v, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  refuse(query, at::zeros({5, 2, 8}), at::zeros({5, 2, 8}), "[5, 2, 8]");
  refuse(query, key, at::zeros({6, 2, 4}), "[6, 2, 4]");
  refuse(query, at::zeros({6, 2, 4}), at::zeros({6, 2, 4}), "[6, 2, 4]");
  refuse(query, at::zeros({6, 3, 8}), at::zeros({6, 3, 8}), "share");
  refuse(at::zeros({6, 32}), key, key, "[6, 32]");
  refuse(at::zeros({0, 4, 8}), at::zeros({0, 2, 8}), at::zeros({0, 2, 8}), "empty");
  refuse(query, key.to(at::kDouble), key, "types");
  refuse(query.to(at::kLong), key.to(at::kLong), key.to(at::kLong), "types");
}

}  // namespace
}  // namespace eidetic::model
