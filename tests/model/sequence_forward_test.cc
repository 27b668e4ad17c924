// The whole model over whole sequences, against its own streams. No Torch here.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>

#include "model/error.h"
#include "model/hybrid_model.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

constexpr double kTolerance = 1e-5;

SequenceForwardOptions Options(SequenceMode mode, int64_t logit_rows) {
  SequenceForwardOptions options;
  options.attention.mode = mode;
  options.attention.chunk_sizes = {16};
  options.attention.block_tokens = 4;
  options.attention.span_blocks = 2;
  options.attention.window = 24;
  options.logit_rows = logit_rows;
  return options;
}

std::vector<float> Logits(const std::vector<int32_t>& ids, const SequenceForwardOptions& options) {
  return TinyModel().ForwardSequence(ids, options).logits;
}

std::vector<float> AllLogits(const std::vector<int32_t>& ids, SequenceMode mode) {
  return Logits(ids, Options(mode, static_cast<int64_t>(ids.size())));
}

std::vector<float> OfAStream(const std::vector<int32_t>& ids) {
  AttentionOptions options;
  options.mode = AttentionMode::kFull;
  const auto state = TinyModel().NewState(options);
  return Read(TinyModel(), state.get(), ids, ids.size());
}

std::vector<int32_t> Tokens(int count) {
  return RandomTokens(count, TinyModel().config().vocabulary, 51);
}

constexpr SequenceMode kModes[] = {SequenceMode::kFull,          SequenceMode::kWindow,
                                   SequenceMode::kShiftedSparse, SequenceMode::kPaper,
                                   SequenceMode::kPaperRandom,   SequenceMode::kPaperNoMemory};

TEST(SequenceForward, FullIsTheFullAttentionOfAStream) {
  // The last one is longer than the pieces that rows are computed in, by one token.
  for (const int count : {1, 2, 50, 300, 2049}) {
    const std::vector<int32_t> ids = Tokens(count);
    EXPECT_LT(LargestDifference(AllLogits(ids, SequenceMode::kFull), OfAStream(ids)), kTolerance)
        << count << " tokens";
  }
}

TEST(SequenceForward, EveryModeIsFullAttentionWhereItsReachIsTheWholeSequence) {
  const std::vector<int32_t> ids = Tokens(300);
  const std::vector<float> expected = AllLogits(ids, SequenceMode::kFull);
  for (const SequenceMode mode : kModes) {
    auto options = Options(mode, 300);
    options.attention.chunk_sizes = {300};
    options.attention.window = 300;
    // Half of the heads would still be cut in the middle of a single group.
    if (mode == SequenceMode::kShiftedSparse) continue;
    EXPECT_LT(LargestDifference(Logits(ids, options), expected), kTolerance)
        << SequenceModeName(mode);
  }
  auto everything = Options(SequenceMode::kPaper, 300);
  everything.attention.span_blocks = 1000;
  EXPECT_LT(LargestDifference(Logits(ids, everything), expected), kTolerance);
}

TEST(SequenceForward, ModesDifferWhereTheirReachDoes) {
  const std::vector<int32_t> ids = Tokens(300);
  std::vector<std::vector<float>> logits;
  for (const SequenceMode mode : kModes) logits.push_back(AllLogits(ids, mode));
  for (size_t a = 0; a < logits.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      EXPECT_GT(LargestDifference(logits[a], logits[b]), 1e-2)
          << SequenceModeName(kModes[a]) << ", " << SequenceModeName(kModes[b]);
    }
  }
}

TEST(SequenceForward, LogitsOfALaterTokenDoNotChangeEarlierOnes) {
  std::vector<int32_t> ids = Tokens(120);
  std::vector<int32_t> other = ids;
  other[80] = (other[80] + 1) % TinyModel().config().vocabulary;  // the first token of a chunk
  const size_t before = size_t{80} * TinyModel().config().vocabulary;
  for (const SequenceMode mode : kModes) {
    std::vector<float> a = AllLogits(ids, mode), b = AllLogits(other, mode);
    EXPECT_GT(LargestDifference(a, b), 1e-2) << SequenceModeName(mode);
    a.resize(before);
    b.resize(before);
    EXPECT_LT(LargestDifference(a, b), kTolerance) << SequenceModeName(mode);
  }
}

