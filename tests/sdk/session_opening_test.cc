// How far a session is that reads turns again while it is opened, with a tiny random model.
#include <gtest/gtest.h>

#include "memory/archive.h"
#include "sdk/session.h"
#include "tests/model/tiny_folder.h"

namespace eidetic::sdk {
namespace {

using memory::Code;

class SessionOpening : public ::testing::Test {
 protected:
  void SetUp() override {
    model::TinyFolder::Granite().Write(folder_ / "model");
    EngineOptions model;
    model.model_path = folder_ / "model";
    model.threads = 1;
    engine_ = Made(Engine::Create(model));
    memory::ArchiveOptions options;
    options.path = folder_ / "archive";
    options.create = true;
    archive_ = Made(memory::Archive::Open(options));
    // The first and the last eight turns keep their states.
    SessionOptions session;
    session.name = "talk";
    session.window = 64;
    session.segment = 32;
    const auto talk = Made(Session::Create(engine_, session, archive_));
    for (int turn = 1; turn <= 12; ++turn) {
      const std::vector<int32_t> tokens(kTurnTokens, 1 + turn % 5);
      EXPECT_TRUE(talk->Append(tokens, /*use_span=*/true, {}).ok());
      Made(talk->CommitTurn(turn == 1 ? "beginning" : ""));
    }
  }

  template <typename T>
  static T Made(memory::Result<T> result) {
    if (!result.ok()) throw std::runtime_error(result.status().message());
    return std::move(result).value();
  }

  // Opens with progress; false after `most` calls.
  memory::Status Open(const std::string& name, size_t most = SIZE_MAX) {
    told_.clear();
    return Session::Open(engine_, archive_, name,
                         [&](const AppendProgress& progress) {
                           told_.push_back(progress);
                           return told_.size() < most;
                         })
        .status();
  }
  void ExpectToldOf(uint64_t tokens) const {
    ASSERT_FALSE(told_.empty());
    uint64_t last = 0;
    for (const AppendProgress& progress : told_) {
      EXPECT_GT(progress.tokens, last);
      EXPECT_EQ(progress.total, tokens);
      last = progress.tokens;
    }
    EXPECT_EQ(last, tokens);
  }

  static constexpr uint64_t kTurnTokens = 80;
  tests::TemporaryFolder folder_;
  std::shared_ptr<const Engine> engine_;
  std::shared_ptr<memory::Archive> archive_;
  std::vector<AppendProgress> told_;
};

TEST_F(SessionOpening, TellsOfTurnsWithoutAStateAndCanBeStopped) {
  EXPECT_TRUE(Open("talk").ok());
  EXPECT_TRUE(told_.empty());  // its last turn has its state
  ASSERT_TRUE(archive_->sessions().Fork("talk", 3, "second", 1).ok());
  const memory::Status stopped = Open("second", 2);
  EXPECT_EQ(stopped.code(), Code::kCancelled);
  EXPECT_NE(stopped.message().find("of 160 tokens"), std::string::npos) << stopped.message();
  EXPECT_EQ(told_.size(), 2u);
  const memory::Status opened = Open("second");  // turns 2 and 3
  EXPECT_TRUE(opened.ok()) << opened.message();
  ExpectToldOf(2 * kTurnTokens);
  EXPECT_TRUE(Open("second").ok());
  EXPECT_TRUE(told_.empty());  // its state was put back
}

TEST_F(SessionOpening, TellsOfTurnsThatComeAfterAForgottenOne) {
  memory::ForgetRequest forget;
  forget.session = "talk";
  forget.turn = 9;
  ASSERT_TRUE(archive_->Forget(forget).ok());
  // Stopped in the second of the three turns that wait: the first is read by then.
  const memory::Status stopped = Open("talk", 4);
  EXPECT_EQ(stopped.code(), Code::kCancelled);
  EXPECT_NE(stopped.message().find("of 240 tokens"), std::string::npos) << stopped.message();
  EXPECT_TRUE(Open("talk").ok());
  ExpectToldOf(2 * kTurnTokens);
  EXPECT_TRUE(Open("talk").ok());
  EXPECT_TRUE(told_.empty());
}

}  // namespace
}  // namespace eidetic::sdk
