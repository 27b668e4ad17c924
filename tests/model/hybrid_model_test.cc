// The whole forward pass against transformers, and against itself cut in other ways. No Torch here.
#include "model/hybrid_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <thread>

#include "model/error.h"
#include "tests/model/model_files.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

// Issue's bound on fp32 logits: sums of 576 to 1,536 products in another order.
constexpr double kLogitTolerance = 1e-3;

int32_t Greedy(const float* logits, int vocabulary) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocabulary) - logits);
}

std::vector<int32_t> GreedyContinuation(const HybridModel& model, ModelState* state,
                                        const std::vector<float>& last_logits, int count) {
  std::vector<float> logits = last_logits;
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(Greedy(logits.data(), model.config().vocabulary));
    model.Forward({tokens.back()}, state, ForwardOptions(), &logits);
  }
  return tokens;
}

AttentionOptions Full() {
  AttentionOptions options;
  options.mode = AttentionMode::kFull;
  return options;
}

std::vector<float> Row(const std::vector<float>& logits, size_t row, int vocabulary) {
  const auto begin = logits.begin() + static_cast<int64_t>(row * vocabulary);
  return {begin, begin + vocabulary};
}

// The recurrent states stand at the end of a saved state: SSM, then convolution.
std::vector<float> RecurrentState(const ModelState& state, const ModelConfig& config) {
  const MambaConfig& mamba = config.mamba;
  const size_t layer = static_cast<size_t>(mamba.Inner()) * mamba.state +
                       static_cast<size_t>(mamba.conv_width - 1) * mamba.ConvChannels();
  const std::string bytes = state.Serialize();
  std::vector<float> values(layer * config.MambaLayers().size());
  const size_t size = values.size() * sizeof(float);
  std::memcpy(values.data(), bytes.data() + bytes.size() - size, size);
  return values;
}

template <typename Call>
Error Thrown(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("nothing was thrown");
}

TEST(SmolLM2, GivesTheLogitsAndGreedyTokensOfTransformers) {
  const auto reference = SafetensorsFile::Open(ParityFile("smollm2_reference.safetensors"));
  const auto& tensors = reference->tensors();
  const std::vector<int32_t> ids = Integers(tensors.at("input_ids"));
  const std::vector<int32_t> columns = Integers(tensors.at("columns"));
  const auto model =
      HybridModel::Load(GgufFile::Open(BaseModelPath()), LoadOptions{TestDevice(), 0});
  const int vocabulary = model->config().vocabulary;
  const auto state = model->NewState(Full());
  const std::vector<float> logits = Read(*model, state.get(), ids, ids.size());
  ASSERT_EQ(ids.size(), 600u);
  ASSERT_EQ(logits.size(), ids.size() * vocabulary);

  std::vector<float> chosen;
  std::vector<int32_t> best;
  for (size_t row = 0; row < ids.size(); ++row) {
    for (int32_t column : columns) chosen.push_back(logits[row * vocabulary + column]);
    best.push_back(Greedy(&logits[row * vocabulary], vocabulary));
  }
  EXPECT_LT(LargestDifference(chosen, Floats(tensors.at("logits"))), kLogitTolerance);
  const std::vector<float> last = Row(logits, ids.size() - 1, vocabulary);
  EXPECT_LT(LargestDifference(last, Floats(tensors.at("last_logits"))), kLogitTolerance);
  EXPECT_EQ(best, Integers(tensors.at("argmax")));
  EXPECT_EQ(GreedyContinuation(*model, state.get(), last, 64), Integers(tensors.at("greedy")));
}

class SmolHybrid : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = HybridModel::Load(GgufFile::Open(HybridModelPath()), LoadOptions{TestDevice(), 0});
    reference_ = SafetensorsFile::Open(
        FromEnvironment("EIDETIC_TEST_PATCH_DIR", EIDETIC_PATCH_DIR) + "/reference.safetensors");
    ids_ = Integers(reference_->tensors().at("input_ids"));
  }
  static void TearDownTestSuite() { model_.reset(); }

  static std::shared_ptr<const HybridModel> model_;
  static std::shared_ptr<const SafetensorsFile> reference_;
  static std::vector<int32_t> ids_;
};
std::shared_ptr<const HybridModel> SmolHybrid::model_;
std::shared_ptr<const SafetensorsFile> SmolHybrid::reference_;
std::vector<int32_t> SmolHybrid::ids_;

