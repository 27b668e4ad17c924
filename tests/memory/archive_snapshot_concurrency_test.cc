// Readers that hold on to what they began to read, across removals and compactions; and sessions
// that are read while they are written, forked and forgotten. Run under ThreadSanitizer by .ci/run.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>

#include "memory/archive.h"
#include "memory/hash.h"
#include "tests/memory/concurrent_threads.h"
#include "tests/memory/session_turns.h"

namespace eidetic::memory {
namespace {

using testing::ExpectClean;
using testing::Plan;
using testing::RandomBlock;
using testing::Rounds;
using testing::SmallLayout;
using testing::TemporaryFolder;
using testing::Threads;
using testing::TurnWriter;
using testing::UnlessRemoved;
using testing::Wrong;

constexpr uint64_t kTurnTokens = 512;

class ArchiveSnapshotConcurrency : public ::testing::Test {
 protected:
  void SetUp() override {
    ArchiveOptions options;
    options.path = folder_ / "archive";
    options.create = true;
    options.pool_bytes = 64u << 10;
    EID_ASSERT_RESULT(archive_, Archive::Open(options));
    CollectionRecord collection;
    collection.name = "books";
    collection.layout = SmallLayout();
    EID_ASSERT_OK(archive_->EnsureCollection(collection).status());
  }

  // The document, whose blocks tell its version.
  Status Ingest(uint64_t version) {
    const std::string text(kTurnTokens, static_cast<char>('a' + version % 26));
    EID_ASSIGN_OR_RETURN(
        auto writer, archive_->BeginDocument("books", "book", Sha256Hex(text), text, kTurnTokens));
    for (uint64_t at = 0; at < kTurnTokens; at += 32) {
      EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), at, 32, version % 26)));
    }
    return writer->Finish();
  }
  Result<DocumentRecord> Document() const {
    EID_ASSIGN_OR_RETURN(const auto document, archive_->FindDocument("books", "book"));
    if (document) return *document;
    return Status(Code::kNotFound, "there is no document");
  }
  // All blocks of the document, which must be of one version. `between` is called at each.
  Status ScanDocument(const DocumentRecord& document, const std::function<void()>& between) const {
    EID_ASSIGN_OR_RETURN(const std::string letter, archive_->Text(document.id, 0, 1));
    uint64_t blocks = 0;
    EID_RETURN_IF_ERROR(archive_->store().ScanBlocks(
        document.lineage,
        [&](const BlockHeader& header, const std::vector<uint16_t>& representatives) -> Status {
          between();
          const Block block = RandomBlock(SmallLayout(), header.position, 32,
                                          static_cast<uint64_t>(letter[0] - 'a'));
          ++blocks;
          return representatives == block.representatives ? Status() : Wrong("of another version");
        }));
    return blocks == kTurnTokens / 32 ? Status() : Wrong(std::to_string(blocks) + " blocks");
  }

  TemporaryFolder folder_;
  std::shared_ptr<Archive> archive_;
};

TEST_F(ArchiveSnapshotConcurrency, AScanGoesOnOverWhatWasRemovedAndCompactedMeanwhile) {
  EID_ASSERT_OK(Ingest(0));
  EID_ASSERT_RESULT(const DocumentRecord document, Document());
  int block = 0;
  const Status scanned = ScanDocument(document, [&] {
    if (block++ != 3) return;
    std::thread other([&] {
      EXPECT_TRUE(archive_->RemoveDocument(document.id).ok());
      EXPECT_TRUE(archive_->Compact().ok());
      EXPECT_TRUE(archive_->store().records().Purge({}).ok());
    });
    other.join();
  });
  EID_ASSERT_OK(scanned);
  EXPECT_EQ(Document().status().code(), Code::kNotFound);
  ExpectClean(*archive_);
}

TEST_F(ArchiveSnapshotConcurrency, ScansBesideCompactionsSeeOneVersion) {
  EID_ASSERT_OK(Ingest(0));
  Threads threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.Repeat("reader", [&](uint64_t) -> Status {
      EID_ASSIGN_OR_RETURN(const DocumentRecord document, Document());
      return UnlessRemoved(ScanDocument(document, [] {}));
    });
  }
  threads.Repeat("compactor", [&](uint64_t) { return archive_->Compact(); });
  threads.Repeat("measurer", [&](uint64_t) { return archive_->SizeOnDisk().status(); });
  for (int version = 1; version <= Rounds(10) && !threads.failed(); ++version) {
    EID_ASSERT_OK(Ingest(static_cast<uint64_t>(version)));
  }
  threads.Join();
  ExpectClean(*archive_);
}

