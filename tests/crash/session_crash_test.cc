// Kills a process that commits turns, forks, rewinds, removes and forgets, between and inside its
// writes: what was acknowledged is there, what was not is there as a whole or not at all (rule 2).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>

#include "tests/crash/session_script.h"
#include "tests/seed.h"

namespace eidetic::memory {
namespace {

using testing::Sessions;
using testing::TemporaryFolder;

constexpr uint64_t kSteps = 100000;  // more than any process lives to do

// Runs steps from `begin` on, until `lines` of them were acknowledged and `microseconds` more have
// passed. Gives how many were acknowledged in the end.
uint64_t RunAndKill(const std::string& path, uint64_t seed, uint64_t begin, uint64_t lines,
                    unsigned microseconds) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const std::string words[] = {std::to_string(seed), std::to_string(begin), std::to_string(kSteps)};
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(SESSION_CRASH_WRITER, SESSION_CRASH_WRITER, path.c_str(), words[0].c_str(),
          words[1].c_str(), words[2].c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  uint64_t told = 0;
  bool killed = false;
  const auto kill_later = [&] {
    usleep(microseconds);
    kill(child, SIGKILL);
    killed = true;
  };
  if (lines == 0) kill_later();
  // To the end of the pipe: lines written before the kill count.
  for (char byte = 0; read(ends[0], &byte, 1) == 1;) {
    if (byte != '\n') continue;
    ++told;
    if (!killed && told == lines) kill_later();
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "it ended with code " << WEXITSTATUS(status);
  return told;
}

bool Matches(const Archive& archive, const Sessions& sessions) {
  const auto heads = archive.sessions().List();
  EXPECT_TRUE(heads.ok()) << testing::Explain(heads.status());
  if (!heads.ok() || heads->size() != sessions.size()) return false;
  for (const SessionHead& head : *heads) {
    const auto found = sessions.find(head.name);
    const auto waiting = archive.sessions().Waiting(head.name);
    EXPECT_TRUE(waiting.ok()) << testing::Explain(waiting.status());
    // Of turns that wait, some may have been read again before the kill.
    if (found == sessions.end() || head.turns() + waiting->size() != found->second.size() ||
        head.turns() < testing::ReadTurns(found->second).size() ||
        head.tokens() != testing::PlanTokens(testing::FirstTurns(found->second, head.turns()))) {
      return false;
    }
  }
  return true;
}

TEST(SessionCrash, KilledAtSixtySeededMomentsItHasWhatWasAcknowledged) {
  constexpr int kKills = 60;
  std::mt19937_64 random(tests::Seed(20270302));
  const uint64_t seed = random() % 1000;
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  uint64_t done = 0;
  int unacknowledged = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill) + ", seed " + std::to_string(seed));
    const uint64_t told =
        RunAndKill(path, seed, done, random() % 12, static_cast<unsigned>(random() % 4000));
    done += told;
    ArchiveOptions options;
    options.path = path;
    options.create = true;  // it may have been killed before there was an archive
    EID_ASSERT_RESULT(const auto archive, Archive::Open(options));
    Sessions expected = testing::SessionsAfter(done, seed);
    if (!Matches(*archive, expected)) {
      // One step more may have been done without a word.
      expected = testing::SessionsAfter(++done, seed);
      ++unacknowledged;
      ASSERT_TRUE(Matches(*archive, expected)) << "after step " << done;
    }
    for (const auto& [name, plan] : expected) {
      EID_ASSERT_RESULT(const SessionHead head, archive->sessions().Find(name));
      ExpectSession(*archive, name, testing::FirstTurns(plan, head.turns()));
    }
    testing::ExpectClean(*archive);
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
  EXPECT_GT(done, 100u);
  RecordProperty("steps", std::to_string(done));
  RecordProperty("unacknowledged", unacknowledged);
}

}  // namespace
}  // namespace eidetic::memory
