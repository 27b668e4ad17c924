// kill -9 at seeded moments during ingest: what was acknowledged is there, the archive is clean,
// and the end is the same as if nothing had happened (rules 2 and 9).
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <thread>

#include "tests/apps/program.h"
#include "tests/seed.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kKills = 20;
constexpr std::size_t kTextBytes = 8'000;  // about 1,900 tokens: 30 segments, each a commit

class Crash : public ProgramTest {
 protected:
  std::vector<std::string> IngestArguments(const std::string& file, const std::string& archive) {
    // Small segments and commits at every one of them: many places to die at. The window is a part
    // of every commit: a small one keeps them short.
    return {"ingest",           file,    "--into",    "stories",
            "--archive",        archive, "--model",   HybridModel(),
            "--commit-seconds", "0.01",  "--segment", "64",
            "--window",         "128",   "--json"};
  }

  static json VerifyClean(const std::string& archive) {
    const Outcome outcome = RunProgram({"memory", "verify", "--archive", archive, "--json"});
    EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
    const json report = json::parse(outcome.out);
    EXPECT_TRUE(report.at("clean")) << report;
    return report;
  }

  static std::string Digest(const json& report) { return report.at("collections")[0].at("digest"); }

  struct Death {
    std::uint64_t first = 0, last = 0;  // acknowledged tokens: of the first and the last commit
  };

  // Starts an ingest and kills it `delay` after it began to read. Nothing when it ended before.
  std::optional<Death> KillAfter(const std::string& file, const std::string& archive,
                                 std::chrono::microseconds delay) {
    Program program(IngestArguments(file, archive));
    std::string line;
    if (!program.ReadLine(&line)) {
      ADD_FAILURE() << "ingest said nothing: " << program.Wait().err;
      return std::nullopt;
    }
    EXPECT_EQ(json::parse(line).at("event"), "started");
    std::this_thread::sleep_for(delay);
    program.Signal(SIGKILL);
    const Outcome outcome = program.Wait();
    if (outcome.signal != SIGKILL) {
      EXPECT_EQ(outcome.code, 0) << outcome.err;
      return std::nullopt;
    }
    // A line that the kill cut in two was never an acknowledgement.
    const std::string whole = outcome.out.substr(0, outcome.out.rfind('\n') + 1);
    Death death;
    for (const json& event : JsonLines(whole)) {
      if (event.at("event") != "committed") continue;
      death.last = event.at("tokens");
      if (death.first == 0) death.first = death.last;
    }
    return death;
  }
};

TEST_F(Crash, KilledIngestKeepsWhatItAcknowledgedAndEndsWithTheSameDigest) {
  const std::string file = Write("story.txt", Prose(kTextBytes));
  const std::string reference = Path("reference");
  const auto begin = Clock::now();
  const Outcome whole = RunProgram(IngestArguments(file, reference));
  ASSERT_EQ(whole.code, 0) << whole.err;
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const std::string digest = Digest(VerifyClean(reference));
  const std::uint64_t tokens = JsonLines(whole.out).back().at("tokens");

  std::mt19937_64 random(tests::Seed(20261124));
  // Moments that let the kills fall all over the document.
  std::uniform_real_distribution<double> moment(0, 2.5 * seconds / kKills);
  int kills = 0, lives = 0;
  std::uint64_t most = 0;
  while (kills < kKills) {
    const std::string archive = Path("archive" + std::to_string(lives++));
    std::uint64_t acknowledged = 0;
    bool complete = false;
    while (!complete && kills < kKills) {
      const auto delay = std::chrono::microseconds(static_cast<long>(1e6 * moment(random)));
      const std::optional<Death> death = KillAfter(file, archive, delay);
      if (HasFailure()) return;
      complete = !death.has_value();
      if (complete) break;
      ++kills;
      VerifyClean(archive);
      // A run begins where the runs before it had come to, or later.
      if (death->first > 0) {
        EXPECT_GE(death->first, acknowledged) << "after kill " << kills;
      }
      acknowledged = std::max(acknowledged, death->last);
      EXPECT_LE(acknowledged, tokens);
      most = std::max(most, acknowledged);
    }
    const Outcome last = RunProgram(IngestArguments(file, archive));
    EXPECT_EQ(last.code, 0) << last.err;
    const json summary = JsonLines(last.out).back();
    EXPECT_EQ(summary.at("tokens"), tokens);
    EXPECT_LE(summary.at("tokens_read").get<std::uint64_t>(), tokens - acknowledged);
    // The digest is over the content alone: nothing is missing and nothing else is there.
    EXPECT_EQ(Digest(VerifyClean(archive)), digest) << "in life " << lives;
  }
  // The kills met documents that were partly there.
  EXPECT_GT(most, tokens / 10);
  RecordProperty("kills", kills);
  RecordProperty("lives", lives);
}

}  // namespace
}  // namespace eidetic::apps
