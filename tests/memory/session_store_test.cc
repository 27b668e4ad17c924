// One contract for sessions over every record store.
#include "memory/session_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "memory/format.h"
#include "memory/hash.h"
#include "memory/session_format.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/session_turns.h"
#include "tests/memory/test_blocks.h"
#include "tests/seed.h"

namespace eidetic::memory {
namespace {

using testing::ExpectClean;
using testing::ExpectSession;
using testing::FaultRecordStore;
using testing::Plan;
using testing::SmallLayout;
using testing::SnapshotsOf;
using testing::TemporaryFolder;
using testing::TurnPlan;
using testing::TurnWriter;

std::shared_ptr<Archive> OpenOver(std::shared_ptr<RecordStore> records) {
  ArchiveOptions options;
  options.path = "in RAM";
  options.create = true;
  options.pool_bytes = 8u << 20;
  Result<std::shared_ptr<Archive>> archive = Archive::OpenOver(std::move(records), options);
  EXPECT_TRUE(archive.ok()) << testing::Explain(archive.status());
  return std::move(archive).value();
}

// Turns 1..count of some lengths, longer and shorter than window, sinks and blocks.
Plan PlanOf(uint64_t first_seed, size_t count) {
  const uint64_t lengths[] = {20, 50, 7, 200, 33, 64, 1, 90};
  Plan plan;
  for (size_t i = 0; i < count; ++i) plan.push_back({first_seed + i, lengths[i % 8], ""});
  return plan;
}

void CommitAll(TurnWriter* writer, const Plan& turns) {
  for (const TurnPlan& turn : turns) {
    const auto receipt = writer->Commit(turn);
    ASSERT_TRUE(receipt.ok()) << testing::Explain(receipt.status());
  }
}

Plan operator+(Plan a, const Plan& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Plan First(const Plan& plan, size_t turns) {
  return Plan(plan.begin(), plan.begin() + static_cast<std::ptrdiff_t>(turns));
}

// Bytes of all records of a store.
uint64_t BytesOf(const RecordStore& records) {
  uint64_t bytes = 0;
  for (int family = 0; family < kFamilyCount; ++family) {
    EXPECT_TRUE(records
                    .Scan(static_cast<Family>(family), "", "",
                          [&](std::string_view key, std::string_view value) -> Status {
                            bytes += key.size() + value.size();
                            return {};
                          })
                    .ok());
  }
  return bytes;
}

enum class Kind { kRam, kRocks };

class SessionStoreContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override { Reopen(); }

  // What is in RAM stays there; what is on disk is closed and opened again.
  void Reopen() {
    archive_.reset();
    if (GetParam() == Kind::kRam) {
      if (records_ == nullptr) records_ = NewRamRecordStore();
    } else {
      records_.reset();
      RocksOptions options;
      options.path = folder_ / "archive";
      options.create = true;
      EID_ASSERT_RESULT(records_, OpenRocksRecordStore(options));
    }
    archive_ = OpenOver(records_);
  }

  void Write(const std::string& name, const Plan& before, const Plan& turns) {
    EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive_.get(), name, before));
    CommitAll(&writer, turns);
  }

  TemporaryFolder folder_;
  std::shared_ptr<RecordStore> records_;
  std::shared_ptr<Archive> archive_;
};

TEST_P(SessionStoreContract, TurnsComeBackAsTheyWereCommitted) {
  Plan plan = PlanOf(1, 12);
  plan[2].name = "the plan";
  {
    EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive_.get(), "friend", {}));
    CommitAll(&writer, plan);
    // Every token's rows were written when it was read, unless it had left the window by then.
    EXPECT_LE(writer.asked(), testing::PlanTokens(plan));
    EXPECT_GE(writer.asked(), testing::PlanTokens(plan) - 2 * 200);
  }
  for (int opening = 0; opening < 2; ++opening) {
    ExpectSession(*archive_, "friend", plan);
    ExpectClean(*archive_);
    Reopen();
  }
  EID_ASSERT_RESULT(const SessionHead head, archive_->sessions().Find("friend"));
  EXPECT_EQ(head.settings, "settings of friend");
  EXPECT_EQ(head.created, 20000);
  EXPECT_EQ(head.changed, static_cast<int64_t>(1000 * testing::PlanTokens(plan)));
  EXPECT_EQ(archive_->sessions().Find("nobody").status().code(), Code::kNotFound);
  EID_ASSERT_RESULT(const auto names, archive_->Sessions());
  EXPECT_EQ(names, std::vector<std::string>{"friend"});
}

