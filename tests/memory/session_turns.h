// Sessions of made-up turns for the tests of memory/: everything in them is a function of a seed
// and of places, so that what comes back can be compared with what must.
#ifndef EIDETIC_TESTS_MEMORY_SESSION_TURNS_H_
#define EIDETIC_TESTS_MEMORY_SESSION_TURNS_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "memory/archive.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory::testing {

inline constexpr uint64_t kTestWindow = 96;  // tokens, after 32 sinks
inline constexpr uint64_t kTestSinks = 32;
inline constexpr size_t kTestRowBytes = 40;  // of one token

// What a session has read, told apart from all others by the seeds of its turns.
struct TurnPlan {
  uint64_t seed = 0;
  uint64_t tokens = 0;
  std::string name;
  bool replayable = true;
  bool waiting = false;  // to be read again
  bool forgotten = false;
};
using Plan = std::vector<TurnPlan>;

inline uint64_t PlanTokens(const Plan& plan) {
  uint64_t tokens = 0;
  for (const TurnPlan& turn : plan) tokens += turn.tokens;
  return tokens;
}

// The turns that are read, and those that wait to be read again.
inline Plan ReadTurns(const Plan& plan) {
  Plan read;
  std::copy_if(plan.begin(), plan.end(), std::back_inserter(read),
               [](const TurnPlan& turn) { return !turn.waiting; });
  return read;
}

inline Plan FirstTurns(const Plan& plan, uint64_t turns) {
  return Plan(plan.begin(),
              plan.begin() + static_cast<std::ptrdiff_t>(std::min<uint64_t>(turns, plan.size())));
}

// What is left of a session when the turns of these seeds are forgotten, all of which can be
// replayed; empty: nothing.
inline Plan WithoutTurns(Plan plan, const std::set<uint64_t>& seeds) {
  bool behind = false;  // the first one
  for (TurnPlan& turn : plan) {
    if (!turn.forgotten && seeds.contains(turn.seed)) {
      behind = true;
      turn = {};
      turn.forgotten = true;
    }
    turn.waiting |= behind;
  }
  if (!behind) return plan;
  while (!plan.empty() && plan.back().waiting && plan.back().forgotten) plan.pop_back();
  const bool nothing =
      std::all_of(plan.begin(), plan.end(), [](const TurnPlan& turn) { return turn.forgotten; });
  return nothing ? Plan() : plan;
}

// The seed of the turn that read the token at a position.
inline uint64_t SeedAt(const Plan& plan, uint64_t position) {
  uint64_t end = 0;
  for (const TurnPlan& turn : plan) {
    end += turn.tokens;
    if (position < end) return turn.seed;
  }
  return 0;
}

inline std::string TestRows(const Plan& plan, uint64_t begin, uint64_t end) {
  std::string bytes;
  for (uint64_t position = begin; position < end; ++position) {
    std::string row = std::to_string(SeedAt(plan, position)) + "/" + std::to_string(position) + ";";
    row.resize(kTestRowBytes, '.');
    bytes += row;
  }
  return bytes;
}

inline std::string TestState(const Plan& plan) {
  return "state after " + std::to_string(PlanTokens(plan)) + " tokens, seed " +
         std::to_string(plan.back().seed) + std::string(3000, '#');
}

// Said in this turn alone.
inline std::string TurnText(uint64_t seed) {
  std::string digits = std::to_string(seed);
  digits.insert(0, 8 - std::min<size_t>(8, digits.size()), '0');
  return "turn " + digits + " said so";
}