TEST_F(SmolHybrid, GivesTheLogitsAndGreedyTokensOfItsReference) {
  const int vocabulary = model_->config().vocabulary;
  const auto state = model_->NewState(Full());
  const std::vector<float> logits = Read(*model_, state.get(), ids_, ids_.size());
  const std::vector<float> expected = Floats(reference_->tensors().at("logits_last_8"));
  ASSERT_EQ(expected.size(), size_t{8} * vocabulary);
  const std::vector<float> last_8(logits.end() - static_cast<int64_t>(expected.size()),
                                  logits.end());
  EXPECT_LT(LargestDifference(last_8, expected), kLogitTolerance);
  EXPECT_EQ(GreedyContinuation(*model_, state.get(), Row(logits, ids_.size() - 1, vocabulary), 32),
            Integers(reference_->tensors().at("greedy_32")));
}

TEST_F(SmolHybrid, GivesTheSameLogitsAndStateHoweverTheTextIsCutIntoSegments) {
  // Short segments read half of the text, which is some borders of the scan's chunks: a pass takes
  // as long for one token as for seven.
  for (const auto& [tokens, segments] :
       std::map<size_t, std::vector<size_t>>{{ids_.size() / 2, {1, 7}}, {ids_.size(), {64, 512}}}) {
    const std::vector<int32_t> ids = Slice(ids_, 0, tokens);
    const auto whole_state = model_->NewState(Full());
    const std::vector<float> whole = Read(*model_, whole_state.get(), ids, tokens);
    const std::vector<float> recurrent = RecurrentState(*whole_state, model_->config());
    for (const size_t segment : segments) {
      const auto state = model_->NewState(Full());
      const std::vector<float> logits = Read(*model_, state.get(), ids, segment);
      EXPECT_LT(LargestDifference(logits, whole), kLogitTolerance) << "segments of " << segment;
      EXPECT_LT(LargestDifference(RecurrentState(*state, model_->config()), recurrent),
                kLogitTolerance)
          << "segments of " << segment;
    }
  }
}

// -ln softmax(logits)[token] in double precision, and how far fp32 may be from it: a handful of
// roundings of numbers as large as the logits and the logarithm of their sum.
struct ExpectedLoss {
  ExpectedLoss(const std::vector<float>& logits, int32_t token) {
    double sum = 0, largest = 1;
    for (const float logit : logits) {
      sum += std::exp(static_cast<double>(logit));
      largest = std::max(largest, std::fabs(static_cast<double>(logit)));
    }
    value = std::log(sum) - logits[token];
    tolerance = 8 * 0x1p-24 * std::max(largest, std::fabs(std::log(sum)));
  }
  double value, tolerance;
};

void ExpectLossesOfItsLogits(const HybridModel& model, const std::vector<int32_t>& ids,
                             const std::vector<size_t>& segments) {
  const int vocabulary = model.config().vocabulary;
  const auto state = model.NewState(Full());
  size_t first = 0;
  for (const size_t segment : segments) {
    const std::vector<int32_t> part = Slice(ids, first, segment);
    first += segment;
    std::vector<double> losses = {1, 2, 3};  // what was there before goes
    std::vector<float> logits;
    ForwardOptions options;
    options.logit_rows = static_cast<int64_t>(segment);
    options.losses = &losses;
    model.Forward(part, state.get(), options, &logits);
    ASSERT_EQ(losses.size(), segment - 1);
    for (size_t i = 0; i + 1 < segment; ++i) {
      const ExpectedLoss expected(Row(logits, i, vocabulary), part[i + 1]);
      ASSERT_NEAR(losses[i], expected.value, expected.tolerance)
          << "token " << i + 1 << " of " << segment;
    }
  }
}

TEST_F(SmolHybrid, GivesTheLossesOfItsLogits) {
  ExpectLossesOfItsLogits(*model_, ids_, {257});
}

// The tiny model: logits of order 1, but random layers amplify rounding about a hundredfold.
constexpr double kTinyTolerance = 1e-4;

TEST(TinyGranite, HonoursEveryMultiplierAsTransformersDoes) {
  const auto reference = SafetensorsFile::Open(ParityFile("tiny_granite_reference.safetensors"));
  const auto& tensors = reference->tensors();
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = Integers(tensors.at("input_ids"));
  const auto state = model.NewState(Full());
  const std::vector<float> logits = Read(model, state.get(), ids, ids.size());
  EXPECT_LT(LargestDifference(logits, Floats(tensors.at("logits"))), kTinyTolerance);
  std::vector<float> recurrent = Floats(tensors.at("ssm"));
  const std::vector<float> conv = Floats(tensors.at("conv"));
  recurrent.insert(recurrent.end(), conv.begin(), conv.end());
  EXPECT_LT(LargestDifference(RecurrentState(*state, model.config()), recurrent), 1e-4);
}