TEST_P(SessionStoreContract, SnapshotsOfTheLastEightAndOfNamedTurnsAreKept) {
  Plan plan = PlanOf(1, 20);
  plan[3].name = "arrival";
  plan[5].replayable = false;
  Write("friend", {}, plan);
  const std::vector<TurnNumber> kept = {4, 6, 13, 14, 15, 16, 17, 18, 19, 20};
  EXPECT_EQ(SnapshotsOf(*archive_, "friend"), kept);
  ExpectSession(*archive_, "friend", plan);
  ExpectClean(*archive_);  // which counts the rows, too
}

TEST_P(SessionStoreContract, AForkSeesWhatItLeftAndNothingElse) {
  const Plan trunk = PlanOf(1, 12), first = PlanOf(100, 5), second = PlanOf(200, 10);
  Write("trunk", {}, trunk);
  const uint64_t before = BytesOf(*records_);
  EID_ASSERT_OK(archive_->sessions().Fork("trunk", 6, "branch", 77));
  EXPECT_LT(BytesOf(*records_) - before, 300u);  // copies nothing
  ExpectSession(*archive_, "branch", First(trunk, 6));
  Write("branch", First(trunk, 6), first);
  Write("trunk", trunk, second);
  EID_ASSERT_OK(archive_->sessions().Fork("branch", 8, "twig", 78));  // within the branch's own
  Reopen();
  ExpectSession(*archive_, "trunk", trunk + second);
  ExpectSession(*archive_, "branch", First(trunk, 6) + first);
  ExpectSession(*archive_, "twig", First(trunk, 6) + First(first, 2));
  EID_ASSERT_RESULT(const SessionHead twig, archive_->sessions().Find("twig"));
  EXPECT_EQ(twig.forked_from, "branch");
  EXPECT_EQ(twig.created, 78);
  EXPECT_EQ(twig.settings, "settings of trunk");
  ExpectClean(*archive_);

  const auto refused = [&](const std::string& from, TurnNumber turn, const std::string& to) {
    return archive_->sessions().Fork(from, turn, to, 1).code();
  };
  EXPECT_EQ(refused("trunk", 1, "twig"), Code::kAlreadyExists);
  EXPECT_EQ(refused("trunk", 0, "new"), Code::kNotFound);
  EXPECT_EQ(refused("trunk", 23, "new"), Code::kNotFound);
  EXPECT_EQ(refused("nobody", 1, "new"), Code::kNotFound);
  EXPECT_EQ(refused("trunk", 1, ""), Code::kInvalidArgument);
  EXPECT_EQ(refused("trunk", 1, std::string("a\0b", 3)), Code::kInvalidArgument);
}

TEST_P(SessionStoreContract, ARewoundSessionForgetsWhatNobodyElseSees) {
  const Plan trunk = PlanOf(1, 12), again = PlanOf(300, 4);
  Write("trunk", {}, trunk);
  EID_ASSERT_OK(archive_->sessions().Fork("trunk", 10, "witness", 1));
  EID_ASSERT_OK(archive_->sessions().Rewind("trunk", 5, 99));
  ExpectSession(*archive_, "trunk", First(trunk, 5));
  ExpectSession(*archive_, "witness", First(trunk, 10));
  ExpectClean(*archive_);  // turns 11 and 12 left nothing behind
  Write("trunk", First(trunk, 5), again);
  Reopen();
  ExpectSession(*archive_, "trunk", First(trunk, 5) + again);
  ExpectSession(*archive_, "witness", First(trunk, 10));
  EID_ASSERT_OK(archive_->sessions().Rewind("trunk", 3, 100));  // into the lineage before
  EID_ASSERT_OK(archive_->sessions().Remove("witness"));
  ExpectSession(*archive_, "trunk", First(trunk, 3));
  ExpectClean(*archive_);
  EXPECT_EQ(archive_->sessions().Rewind("trunk", 4, 1).code(), Code::kNotFound);
  EID_ASSERT_OK(archive_->sessions().Rewind("trunk", 3, 1));  // where it stands already
  ExpectSession(*archive_, "trunk", First(trunk, 3));
}