inline TurnContent TestContent(const TurnPlan& turn) {
  TurnContent content;
  if (turn.tokens == 0) return content;
  for (uint64_t i = 0; i < turn.tokens; ++i) {
    content.tokens.push_back(static_cast<int32_t>(turn.seed * 1000 + i));
  }
  content.views.push_back({});
  const auto whole = static_cast<uint32_t>(turn.tokens / 8);
  const auto rest = static_cast<uint32_t>(turn.tokens % 8);
  if (whole > 0) content.passes.push_back({8, whole, true, 0});
  if (rest > 0) content.passes.push_back({1, rest, false, 0});
  content.parts.push_back({"user", false, static_cast<uint32_t>(turn.tokens), TurnText(turn.seed)});
  content.resume = "resume " + std::to_string(turn.seed);
  return content;
}

// Where the window begins, and how many sinks there are, after so many tokens.
inline uint64_t TestSinksAt(uint64_t tokens) {
  return std::min(tokens, kTestSinks);
}
inline uint64_t TestWindowBegin(uint64_t tokens) {
  if (tokens <= kTestSinks) return tokens;
  const uint64_t held = tokens - kTestSinks;
  const uint64_t excess = held > kTestWindow ? held - kTestWindow : 0;
  return kTestSinks + excess / 32 * 32;
}

// Opens a session by its path, as its owner would, and adds turns to it.
class TurnWriter {
 public:
  // `plan`: what the session has read so far.
  static Result<TurnWriter> Open(Archive* archive, std::string name, Plan plan) {
    TurnWriter writer;
    writer.archive_ = archive;
    writer.name_ = std::move(name);
    writer.plan_ = std::move(plan);
    const Result<SessionHead> head = archive->sessions().Find(writer.name_);
    if (!head.ok() && head.status().code() != Code::kNotFound) return head.status();
    if (head.ok() && head->writes != 0) {
      EID_ASSIGN_OR_RETURN(writer.lineage_, archive->store().ResumeLineage(head->writes));
    } else {
      const uint64_t begin = head.ok() && !head->path.empty() ? head->path.back().blocks : 0;
      EID_ASSIGN_OR_RETURN(writer.lineage_, archive->store().NewLineage(
                                                SmallLayout(), "session/" + writer.name_, begin));
    }
    return writer;
  }

  // `waiting`: it is the next one to be read again. `view`: of a collection it recalls from.
  Result<TurnReceipt> Commit(const TurnPlan& turn, bool waiting = false,
                             const CollectionView& view = {}) {
    Plan plan = plan_;
    plan.push_back(turn);
    const uint64_t tokens = PlanTokens(plan);
    // What left the window has become blocks, sinks first.
    const uint64_t left = TestWindowBegin(tokens) > kTestSinks ? TestWindowBegin(tokens) : 0;
    while (lineage_->position() < left) {
      EID_RETURN_IF_ERROR(lineage_->Append(RandomBlock(SmallLayout(), lineage_->position(), 32,
                                                       SeedAt(plan, lineage_->position()))));
    }
    TurnCommit commit;
    commit.settings = "settings of " + name_;
    commit.name = turn.name;
    commit.time = static_cast<int64_t>(1000 * tokens);
    commit.content = TestContent(turn);
    commit.waiting = waiting;
    if (!view.collection.empty()) commit.content.views.front().collections.push_back(view);
    commit.window_begin = TestWindowBegin(tokens);
    commit.sinks = TestSinksAt(tokens);
    commit.replayable = turn.replayable;
    commit.state = TestState(plan);
    commit.rows = [&](uint64_t begin, uint64_t end) -> Result<std::string> {
      asked_ += end - begin;
      return TestRows(plan, begin, end);
    };
    EID_ASSIGN_OR_RETURN(TurnReceipt receipt,
                         archive_->sessions().CommitTurn(name_, lineage_.get(), std::move(commit)));
    plan_ = std::move(plan);
    return receipt;
  }
  // All that waits to be read again.
  Status ReadAgain(const Plan& plan) {
    for (TurnPlan turn : plan) {
      if (!turn.waiting) continue;
      turn.waiting = false;
      EID_RETURN_IF_ERROR(Commit(turn, /*waiting=*/true).status());
    }
    return {};
  }

