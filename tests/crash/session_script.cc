#include "tests/crash/session_script.h"

#include <iterator>
#include <random>

namespace eidetic::memory::testing {
namespace {

constexpr size_t kMostSessions = 5;

Plan First(const Plan& plan, size_t turns) {
  return Plan(plan.begin(), plan.begin() + static_cast<std::ptrdiff_t>(turns));
}

std::set<uint64_t> SeedsToForget(const Step& step, const Plan& plan) {
  if (step.kind == Step::Kind::kForgetTurn) return {plan[step.to_turn - 1].seed};
  std::set<uint64_t> seeds;
  for (const TurnPlan& turn : plan) {
    if (!turn.forgotten) seeds.insert(turn.seed);
  }
  return seeds;
}

}  // namespace

Step StepAfter(const Sessions& sessions, uint64_t number, uint64_t seed) {
  std::mt19937_64 random(seed * 1000003 + number);
  Step step;
  const uint64_t action = random() % 16;
  if (sessions.empty() || (action == 0 && sessions.size() < kMostSessions)) {
    step.session = "s" + std::to_string(number);
  } else {
    const auto session =
        std::next(sessions.begin(), static_cast<std::ptrdiff_t>(random() % sessions.size()));
    step.session = session->first;
    step.to_turn = 1 + random() % session->second.size();
    const TurnPlan& turn = session->second[step.to_turn - 1];
    if (session->second.back().waiting && action != 4 && action != 5) {
      step.kind = Step::Kind::kReadAgain;
    } else if (action == 4 && !turn.forgotten) {
      step.kind = Step::Kind::kForgetTurn;
    } else if (action == 5 && random() % 4 == 0) {
      step.kind = Step::Kind::kForgetSession;
    } else if (session->second.back().waiting) {
      step.kind = Step::Kind::kReadAgain;
    } else if (action == 1 && sessions.size() < kMostSessions) {
      step.kind = Step::Kind::kFork;
      step.fork = "s" + std::to_string(number);
    } else if (action == 2) {
      step.kind = Step::Kind::kRewind;
    } else if (action == 3 && sessions.size() > 1) {
      step.kind = Step::Kind::kRemove;
    }
  }
  step.turn.seed = number + 1;
  step.turn.tokens = 1 + random() % 150;
  if (random() % 6 == 0) step.turn.name = "named " + std::to_string(number);
  return step;
}

void Apply(const Step& step, Sessions* sessions) {
  switch (step.kind) {
    case Step::Kind::kTurn:
      (*sessions)[step.session].push_back(step.turn);
      break;
    case Step::Kind::kFork:
      (*sessions)[step.fork] = First(sessions->at(step.session), step.to_turn);
      break;
    case Step::Kind::kRewind:
      (*sessions)[step.session] = First(sessions->at(step.session), step.to_turn);
      break;
    case Step::Kind::kRemove:
      sessions->erase(step.session);
      break;
    case Step::Kind::kForgetTurn:
    case Step::Kind::kForgetSession: {
      const std::set<uint64_t> seeds = SeedsToForget(step, sessions->at(step.session));
      for (auto session = sessions->begin(); session != sessions->end();) {
        session->second = WithoutTurns(std::move(session->second), seeds);
        session = session->second.empty() ? sessions->erase(session) : std::next(session);
      }
      break;
    }
    case Step::Kind::kReadAgain:
      for (TurnPlan& turn : (*sessions)[step.session]) turn.waiting = false;
      break;
  }
}

Status Apply(const Step& step, const Sessions& sessions, Archive* archive) {
  const auto found = sessions.find(step.session);
  switch (step.kind) {
    case Step::Kind::kTurn: {
      EID_ASSIGN_OR_RETURN(TurnWriter writer,
                           TurnWriter::Open(archive, step.session,
                                            found == sessions.end() ? Plan() : found->second));
      return writer.Commit(step.turn).status();
    }
    case Step::Kind::kFork:
      return archive->sessions().Fork(step.session, step.to_turn, step.fork, 1);
    case Step::Kind::kRewind:
      return archive->sessions().Rewind(step.session, step.to_turn, 1);
    case Step::Kind::kRemove:
      return archive->sessions().Remove(step.session);
    case Step::Kind::kForgetTurn:
    case Step::Kind::kForgetSession: {
      ForgetRequest request;
      request.session = step.session;
      if (step.kind == Step::Kind::kForgetTurn) request.turn = step.to_turn;
      return archive->Forget(request).status();
    }
    case Step::Kind::kReadAgain: {
      // Some of them may have been read by a process that was killed.
      Plan plan = found->second;
      EID_ASSIGN_OR_RETURN(const SessionHead head, archive->sessions().Find(step.session));
      for (size_t i = 0; i < head.turns() && i < plan.size(); ++i) plan[i].waiting = false;
      EID_ASSIGN_OR_RETURN(TurnWriter writer,
                           TurnWriter::Open(archive, step.session, ReadTurns(plan)));
      return writer.ReadAgain(plan);
    }
  }
  return Status(Code::kInternal, "an unknown step");
}

Sessions SessionsAfter(uint64_t count, uint64_t seed) {
  Sessions sessions;
  for (uint64_t number = 0; number < count; ++number) {
    Apply(StepAfter(sessions, number, seed), &sessions);
  }
  return sessions;
}

}  // namespace eidetic::memory::testing