TEST_P(SessionStoreContract, TheLastOneOutTakesEverythingAlong) {
  const Plan trunk = PlanOf(1, 12), more = PlanOf(100, 12);
  std::map<Family, uint64_t> before;
  Write("trunk", {}, trunk);
  EID_ASSERT_OK(archive_->sessions().Fork("trunk", 6, "branch", 1));
  Write("branch", First(trunk, 6), more);
  EID_ASSERT_OK(archive_->sessions().Remove("trunk"));
  ExpectSession(*archive_, "branch", First(trunk, 6) + more);
  ExpectClean(*archive_);
  Reopen();
  ExpectSession(*archive_, "branch", First(trunk, 6) + more);
  EID_ASSERT_OK(archive_->sessions().Remove("branch"));
  EXPECT_EQ(archive_->sessions().Remove("branch").code(), Code::kNotFound);
  for (Family family : {Family::kSessions, Family::kBlocks, Family::kEmbeddings}) {
    EID_ASSERT_OK(records_->Scan(family, "", "", [&](std::string_view key, std::string_view) {
      ADD_FAILURE() << FamilyName(family) << " still has " << format::Printable(key);
      return Status();
    }));
  }
  ExpectClean(*archive_);
}

TEST_P(SessionStoreContract, AReplayedTurnGetsItsSnapshotBack) {
  const Plan plan = PlanOf(1, 20);
  Write("friend", {}, plan);
  EID_ASSERT_OK(archive_->sessions().Rewind("friend", 9, 1));
  EXPECT_TRUE(SnapshotsOf(*archive_, "friend").empty());
  const Plan left = First(plan, 9);
  const auto rows = [&](uint64_t begin, uint64_t end) -> Result<std::string> {
    return testing::TestRows(left, begin, end);
  };
  EID_ASSERT_OK(archive_->sessions().PutSnapshot("friend", testing::TestState(left), rows));
  EXPECT_EQ(SnapshotsOf(*archive_, "friend"), std::vector<TurnNumber>{9});
  ExpectSession(*archive_, "friend", left);
  ExpectClean(*archive_);
  Write("friend", left, PlanOf(50, 10));
  ExpectSession(*archive_, "friend", left + PlanOf(50, 10));
  EXPECT_EQ(SnapshotsOf(*archive_, "friend").front(), 9u);  // a place where it was left
  ExpectClean(*archive_);
}

