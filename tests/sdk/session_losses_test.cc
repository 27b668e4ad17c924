// Losses of a session, with a tiny random model, against its logits in double precision.
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "memory/archive.h"
#include "sdk/session.h"
#include "tests/model/tiny_folder.h"

namespace eidetic::sdk {
namespace {

constexpr int kSegment = 256;
constexpr auto kColumns = static_cast<int64_t>(model::TinyFolder::kVocabulary);

// The most rows of logits that an operation of LibTorch gave, on this thread.
thread_local int64_t most_rows = 0;

void SeeRows(const at::RecordFunction& call, at::ObserverContext*) {
  for (const c10::IValue& output : call.outputs()) {
    if (!output.isTensor() || !output.toTensor().defined()) continue;
    const at::Tensor& values = output.toTensor();
    if (values.dim() == 2 && values.size(1) == kColumns) {
      most_rows = std::max(most_rows, values.size(0));
    }
  }
}

class SessionLosses : public ::testing::Test {
 protected:
  SessionLosses() {
    model::TinyFolder::Granite().Write(folder_ / "model");
    EngineOptions model;
    model.model_path = folder_ / "model";
    model.threads = 1;
    engine_ = Made(Engine::Create(model));
  }

  template <typename T>
  static T Made(memory::Result<T> result) {
    if (!result.ok()) throw std::runtime_error(result.status().message());
    return std::move(result).value();
  }

  std::vector<int32_t> RandomTokens(size_t count) const {
    std::mt19937 random(11);
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) {
      token = static_cast<int32_t>(random() % engine_->tokenizer().vocabulary());
    }
    return tokens;
  }

  // That attends to everything, so that the model alone can do the same.
  static SessionOptions Full(int segment = kSegment) {
    SessionOptions options;
    options.mode = SessionMode::kFull;
    options.segment = segment;
    return options;
  }

  // [tokens, vocabulary], read in the segments that a session reads these calls in.
  std::vector<float> LogitsOf(const std::vector<int32_t>& tokens,
                              const std::vector<size_t>& calls) const {
    model::AttentionOptions attention;
    attention.mode = model::AttentionMode::kFull;
    const auto state = engine_->model().NewState(attention);
    std::vector<float> all, part;
    auto begin = tokens.begin();
    for (size_t left : calls) {
      while (left > 0) {
        const size_t count = std::min<size_t>(left, kSegment);
        model::ForwardOptions forward;
        forward.logit_rows = static_cast<int64_t>(count);
        engine_->model().Forward({begin, begin + static_cast<std::ptrdiff_t>(count)}, state.get(),
                                 forward, &part);
        all.insert(all.end(), part.begin(), part.end());
        begin += static_cast<std::ptrdiff_t>(count);
        left -= count;
      }
    }
    return all;
  }

  tests::TemporaryFolder folder_;
  std::shared_ptr<const Engine> engine_;
};

TEST_F(SessionLosses, AreThoseOfTheLogitsInDoublePrecision) {
  // 257 tokens are a segment and one token of the next.
  const std::vector<size_t> calls = {1, 2, 257, 1, 40};
  const std::vector<int32_t> tokens = RandomTokens(301);
  const std::vector<float> logits = LogitsOf(tokens, calls);
  const auto session = Made(Session::Create(engine_, Full(), nullptr));
  std::vector<float> losses;
  auto begin = tokens.begin();
  for (const size_t count : calls) {
    const auto end = begin + static_cast<std::ptrdiff_t>(count);
    ASSERT_TRUE(session->Append({begin, end}, false, {}, {}, &losses).ok());
    begin = end;
  }
  ASSERT_EQ(losses.size(), tokens.size());
  EXPECT_TRUE(std::isnan(losses[0]));
  for (size_t i = 1; i < tokens.size(); ++i) {
    const float* row = &logits[(i - 1) * kColumns];
    double sum = 0, largest = 1;
    for (int64_t id = 0; id < kColumns; ++id) {
      sum += std::exp(static_cast<double>(row[id]));
      largest = std::max(largest, std::fabs(static_cast<double>(row[id])));
    }
    // A handful of fp32 roundings of numbers as large as the logits.
    ASSERT_NEAR(losses[i], std::log(sum) - row[tokens[i]], 8 * 0x1p-24 * largest) << "token " << i;
  }
  EXPECT_EQ(session->logits(), std::vector<float>(logits.end() - kColumns, logits.end()));
}

TEST_F(SessionLosses, AreTheSameAfterTokensThatWereReadWithoutThem) {
  const std::vector<int32_t> tokens = RandomTokens(40);
  const auto all = Made(Session::Create(engine_, Full(), nullptr));
  const auto end_alone = Made(Session::Create(engine_, Full(), nullptr));
  std::vector<float> expected, losses;
  ASSERT_TRUE(all->Append(tokens, false, {}, {}, &expected).ok());
  ASSERT_TRUE(end_alone->Append({tokens.begin(), tokens.begin() + 30}, false, {}).ok());
  ASSERT_TRUE(end_alone->Append({tokens.begin() + 30, tokens.end()}, false, {}, {}, &losses).ok());
  ASSERT_EQ(losses.size(), 10u);
  for (size_t i = 0; i < losses.size(); ++i) {
    // Segments cut elsewhere: random layers amplify rounding about a hundredfold.
    EXPECT_NEAR(losses[i], expected[30 + i], 1e-4) << i;
  }
}

TEST_F(SessionLosses, NeverHoldTheLogitsOfAWholeSegment) {
  const auto session = Made(Session::Create(engine_, Full(/*segment=*/600), nullptr));
  std::vector<float> losses;
  const at::CallbackHandle handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(nullptr, SeeRows).needsOutputs(true));
  most_rows = 0;
  const memory::Status read = session->Append(RandomTokens(600), false, {}, {}, &losses);
  at::removeCallback(handle);
  ASSERT_TRUE(read.ok()) << read.message();
  EXPECT_EQ(losses.size(), 600u);
  EXPECT_EQ(most_rows, 256);
}

TEST_F(SessionLosses, LeaveLogitsThatASavedSessionGivesBackToTheBit) {
  memory::ArchiveOptions options;
  options.path = folder_ / "archive";
  options.create = true;
  const std::shared_ptr<memory::Archive> archive = Made(memory::Archive::Open(options));
  SessionOptions named = Full();
  named.name = "talk";
  auto session = Made(Session::Create(engine_, named, archive));
  std::vector<float> losses;
  ASSERT_TRUE(session->Append(RandomTokens(300), false, {}, {}, &losses).ok());
  ASSERT_TRUE(session->Save().ok());
  const std::vector<float> logits = session->logits();
  session.reset();
  EXPECT_EQ(Made(Session::Open(engine_, archive, "talk"))->logits(), logits);
}

}  // namespace
}  // namespace eidetic::sdk
