// Sessions that begin with the same text read it once.
#include "sdk/kept_beginnings.h"

#include <gtest/gtest.h>

#include <numeric>

#include "sdk/engine.h"
#include "sdk/session.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::sdk {
namespace {

using memory::Code;
using model::TinyFolder;
using TokenIds = std::vector<int32_t>;

class Beginnings : public ::testing::Test {
 protected:
  Beginnings() {
    TinyFolder::Granite().Write(folder_ / "model");  // with Mamba and attention layers
    EngineOptions options;
    options.model_path = folder_ / "model";
    options.threads = 1;
    engine_ = Engine::Create(options).value();
  }

  std::unique_ptr<Session> NewSession(SessionOptions options = {}) const {
    return Session::Create(engine_, options, nullptr).value();
  }
  // The logits after `beginning` and `rest`, read by a new session.
  std::vector<float> Read(const TokenIds& beginning, const TokenIds& rest, bool keep,
                          SessionOptions options = {}) const {
    const auto session = NewSession(options);
    EXPECT_TRUE(session->Append(beginning, false, {}, {}, nullptr, keep).ok());
    EXPECT_TRUE(session->Append(rest, true, {}).ok());
    return session->logits();
  }
  size_t Kept() const { return engine_->beginnings().size(); }
  // A state that read other tokens, kept under the name of `beginning`: whoever takes it shows it.
  void KeepAnother(const TokenIds& beginning) const {
    const auto state = engine_->model().NewState(kept_options_);
    engine_->model().Forward(TokenIds(beginning.size(), 23), state.get(), {.logit_rows = 0},
                             nullptr);
    engine_->beginnings().Keep(engine_->model(), *state, beginning);
  }

  tests::TemporaryFolder folder_;
  std::shared_ptr<const Engine> engine_;
  const TokenIds text_ = {3, 1, 4, 1, 5, 9, 2, 6}, rest_ = {7, 8, 9}, other_rest_ = {11, 12};
  // Of a session by default.
  model::AttentionOptions kept_options_ = [] {
    model::AttentionOptions options;
    const SessionOptions session;
    options.window = session.window;
    options.sinks = session.sinks;
    options.query_offset = session.query_offset;
    return options;
  }();
};

TEST_F(Beginnings, KeptOnesGiveTheSameBitsHoweverOften) {
  const std::vector<float> plain = Read(text_, rest_, false),
                           other = Read(text_, other_rest_, false);
  ASSERT_NE(plain, other);
  EXPECT_EQ(Kept(), 0u);
  EXPECT_EQ(Read(text_, rest_, true), plain);
  EXPECT_EQ(Kept(), 1u);
  // What one session reads after it, the next does not see.
  EXPECT_EQ(Read(text_, other_rest_, true), other);
  EXPECT_EQ(Read(text_, rest_, true), plain);
  EXPECT_EQ(Kept(), 1u);
  // The logits behind the beginning itself are there too, and the session knows what it read.
  const auto reader = NewSession(), taker = NewSession();
  ASSERT_TRUE(reader->Append(text_, false, {}).ok());
  ASSERT_TRUE(taker->Append(text_, false, {}, {}, nullptr, true).ok());
  EXPECT_EQ(taker->logits(), reader->logits());
  GenerateOptions greedy;
  greedy.max_tokens = 4;
  EXPECT_EQ(taker->Generate(greedy)->text, reader->Generate(greedy)->text);
  EXPECT_EQ(taker->logits(), reader->logits());
}

TEST_F(Beginnings, AreTakenInsteadOfRead) {
  const std::vector<float> plain = Read(text_, rest_, false);
  kept_options_.span_layers = engine_->model().config().AttentionLayers();
  KeepAnother(text_);
  ASSERT_EQ(Kept(), 1u);
  EXPECT_NE(Read(text_, rest_, true), plain);
  EXPECT_EQ(Read(text_, rest_, false), plain);  // who does not ask for it reads
  // Another window is another state.
  SessionOptions narrow;
  narrow.window = 512;
  EXPECT_EQ(Read(text_, rest_, true, narrow), Read(text_, rest_, false, narrow));
  EXPECT_EQ(Kept(), 2u);
}

TEST_F(Beginnings, OnlyASessionsFirstPassIsOne) {
  kept_options_.span_layers = engine_->model().config().AttentionLayers();
  KeepAnother(text_);
  const auto logits_of = [&](bool keep, auto&& append, SessionOptions options = {}) {
    const auto session = NewSession(options);
    append(*session, keep);
    return session->logits();
  };
  const auto same = [&](auto&& append, SessionOptions options = {}) {
    return logits_of(true, append, options) == logits_of(false, append, options);
  };
  EXPECT_FALSE(same([&](Session& session, bool keep) {
    EXPECT_TRUE(session.Append(text_, false, {}, {}, nullptr, keep).ok());
  }));
  EXPECT_TRUE(same([&](Session& session, bool keep) {  // not the first
    EXPECT_TRUE(session.Append({1}, false, {}).ok());
    EXPECT_TRUE(session.Append(text_, false, {}, {}, nullptr, keep).ok());
  }));
  EXPECT_TRUE(same([&](Session& session, bool keep) {  // may recall
    EXPECT_TRUE(session.Append(text_, true, {}, {}, nullptr, keep).ok());
  }));
  EXPECT_TRUE(same([&](Session& session, bool keep) {  // every token's loss is wanted
    std::vector<float> losses;
    EXPECT_TRUE(session.Append(text_, false, {}, {}, &losses, keep).ok());
    EXPECT_EQ(losses.size(), text_.size());
  }));
  SessionOptions short_segments;
  short_segments.segment = 4;  // several passes
  EXPECT_TRUE(same(
      [&](Session& session, bool keep) {
        EXPECT_TRUE(session.Append(text_, false, {}, {}, nullptr, keep).ok());
      },
      short_segments));
  EXPECT_EQ(Kept(), 1u);
}

TEST_F(Beginnings, TheFourUsedLastStay) {
  const auto read = [&](int32_t token) { Read({token, 2, 3}, rest_, true); };
  for (int32_t token = 1; token <= 4; ++token) read(token);
  read(1);
  read(5);  // 2 goes
  EXPECT_EQ(Kept(), KeptBeginnings::kMost);
  model::AttentionOptions options = kept_options_;
  options.span_layers = engine_->model().config().AttentionLayers();
  const auto is_kept = [&](int32_t token) {
    return engine_->beginnings().Find(engine_->model(), options, {token, 2, 3}) != nullptr;
  };
  EXPECT_TRUE(is_kept(1));
  EXPECT_FALSE(is_kept(2));
  EXPECT_TRUE(is_kept(5));
}

TEST_F(Beginnings, AnAdaptersAreNotItsBases) {
  model::TinyAdapter::Lora(TinyFolder::Granite()).Write(folder_ / "adapter");
  Read(text_, rest_, true);
  const auto adapted = Engine::WithAdapter(*engine_, folder_ / "adapter", "").value();
  EXPECT_EQ(adapted->beginnings().size(), 0u);
  EXPECT_EQ(Kept(), 1u);
}

}  // namespace
}  // namespace eidetic::sdk