TEST_P(SessionStoreContract, BadCommitsAreRefusedAndLeaveNothing) {
  Write("friend", {}, PlanOf(1, 3));
  EID_ASSERT_RESULT(auto foreign, archive_->store().NewLineage(SmallLayout(), "session/friend"));
  const auto commit = [](const std::function<void(TurnCommit*)>& change) {
    TurnCommit good;
    good.content = testing::TestContent({9, 40, ""});
    good.state = "s";
    good.sinks = 32;
    good.window_begin = 32;
    good.rows = [](uint64_t begin, uint64_t end) -> Result<std::string> {
      return std::string(end - begin, 'r');
    };
    change(&good);
    return good;
  };
  EID_ASSERT_RESULT(const SessionHead head, archive_->sessions().Find("friend"));
  EID_ASSERT_RESULT(auto own, archive_->store().ResumeLineage(head.writes));
  const auto refused = [&](LineageWriter* lineage, const std::function<void(TurnCommit*)>& change) {
    return archive_->sessions().CommitTurn("friend", lineage, commit(change)).status().code();
  };
  EXPECT_EQ(refused(foreign.get(), [](TurnCommit*) {}), Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->name = std::string(300, 'n'); }),
            Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->name = std::string("a\0b", 3); }),
            Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->time = -1; }), Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->state.clear(); }), Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->window_begin = 33; }),
            Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->sinks = 320; }), Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->content.passes.pop_back(); }),
            Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->content.passes[0].view = 1; }),
            Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(), [](TurnCommit* c) { c->content.parts[0].tokens = 3; }),
            Code::kInvalidArgument);
  EXPECT_EQ(refused(own.get(),
                    [](TurnCommit* c) {
                      c->window_begin = 64;
                      c->rows = [](uint64_t, uint64_t) -> Result<std::string> {
                        return Status(Code::kOutOfMemory, "no rows");
                      };
                    }),
            Code::kOutOfMemory);
  EXPECT_EQ(
      archive_->sessions().CommitTurn("", own.get(), commit([](TurnCommit*) {})).status().code(),
      Code::kInvalidArgument);
  ExpectSession(*archive_, "friend", PlanOf(1, 3));
  ExpectClean(*archive_);
}

// Random interleavings of everything, with a plain list per session as the oracle.
TEST_P(SessionStoreContract, AnyInterleavingLeavesEverySessionItsOwnTurns) {
  std::mt19937_64 random(tests::Seed(20270301));
  std::map<std::string, Plan> sessions;
  uint64_t seed = 1;
  const auto pick = [&] {
    return std::next(sessions.begin(), static_cast<std::ptrdiff_t>(random() % sessions.size()));
  };
  const int steps = GetParam() == Kind::kRam ? 600 : 200;
  for (int step = 0; step < steps; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const uint64_t action = random() % 20;
    if (sessions.empty() || (action == 0 && sessions.size() < 6)) {
      const std::string name = "s" + std::to_string(seed);
      sessions[name] = {};
      Write(name, {}, sessions[name] = PlanOf(seed, 1 + random() % 3));
      seed += 10;
    } else if (action < 12) {
      const auto session = pick();
      Plan more = PlanOf(seed, 1 + random() % 3);
      seed += 10;
      if (random() % 8 == 0) more[0].name = "named " + std::to_string(seed);
      Write(session->first, session->second, more);
      session->second = session->second + more;
    } else if (action < 15 && sessions.size() < 6) {
      const auto session = pick();
      const size_t turn = 1 + random() % session->second.size();
      const std::string name = "s" + std::to_string(seed++);
      EID_ASSERT_OK(archive_->sessions().Fork(session->first, turn, name, 1));
      sessions[name] = First(session->second, turn);
    } else if (action < 18) {
      const auto session = pick();
      const size_t turn = 1 + random() % session->second.size();
      EID_ASSERT_OK(archive_->sessions().Rewind(session->first, turn, 1));
      session->second = First(session->second, turn);
    } else if (action == 18) {
      const auto session = pick();
      EID_ASSERT_OK(archive_->sessions().Remove(session->first));
      sessions.erase(session);
    } else {
      Reopen();
    }
    if (step % 10 != 9) continue;
    for (const auto& [name, plan] : sessions) ExpectSession(*archive_, name, plan);
    EID_ASSERT_RESULT(const auto names, archive_->Sessions());
    EXPECT_EQ(names.size(), sessions.size());
    ExpectClean(*archive_);
    if (HasFailure()) return;
  }
}

TEST_P(SessionStoreContract, TwoSessionsCommitAtOnce) {
  Plan plans[2];
  std::vector<std::thread> threads;
  for (int which = 0; which < 2; ++which) {
    plans[which] = PlanOf(1000 * static_cast<uint64_t>(which + 1), 15);
    threads.emplace_back([&, which] {
      Write("s" + std::to_string(which), {}, plans[which]);
      const auto listed = archive_->sessions().List();
      EXPECT_TRUE(listed.ok());
    });
  }
  for (int i = 0; i < 5; ++i) ExpectClean(*archive_);
  for (std::thread& thread : threads) thread.join();
  for (int which = 0; which < 2; ++which) {
    ExpectSession(*archive_, "s" + std::to_string(which), plans[which]);
  }
  ExpectClean(*archive_);
}