  const Plan& plan() const { return plan_; }
  // Tokens whose rows were written.
  uint64_t asked() const { return asked_; }
  LineageId lineage() const { return lineage_->lineage(); }

 private:
  Archive* archive_ = nullptr;
  std::string name_;
  Plan plan_;
  std::unique_ptr<LineageWriter> lineage_;
  uint64_t asked_ = 0;
};

// The session is what the plan says: turns, contents, blocks, and every snapshot that is there.
inline void ExpectSession(const Archive& archive, const std::string& name, const Plan& plan) {
  SCOPED_TRACE("session " + name);
  EID_ASSERT_RESULT(const SessionHead head, archive.sessions().Find(name));
  EID_ASSERT_RESULT(const std::vector<TurnHeader> turns, archive.sessions().Turns(name));
  ASSERT_EQ(turns.size(), plan.size());
  EXPECT_EQ(head.tokens(), PlanTokens(plan));
  Plan so_far;
  for (size_t i = 0; i < plan.size(); ++i) {
    so_far.push_back(plan[i]);
    const TurnHeader& turn = turns[i];
    EXPECT_EQ(turn.turn, i + 1);
    EXPECT_EQ(turn.name, plan[i].name);
    EXPECT_EQ(turn.token_end, PlanTokens(so_far));
    EID_ASSERT_RESULT(const TurnContent content, archive.sessions().Content(turn));
    const TurnContent expected = TestContent(plan[i]);
    EXPECT_EQ(content.tokens, expected.tokens);
    EXPECT_EQ(content.passes, expected.passes);
    EXPECT_EQ(content.parts, expected.parts);
    EXPECT_EQ(content.resume, expected.resume);
    if (!turn.has_snapshot()) continue;
    EID_ASSERT_RESULT(const Snapshot snapshot, archive.sessions().ReadSnapshot(head, turn));
    EXPECT_EQ(snapshot.state, TestState(so_far));
    std::string rows;
    uint64_t tokens = 0;
    for (const WindowRows& piece : snapshot.rows) {
      rows += piece.bytes;
      tokens += piece.end - piece.begin;
    }
    const uint64_t end = turn.token_end;
    EXPECT_EQ(rows, TestRows(plan, 0, TestSinksAt(end)) +
                        TestRows(plan, std::max(TestWindowBegin(end), TestSinksAt(end)), end));
  }
  uint64_t position = 0;
  for (const PathEntry& entry : head.path) {
    EID_ASSERT_OK(archive.store().ScanBlocks(
        entry.lineage,
        [&](const BlockHeader& header, const std::vector<uint16_t>& representatives) -> Status {
          EXPECT_EQ(header.position, position);
          const Block block =
              RandomBlock(SmallLayout(), position, 32, SeedAt(plan, header.position));
          EXPECT_EQ(representatives, block.representatives);
          position += header.tokens.size();
          return {};
        },
        entry.blocks));
  }
  EXPECT_EQ(position, head.path.empty() ? 0 : head.path.back().blocks);
}

// The turns of a session that have a snapshot.
inline std::vector<TurnNumber> SnapshotsOf(const Archive& archive, const std::string& name) {
  std::vector<TurnNumber> numbers;
  const auto turns = archive.sessions().Turns(name);
  EXPECT_TRUE(turns.ok()) << Explain(turns.status());
  for (const TurnHeader& turn : *turns) {
    if (turn.has_snapshot()) numbers.push_back(turn.turn);
  }
  return numbers;
}

inline void ExpectClean(const Archive& archive) {
  const Result<VerifyReport> report = archive.Verify(nullptr);
  EXPECT_TRUE(report.ok()) << Explain(report.status());
  for (const Damage& damage : report->damage) ADD_FAILURE() << damage.what;
}

}  // namespace eidetic::memory::testing

#endif  // EIDETIC_TESTS_MEMORY_SESSION_TURNS_H_