TEST(TinyGranite, PrefillThenDecodeIsTheSameAsOneShot) {
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = RandomTokens(300, model.config().vocabulary, 5);
  const auto whole_state = model.NewState(Full());
  const std::vector<float> whole = Read(model, whole_state.get(), ids, ids.size());
  for (const size_t prefill : {1, 63, 64, 65, 130, 299}) {
    const auto state = model.NewState(Full());
    std::vector<float> logits = Read(model, state.get(), Slice(ids, 0, prefill), prefill);
    const std::vector<float> rest = Read(model, state.get(), Slice(ids, prefill, ids.size()), 1);
    logits.insert(logits.end(), rest.begin(), rest.end());
    EXPECT_LT(LargestDifference(logits, whole), kTinyTolerance) << "prefill of " << prefill;
  }
}

TEST(TinyGranite, WindowAndStreamWithoutASpanEqualFullAttentionUntilSomethingLeaves) {
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = RandomTokens(27, model.config().vocabulary, 6);
  const auto full = model.NewState(Full());
  const std::vector<float> expected = Read(model, full.get(), ids, 5);
  for (const AttentionMode mode : {AttentionMode::kWindow, AttentionMode::kStream}) {
    AttentionOptions options = TinyOptions(mode);
    options.span_layers = {1, 3};
    const auto state = model.NewState(options);
    EXPECT_LT(LargestDifference(Read(model, state.get(), ids, 5), expected), kTinyTolerance);
    EXPECT_EQ(state->window_begin(), 8u);
    // The 28th token fills a block beyond the window: it leaves afterwards.
    std::vector<float> logits;
    model.Forward({1}, state.get(), ForwardOptions(), &logits);
    EXPECT_EQ(state->window_begin(), 12u);
  }
}

TEST(TinyGranite, LogitsOfTheLastTokenAreTheLastRowOfAll) {
  const HybridModel& model = TinyModel();
  const int vocabulary = model.config().vocabulary;
  const std::vector<int32_t> ids = RandomTokens(20, vocabulary, 7);
  const auto a = model.NewState(Full()), b = model.NewState(Full());
  const std::vector<float> all = Read(model, a.get(), ids, ids.size());
  std::vector<float> last;
  model.Forward(ids, b.get(), ForwardOptions(), &last);
  EXPECT_LT(LargestDifference(last, Row(all, 19, vocabulary)), kTinyTolerance);
  ForwardOptions none;
  none.logit_rows = 0;
  model.Forward(ids, b.get(), none, nullptr);
  EXPECT_EQ(b->position(), 40u);
}

TEST(TinyGranite, LossesOfASegmentAreThoseOfItsLogits) {
  // Rows are made 256 at a time.
  const std::vector<int32_t> ids = RandomTokens(1029, TinyModel().config().vocabulary, 9);
  ExpectLossesOfItsLogits(TinyModel(), ids, {1, 2, 256, 257, 513});
}

TEST(TinyGranite, LossesAreTheSameHoweverManyLogitsAreWanted) {
  const HybridModel& model = TinyModel();
  const int vocabulary = model.config().vocabulary;
  const std::vector<int32_t> ids = RandomTokens(300, vocabulary, 10);
  std::vector<double> first;
  for (const int64_t rows : {300, 257, 1, 0}) {
    std::vector<float> logits;
    std::vector<double> losses;
    ForwardOptions options;
    options.logit_rows = rows;
    options.losses = &losses;
    const auto state = model.NewState(Full());
    model.Forward(ids, state.get(), options, rows > 0 ? &logits : nullptr);
    EXPECT_EQ(logits.size(), static_cast<size_t>(rows * vocabulary));
    if (first.empty()) first = losses;
    EXPECT_EQ(losses, first) << rows << " rows";
  }
}