INSTANTIATE_TEST_SUITE_P(EveryStore, SessionStoreContract,
                         ::testing::Values(Kind::kRam, Kind::kRocks), [](const auto& info) {
                           return info.param == Kind::kRam ? "Ram" : "Rocks";
                         });

TEST(SessionStore, ATurnIsThereAsAWholeOrNotAtAll) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenOver(records);
  const Plan plan = PlanOf(1, 10);
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "friend", {}));
  for (size_t i = 0; i < plan.size(); ++i) {
    SCOPED_TRACE("turn " + std::to_string(i + 1));
    // A commit is one write, but for the reservation of ids before the first block, in turn 4.
    records->FailWrite(i == 3 ? 2 : 1, Status(Code::kNoSpace, "full"), false);
    EXPECT_EQ(writer.Commit(plan[i]).status().code(), Code::kNoSpace);
    if (i > 0) ExpectSession(*archive, "friend", First(plan, i));
    // A loss of power after the failure: the turn before is what there is.
    auto after = OpenOver(records->AfterPowerLoss());
    if (i > 0) {
      ExpectSession(*after, "friend", First(plan, i));
    } else {
      EXPECT_EQ(after->sessions().Find("friend").status().code(), Code::kNotFound);
    }
    ExpectClean(*after);
    records->Heal();
    EID_ASSERT_OK(writer.Commit(plan[i]).status());  // the same commit, tried again
    EXPECT_EQ(records->unsynced(), 0u);
    ExpectSession(*OpenOver(records->AfterPowerLoss()), "friend", First(plan, i + 1));
  }
}

TEST(SessionStore, ForksRewindsAndRemovalsAreOneWriteEach) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenOver(records);
  const Plan plan = PlanOf(1, 10);
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "friend", {}));
  CommitAll(&writer, plan);
  const auto expect_one_write = [&](const std::function<Status()>& change, const auto& expect) {
    records->FailWrite(1, Status(Code::kIoError, "no"), false);
    EXPECT_EQ(change().code(), Code::kIoError);
    ExpectSession(*archive, "friend", plan);
    ExpectClean(*archive);
    records->Heal();
    const uint64_t before = records->writes();
    EID_ASSERT_OK(change());
    EXPECT_EQ(records->writes(), before + 1);
    EXPECT_EQ(records->unsynced(), 0u);
    expect();
  };
  expect_one_write([&] { return archive->sessions().Fork("friend", 4, "other", 1); },
                   [&] { ExpectSession(*archive, "other", First(plan, 4)); });
  expect_one_write([&] { return archive->sessions().Rewind("other", 2, 1); },
                   [&] { ExpectSession(*archive, "other", First(plan, 2)); });
  expect_one_write(
      [&] { return archive->sessions().Remove("other"); },
      [&] { EXPECT_EQ(archive->sessions().Find("other").status().code(), Code::kNotFound); });
  ExpectSession(*archive, "friend", plan);
}

