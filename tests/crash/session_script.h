// A seeded sequence of turns, forks, rewinds, removals and forgetting, as a plan and as changes of
// an archive.
#ifndef EIDETIC_TESTS_CRASH_SESSION_SCRIPT_H_
#define EIDETIC_TESTS_CRASH_SESSION_SCRIPT_H_

#include <cstdint>
#include <map>
#include <string>

#include "tests/memory/session_turns.h"

namespace eidetic::memory::testing {

using Sessions = std::map<std::string, Plan>;

struct Step {
  enum class Kind { kTurn, kFork, kRewind, kRemove, kForgetTurn, kForgetSession, kReadAgain };
  Kind kind = Kind::kTurn;
  std::string session;
  TurnPlan turn;       // kTurn
  size_t to_turn = 0;  // kFork, kRewind, kForgetTurn
  std::string fork;    // kFork
};

// What comes after `sessions` as step `number`: a function of these and the seed alone.
Step StepAfter(const Sessions& sessions, uint64_t number, uint64_t seed);
void Apply(const Step& step, Sessions* sessions);
// `sessions`: what the archive holds before.
Status Apply(const Step& step, const Sessions& sessions, Archive* archive);

// The sessions after steps 0..count.
Sessions SessionsAfter(uint64_t count, uint64_t seed);

}  // namespace eidetic::memory::testing

#endif  // EIDETIC_TESTS_CRASH_SESSION_SCRIPT_H_