TEST(TinyGranite, LogitsThatCannotBeGivenAreErrorsThatLeaveTheStateAsItWas) {
  const HybridModel& model = TinyModel();
  const auto state = model.NewState(Full());
  std::vector<float> logits;
  for (const int64_t rows : {-1, 3}) {
    ForwardOptions options;
    options.logit_rows = rows;
    const Error error = Thrown([&] { model.Forward({1, 2}, state.get(), options, &logits); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("logit_rows is " + std::to_string(rows)),
              std::string::npos)
        << error.what();
  }
  const Error error = Thrown([&] {
    model.Forward({1, 2}, state.get(), ForwardOptions(), nullptr);
  });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  model.Forward({1, 2}, state.get(), ForwardOptions(), &logits);
  EXPECT_EQ(state->position(), 2u);
}

TEST(TinyGranite, StreamsOfOneModelRunAtOnceWithoutTouchingOneAnother) {
  const HybridModel& model = TinyModel();
  const auto read = [&](uint32_t seed) {
    const auto state = model.NewState(TinyOptions(AttentionMode::kStream));
    return Read(model, state.get(), RandomTokens(150, model.config().vocabulary, seed), 11);
  };
  std::vector<std::vector<float>> alone, together(4);
  for (uint32_t seed = 0; seed < 4; ++seed) alone.push_back(read(seed));
  std::vector<std::thread> threads;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] { together[seed] = read(seed); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, alone);
}

TEST(TinyGranite, NoTokensAndUnknownTokensAreErrorsThatLeaveTheStateAsItWas) {
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = RandomTokens(10, model.config().vocabulary, 8);
  const auto state = model.NewState(Full()), untouched = model.NewState(Full());
  std::vector<float> logits, expected;
  model.Forward(ids, state.get(), ForwardOptions(), &logits);
  model.Forward(ids, untouched.get(), ForwardOptions(), &logits);
  for (const std::vector<int32_t>& bad :
       {std::vector<int32_t>{}, std::vector<int32_t>{1, 96}, std::vector<int32_t>{-1}}) {
    const Error error = Thrown([&] { model.Forward(bad, state.get(), ForwardOptions(), &logits); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(state->position(), 10u);
  model.Forward({5}, state.get(), ForwardOptions(), &logits);
  model.Forward({5}, untouched.get(), ForwardOptions(), &expected);
  EXPECT_EQ(logits, expected);
}

TEST(TinyGranite, OptionsOutOfRangeAreNamed) {
  const HybridModel& model = TinyModel();
  const auto refuse = [&](const char* name, auto change) {
    AttentionOptions options = TinyOptions(AttentionMode::kStream);
    change(&options);
    const Error error = Thrown([&] { model.NewState(options); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << name;
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
  };
  refuse("window", [](AttentionOptions* o) { o->window = 0; });
  refuse("sinks", [](AttentionOptions* o) { o->sinks = 6; });
  refuse("sinks", [](AttentionOptions* o) { o->sinks = -4; });
  refuse("block_tokens", [](AttentionOptions* o) { o->block_tokens = 0; });
  refuse("query_offset", [](AttentionOptions* o) { o->query_offset = -1; });
  refuse("span_layers", [](AttentionOptions* o) { o->span_layers = {0}; });
  refuse("span_layers", [](AttentionOptions* o) { o->span_layers = {3, 1}; });
  refuse("span_layers", [](AttentionOptions* o) { o->span_layers = {1, 1}; });
  refuse("mode", [](AttentionOptions* o) { o->mode = static_cast<AttentionMode>(7); });
}

TEST(TinyGranite, UnknownDevicesAreRefused) {
  const auto file = GgufFile::Open(ParityFile("tiny_granite.gguf"));
  for (const char* device : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cpu0"}) {
    const Error error = Thrown([&] { HybridModel::Load(file, LoadOptions{device, 1}); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << device;
  }
  const Error error = Thrown([&] { HybridModel::Load(file, LoadOptions{"cuda:127", 1}); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_FALSE(error.remedy().empty());
}

TEST(TinyGranite, NumbersThatAreNotFiniteAreCorruption) {
  std::string bytes = ReadFile(ParityFile("tiny_granite.gguf"));
  const auto file = GgufFile::Open(ParityFile("tiny_granite.gguf"));
  const GgufTensor* tensor = file->FindTensor("blk.1.ffn_down.weight");
  const float infinity = INFINITY;
  std::memcpy(bytes.data() + tensor->file_offset + 40, &infinity, sizeof(infinity));
  TemporaryFolder folder;
  WriteFile(folder / "bad.gguf", bytes);
  const Error error = Thrown([&] {
    HybridModel::Load(GgufFile::Open(folder / "bad.gguf"), LoadOptions{"cpu", 1});
  });
  EXPECT_EQ(error.code(), ErrorCode::kCorruption);
  EXPECT_NE(std::string(error.what()).find("blk.1.ffn_down.weight"), std::string::npos);
}

}  // namespace
}  // namespace eidetic::model