TEST(SessionStore, ASessionSavedBeforeThereWereTurnsGoesOnInThem) {
  auto records = std::make_shared<FaultRecordStore>();
  auto archive = OpenOver(records);
  EID_ASSERT_RESULT(auto lineage, archive->store().NewLineage(SmallLayout(), "session/friend"));
  EID_ASSERT_OK(lineage->Append(testing::RandomBlock(SmallLayout(), 0, 32, 7)));
  EID_ASSERT_OK(archive->CommitSession("friend", lineage.get(), std::string(3000000, 'a')));
  EXPECT_EQ(archive->sessions().Fork("other", 1, "friend", 1).code(), Code::kNotFound);

  TurnCommit commit;
  commit.content = testing::TestContent({7, 40, ""});
  commit.state = "state";
  commit.sinks = 32;
  commit.window_begin = 32;
  commit.rows = [](uint64_t begin, uint64_t end) -> Result<std::string> {
    return std::string(end - begin, 'r');
  };
  EID_ASSERT_OK(archive->sessions().CommitTurn("friend", lineage.get(), commit).status());
  archive = OpenOver(records->AfterPowerLoss());
  EXPECT_EQ(archive->SessionRecord("friend").status().code(), Code::kNotFound);
  EID_ASSERT_RESULT(const SessionHead head, archive->sessions().Find("friend"));
  EXPECT_EQ(head.path, (std::vector<PathEntry>{{lineage->lineage(), 1, 40, 32}}));
  EID_ASSERT_RESULT(const auto names, archive->Sessions());
  EXPECT_EQ(names, std::vector<std::string>{"friend"});
  ExpectClean(*archive);

  // One that stays as it was can be deleted, with its blocks.
  EID_ASSERT_RESULT(auto other, archive->store().NewLineage(SmallLayout(), "session/old"));
  EID_ASSERT_OK(other->Append(testing::RandomBlock(SmallLayout(), 0, 32, 8)));
  EID_ASSERT_OK(archive->CommitSession("old", other.get(), "record"));
  EXPECT_EQ(archive->sessions().Fork("friend", 1, "old", 1).code(), Code::kAlreadyExists);
  EID_ASSERT_OK(archive->sessions().Remove("old"));
  EXPECT_EQ(archive->SessionRecord("old").status().code(), Code::kNotFound);
  EXPECT_EQ(archive->store().Lineage(other->lineage()).status().code(), Code::kNotFound);
  ExpectClean(*archive);
}

TEST(SessionStore, ATurnThatCannotBeReadAgainIsNoPlaceToGoTo) {
  auto archive = OpenOver(NewRamRecordStore());
  CollectionRecord books;
  books.name = "books";
  books.layout = SmallLayout();
  EID_ASSERT_OK(archive->EnsureCollection(books).status());
  const auto ingest = [&](const std::string& source) {
    const std::string text(40, source[0]);
    auto writer = archive->BeginDocument("books", source, Sha256Hex(text), text, 40);
    EXPECT_TRUE(writer.ok());
    EXPECT_TRUE((*writer)->Append(testing::RandomBlock(SmallLayout(), 0, 32, 1)).ok());
    EXPECT_TRUE((*writer)->Append(testing::RandomBlock(SmallLayout(), 32, 8, 1)).ok());
    EXPECT_TRUE((*writer)->Finish().ok());
    return (*writer)->document().id;
  };
  const auto lineages = [&] {
    const auto documents = archive->Documents("books");
    EXPECT_TRUE(documents.ok());
    std::vector<LineageId> ids;
    for (const DocumentRecord& document : *documents) ids.push_back(document.lineage);
    std::sort(ids.begin(), ids.end());
    return ids;
  };
  const DocumentId first = ingest("a");
  EID_ASSERT_RESULT(auto lineage, archive->store().NewLineage(SmallLayout(), "session/friend"));
  for (uint64_t turn = 1; turn <= 12; ++turn) {
    TurnCommit commit;
    commit.content = testing::TestContent({turn, 8, ""});
    if (turn == 2) commit.content.views[0].collections = {ViewOf("books", lineages())};
    if (turn == 3) commit.replayable = false;
    commit.state = "state";
    commit.sinks = commit.window_begin = 0;
    commit.rows = [](uint64_t begin, uint64_t end) -> Result<std::string> {
      return std::string(end - begin, 'r');
    };
    EID_ASSERT_OK(archive->sessions().CommitTurn("friend", lineage.get(), commit).status());
  }
  EXPECT_EQ(SnapshotsOf(*archive, "friend"),
            (std::vector<TurnNumber>{3, 5, 6, 7, 8, 9, 10, 11, 12}));
  ingest("b");  // what came later is no hindrance
  EID_ASSERT_OK(archive->sessions().Fork("friend", 2, "two", 1));
  EID_ASSERT_OK(archive->sessions().Fork("friend", 4, "four", 1));
  EID_ASSERT_OK(archive->RemoveDocument(first));
  const Status gone = archive->sessions().Fork("friend", 2, "again", 1);
  EXPECT_EQ(gone.code(), Code::kNotFound);
  EXPECT_NE(gone.message().find("books"), std::string::npos) << gone.message();
  EXPECT_EQ(archive->sessions().Rewind("friend", 2, 1).code(), Code::kNotFound);
  EID_ASSERT_OK(archive->sessions().Fork("friend", 1, "one", 1));
  EID_ASSERT_OK(archive->sessions().Rewind("friend", 4, 1));  // from the snapshot of turn 3
  ExpectClean(*archive);
}

