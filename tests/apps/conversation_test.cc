// A conversation over many processes is that of one, token for token. scripts/soak runs it in full
// length: EIDETIC_TEST_TURNS turns with messages of EIDETIC_TEST_MESSAGE bytes, in
// EIDETIC_TEST_PROCESSES processes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/apps/program.h"
#include "tests/model/model_files.h"
#include "tests/seed.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

std::size_t NumberOf(const char* variable, std::size_t usual) {
  const char* value = std::getenv(variable);
  return value == nullptr ? usual : std::stoul(value);
}

class LongConversation : public ProgramTest {
 protected:
  // One message of the story, another for each turn and seed; on one line.
  std::string Message(std::size_t turn) const {
    static const std::string story = model::ReadFile(EIDETIC_TEST_TEXT);
    std::string text;
    std::size_t at = (tests::Seed(20261126) * 7919 + turn * bytes_) % story.size();
    while (text.size() < bytes_) {
      const char c = story[at];
      // White space and ASCII only: a cut never falls into a character.
      text += c >= ' ' && c <= '~' && !(text.empty() && c == '/') ? c : ' ';
      at = (at + 1) % story.size();
    }
    if (text.back() == '\\') text.back() = '.';
    return text + "\n";
  }

  void Talk(const std::string& archive, std::size_t from, std::size_t to) const {
    std::string script;
    for (std::size_t turn = from; turn < to; ++turn) script += Message(turn);
    Program program({"chat", "--archive", archive, "--model", HybridModel(), "--max-tokens", "3",
                     "--window", window_, "--json"},
                    {}, script);
    const Outcome outcome = program.Wait(std::chrono::hours(6));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const std::vector<json> told = JsonLines(outcome.out);
    ASSERT_EQ(told.size(), to - from);
    EXPECT_EQ(told.back().at("turn"), to);
  }

  static json Turns(const std::string& archive) {
    json turns =
        RunJson({"sessions", "export", "chat", "--archive", archive, "--json"}).at("turn_list");
    for (json& turn : turns) turn.erase("time");
    return turns;
  }

  const std::size_t turns_ = NumberOf("EIDETIC_TEST_TURNS", 20);
  const std::size_t bytes_ = NumberOf("EIDETIC_TEST_MESSAGE", 60);
  const std::size_t processes_ = NumberOf("EIDETIC_TEST_PROCESSES", 4);
  // Short conversations leave a short window, too.
  const std::string window_ = turns_ > 50 ? "1024" : "64";
};

TEST_F(LongConversation, OverManyProcessesIsThatOfOneProcess) {
  ASSERT_NO_FATAL_FAILURE(Talk(Path("one"), 0, turns_));
  for (std::size_t i = 0; i < processes_; ++i) {
    ASSERT_NO_FATAL_FAILURE(
        Talk(Path("many"), i * turns_ / processes_, (i + 1) * turns_ / processes_));
  }
  const json one = Turns(Path("one")), many = Turns(Path("many"));
  ASSERT_EQ(one.size(), turns_);
  ASSERT_EQ(many.size(), turns_);
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < turns_; ++i) {
    ASSERT_EQ(one[i], many[i]) << "turn " << i + 1;
    tokens += one[i].at("tokens").size();
  }
  EXPECT_GT(tokens, 10 * turns_);
  EXPECT_TRUE(RunJson({"memory", "verify", "--archive", Path("many"), "--json"}).at("clean"));
  RecordProperty("tokens", static_cast<int>(tokens));
}

}  // namespace
}  // namespace eidetic::apps