TEST_F(ArchiveSnapshotConcurrency, ASessionIsReadWhileItIsWrittenForkedAndCompacted) {
  // The writer's plan is a function of the turn's number, so readers know what they must see.
  const auto turn_of = [](uint64_t number) {
    testing::TurnPlan turn;
    turn.seed = number;
    turn.tokens = 20 + number % 30;
    return turn;
  };
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive_.get(), "talk", {}));
  EID_ASSERT_OK(writer.Commit(turn_of(1)).status());
  SessionStore& sessions = archive_->sessions();
  std::atomic<uint64_t> committed = 1;
  Threads threads;
  threads.Repeat("reader", [&](uint64_t) -> Status {
    const uint64_t before = committed;
    EID_ASSIGN_OR_RETURN(const auto turns, sessions.Turns("talk"));
    if (turns.size() < before) return Wrong("an acknowledged turn is missing");
    for (const TurnHeader& turn : turns) {
      EID_ASSIGN_OR_RETURN(const TurnContent content, sessions.Content(turn));
      if (content.parts != testing::TestContent(turn_of(turn.turn)).parts) {
        return Wrong("turn " + std::to_string(turn.turn) + " is another one");
      }
    }
    return {};
  });
  // Also of turns whose snapshot goes while it is read: that is no damage.
  threads.Repeat("restorer", [&](uint64_t round) -> Status {
    EID_ASSIGN_OR_RETURN(const SessionHead head, sessions.Find("talk"));
    EID_ASSIGN_OR_RETURN(const auto turns, sessions.Turns("talk"));
    Plan plan;
    const size_t count = std::min<size_t>(turns.size(), head.turns());
    for (size_t i = 0; i < count; ++i) {
      plan.push_back(turn_of(i + 1));
      if (!turns[i].has_snapshot() || (i + round) % 3 != 0) continue;
      const auto snapshot = sessions.ReadSnapshot(head, turns[i]);
      if (snapshot.ok() && snapshot->state != testing::TestState(plan)) {
        return Wrong("the state of another turn");
      }
      EID_RETURN_IF_ERROR(UnlessRemoved(snapshot.status()));
    }
    return {};
  });
  threads.Repeat("forker", [&](uint64_t round) -> Status {
    const std::string fork = "fork " + std::to_string(round);
    EID_RETURN_IF_ERROR(sessions.Fork("talk", committed, fork, 1));
    if (round % 2 == 1) return sessions.Remove(fork);
    ForgetRequest request;
    request.session = fork;
    request.dry_run = true;
    return archive_->Forget(request).status();
  });
  threads.Repeat("compactor", [&](uint64_t) { return archive_->Compact(); });
  for (uint64_t number = 2; number <= static_cast<uint64_t>(Rounds(24)) && !threads.failed();
       ++number) {
    EID_ASSERT_OK(writer.Commit(turn_of(number)).status());
    committed = number;
  }
  threads.Join();
  ExpectClean(*archive_);
}

TEST_F(ArchiveSnapshotConcurrency, TurnsAreForgottenWhileOthersAreReadAndWritten) {
  SessionStore& sessions = archive_->sessions();
  Plan plan;
  for (uint64_t seed = 1; seed <= static_cast<uint64_t>(Rounds(6)); ++seed) {
    plan.push_back({seed, 40, "", true, false, false});
  }
  EID_ASSERT_RESULT(TurnWriter writer, TurnWriter::Open(archive_.get(), "secrets", {}));
  for (const testing::TurnPlan& turn : plan) EID_ASSERT_OK(writer.Commit(turn).status());
  std::atomic<uint64_t> last_whole = plan.size();  // turns past it are forgotten or being so
  Threads threads;
  threads.Repeat("reader", [&](uint64_t) -> Status {
    const auto turns = sessions.Turns("secrets");
    if (!turns.ok()) return UnlessRemoved(turns.status());
    if (turns->size() < last_whole) return Wrong("a turn is missing that was not forgotten");
    for (const TurnHeader& turn : *turns) {
      const auto content = sessions.Content(turn);
      EID_RETURN_IF_ERROR(UnlessRemoved(content.status()));
    }
    return {};
  });
  threads.Repeat("writer of another one", [&](uint64_t round) -> Status {
    const std::string name = "other " + std::to_string(round);
    EID_ASSIGN_OR_RETURN(TurnWriter other, TurnWriter::Open(archive_.get(), name, {}));
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      EID_RETURN_IF_ERROR(other.Commit({1000 * round + seed, 40, "", true, false, false}).status());
    }
    testing::ExpectSession(*archive_, name, other.plan());
    return {};
  });
  while (last_whole > 1 && !threads.failed()) {
    ForgetRequest request;
    request.session = "secrets";
    request.turn = last_whole--;
    EID_ASSERT_OK(archive_->Forget(request).status());
  }
  threads.Join();
  testing::ExpectSession(*archive_, "secrets", testing::FirstTurns(plan, 1));
  ExpectClean(*archive_);
}

}  // namespace
}  // namespace eidetic::memory