TEST(SessionStore, EveryDamagedRecordIsReportedAndNeverBelieved) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto archive = OpenOver(records);
    EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), "friend", {}));
    CommitAll(&writer, PlanOf(1, 10));
    EID_ASSERT_OK(archive->sessions().Fork("friend", 4, "other", 1));
  }
  std::mt19937_64 random(tests::Seed(4));
  for (const std::string& key : records->Keys(Family::kSessions)) {
    SCOPED_TRACE(format::Printable(key));
    for (const bool erased : {false, true}) {
      auto damaged = records->Clone();
      if (erased) {
        damaged->Erase(Family::kSessions, key);
        // Forks nobody made, and all that only they saw, are as if they had never been.
        if (key[0] == 'H') continue;
      } else {
        damaged->FlipBit(Family::kSessions, key, random() % 64);
      }
      ArchiveOptions options;
      options.path = "in RAM";
      options.read_only = true;
      EID_ASSERT_RESULT(auto reader, Archive::OpenOver(damaged, options));
      EID_ASSERT_RESULT(const VerifyReport report, reader->Verify(nullptr));
      EXPECT_FALSE(report.clean());
      // Opened to write, nothing is swept that the damaged record may be about.
      auto archive = OpenOver(damaged);
      EID_ASSERT_RESULT(const auto lineages, archive->store().Lineages());
      EXPECT_EQ(lineages.size(), 1u);
      for (const auto name : {"friend", "other"}) {
        const Result<SessionHead> head = archive->sessions().Find(name);
        if (!head.ok()) {
          EXPECT_EQ(head.status().code(), Code::kCorruption);
          continue;
        }
        const auto turns = archive->sessions().Turns(name);
        if (!turns.ok()) {
          EXPECT_EQ(turns.status().code(), Code::kCorruption);
          continue;
        }
        for (const TurnHeader& turn : *turns) {
          const auto content = archive->sessions().Content(turn);
          if (!content.ok()) {
            EXPECT_EQ(content.status().code(), Code::kCorruption);
          }
          if (!turn.has_snapshot()) continue;
          const auto snapshot = archive->sessions().ReadSnapshot(*head, turn);
          if (!snapshot.ok()) {
            EXPECT_EQ(snapshot.status().code(), Code::kCorruption);
          }
        }
      }
    }
  }
}

TEST(SessionStore, ADamagedSessionCanStillBeDeleted) {
  auto records = std::make_shared<FaultRecordStore>();
  {
    auto archive = OpenOver(records);
    for (const auto name : {"friend", "other"}) {
      EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive.get(), name, {}));
      CommitAll(&writer, PlanOf(1, 4));
    }
  }
  records->FlipBit(Family::kSessions, format::HeadKey("friend"), 40);
  {
    auto archive = OpenOver(records);
    EXPECT_EQ(archive->sessions().Remove("other").code(), Code::kCorruption);
    EID_ASSERT_OK(archive->sessions().Remove("friend"));
    EID_ASSERT_OK(archive->sessions().Remove("other"));
  }
  auto archive = OpenOver(records);
  EXPECT_TRUE(records->Keys(Family::kSessions).empty());
  EXPECT_TRUE(records->Keys(Family::kBlocks).empty());
  ExpectClean(*archive);
}

}  // namespace
}  // namespace eidetic::memory