TEST(SequenceForward, GivesTheLogitsOfTheLastTokensAndTheLossOfEveryToken) {
  // Three batches of logits, and rows that begin inside one of them.
  const std::vector<int32_t> ids = Tokens(600);
  const int vocabulary = TinyModel().config().vocabulary;
  const std::vector<float> all = AllLogits(ids, SequenceMode::kPaper);
  ASSERT_EQ(all.size(), ids.size() * vocabulary);
  for (const int64_t rows : {0, 1, 100, 300, 600}) {
    for (const bool losses : {false, true}) {
      SequenceForwardOptions options = Options(SequenceMode::kPaper, rows);
      options.losses = losses;
      const SequenceOutput output = TinyModel().ForwardSequence(ids, options);
      EXPECT_LT(LargestDifference(output.logits, {all.end() - rows * vocabulary, all.end()}),
                kTolerance)
          << rows << " rows";
      ASSERT_EQ(output.losses.size(), losses ? ids.size() - 1 : 0u);
      for (size_t i = 0; i < output.losses.size(); ++i) {
        double sum = 0;
        for (int id = 0; id < vocabulary; ++id) {
          sum += std::exp(static_cast<double>(all[i * vocabulary + id]));
        }
        ASSERT_NEAR(output.losses[i],
                    std::log(sum) - static_cast<double>(all[i * vocabulary + ids[i + 1]]),
                    kTolerance);
      }
    }
  }
}

TEST(SequenceForward, OfOneTokenHasNoLoss) {
  SequenceForwardOptions options = Options(SequenceMode::kPaper, 1);
  options.losses = true;
  EXPECT_TRUE(TinyModel().ForwardSequence({7}, options).losses.empty());
}

TEST(SequenceForward, RepeatsItselfBySeed) {
  const std::vector<int32_t> ids = Tokens(200);
  SequenceForwardOptions options = Options(SequenceMode::kPaperRandom, 200);
  const std::vector<float> first = Logits(ids, options);
  EXPECT_EQ(Logits(ids, options), first);
  options.attention.seed = 1;
  EXPECT_GT(LargestDifference(Logits(ids, options), first), 1e-2);
}

TEST(SequenceForward, OfALongSequenceTakesLinearMemory) {
  // One byte for each pair of tokens would be 1,074 MB. Full attention, whose time is quadratic, is
  // tried in sequence_attention_test.
  const std::vector<int32_t> ids = Tokens(32768);
  for (const SequenceMode mode : kModes) {
    if (mode == SequenceMode::kFull) continue;
    SequenceForwardOptions options = Options(mode, 1);
    options.attention.chunk_sizes = {2048};
    options.attention.window = 1024;
    options.losses = true;
    rusage before{}, after{};
    getrusage(RUSAGE_SELF, &before);
    const SequenceOutput output = TinyModel().ForwardSequence(ids, options);
    getrusage(RUSAGE_SELF, &after);
    EXPECT_LT((after.ru_maxrss - before.ru_maxrss) / 1024, 500) << SequenceModeName(mode);
    double mean = 0;
    for (const double loss : output.losses) mean += loss / static_cast<double>(ids.size() - 1);
    EXPECT_TRUE(mean > 1 && mean < 20) << mean;
  }
}

TEST(SequenceForward, WrongCallsAreErrorsThatNameWhatIsWrong) {
  const auto refuse = [](const std::vector<int32_t>& ids, const SequenceForwardOptions& options,
                         const char* part) {
    try {
      TinyModel().ForwardSequence(ids, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      return;
    }
    ADD_FAILURE() << "nothing was thrown: " << part;
  };
  refuse({}, Options(SequenceMode::kFull, 0), "0 tokens");
  refuse({96}, Options(SequenceMode::kFull, 1), "96");
  refuse({1, 2}, Options(SequenceMode::kFull, 3), "logit_rows is 3");
  refuse({1, 2}, Options(SequenceMode::kFull, -1), "logit_rows is -1");
  SequenceForwardOptions options = Options(SequenceMode::kPaper, 1);
  options.attention.block_tokens = 0;
  refuse({1, 2}, options, "block_tokens is 0");
}

}  // namespace
}  // namespace eidetic::model
