// Readers beside a writer that replaces what they read: they get the old version, the new one, or
// "not found", and never anything else.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "memory/archive.h"
#include "memory/hash.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory {
namespace {

using testing::RandomBlock;
using testing::SmallLayout;
using testing::TemporaryFolder;

constexpr uint64_t kTokens = 480;
constexpr int kVersions = 20;

enum class Kind { kRam, kRocks };

class ArchiveConcurrency : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    ArchiveOptions options;
    options.path = folder_ / "archive";
    options.create = true;
    options.pool_bytes = 64u << 10;  // small: entries come and go
    if (GetParam() == Kind::kRam) {
      EID_ASSERT_RESULT(archive_, Archive::OpenOver(NewRamRecordStore(), options));
    } else {
      EID_ASSERT_RESULT(archive_, Archive::Open(options));
    }
    CollectionRecord collection;
    collection.name = "books";
    collection.layout = SmallLayout();
    EID_ASSERT_OK(archive_->EnsureCollection(collection).status());
  }

  // The version is the seed of its blocks and the letter of its text.
  Status Ingest(int version) {
    const std::string text(kTokens, static_cast<char>('a' + version));
    EID_ASSIGN_OR_RETURN(auto writer,
                         archive_->BeginDocument("books", "book", Sha256Hex(text), text, kTokens));
    for (uint64_t position = 0; position < kTokens; position += 32) {
      EID_RETURN_IF_ERROR(
          writer->Append(RandomBlock(SmallLayout(), position, 32, static_cast<uint64_t>(version))));
      if (position == 224) EID_RETURN_IF_ERROR(writer->Commit("state"));
    }
    return writer->Finish();
  }

  // One look at the document: its version is told by its text, and its blocks must be of it.
  Status ReadOnce(uint64_t position) {
    EID_ASSIGN_OR_RETURN(const auto document, archive_->FindDocument("books", "book"));
    if (!document.has_value()) return Status(Code::kInternal, "there is no document");
    EID_ASSIGN_OR_RETURN(const std::string letter, archive_->Text(document->id, 5, 6));
    std::vector<PayloadPtr> payloads;
    EID_RETURN_IF_ERROR(
        archive_->store().ReadPayloads({{document->lineage, 3, Part::kKeys, position},
                                        {document->lineage, 7, Part::kValues, position}},
                                       &payloads));
    const Block expected =
        RandomBlock(SmallLayout(), position, 32, static_cast<uint64_t>(letter[0] - 'a'));
    if (payloads[0]->bytes != expected.keys[0] || payloads[1]->bytes != expected.values[1]) {
      return Status(Code::kInternal, "the blocks are not those of version " + letter);
    }
    EID_ASSIGN_OR_RETURN(auto index, archive_->Index("books", IndexKind::kExact, 1));
    if (index->size() != static_cast<int64_t>(kTokens / 32)) {
      return Status(Code::kInternal, "the index has " + std::to_string(index->size()) + " blocks");
    }
    return {};
  }

  // New sessions, a few commits each, until told to stop.
  Status RunSession(const std::atomic<bool>* stop) {
    for (int session = 0; !*stop; ++session) {
      const std::string name = "session " + std::to_string(session);
      EID_ASSIGN_OR_RETURN(auto lineage,
                           archive_->store().NewLineage(SmallLayout(), "session/" + name));
      for (uint64_t turn = 0; turn < 4; ++turn) {
        EID_RETURN_IF_ERROR(lineage->Append(RandomBlock(SmallLayout(), turn * 32, 32, 1)));
        if (turn % 2 == 0) EID_RETURN_IF_ERROR(lineage->Flush());
        EID_RETURN_IF_ERROR(archive_->CommitSession(name, lineage.get(), "turn"));
      }
    }
    return {};
  }

  TemporaryFolder folder_;
  std::shared_ptr<Archive> archive_;
};

TEST_P(ArchiveConcurrency, ReadersSeeOneVersionOrTheOtherAndNothingElse) {
  EID_ASSERT_OK(Ingest(0));
  std::atomic<bool> stop = false;
  std::atomic<int> reads = 0;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> readers;
  for (uint64_t reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&, reader] {
      for (uint64_t round = reader; !stop; ++round) {
        const Status status = ReadOnce(round * 32 % kTokens);
        ++reads;
        if (status.ok() || status.code() == Code::kNotFound) continue;
        ++wrong;
        ADD_FAILURE() << testing::Explain(status);
      }
    });
  }
  std::thread verifier([&] {
    while (!stop) {
      const auto report = archive_->Verify(nullptr);
      EXPECT_TRUE(report.ok()) << testing::Explain(report.status());
      for (const Damage& damage : report->damage) ADD_FAILURE() << damage.what;
    }
  });
  std::thread session([&] {
    const Status status = RunSession(&stop);
    EXPECT_TRUE(status.ok()) << testing::Explain(status);
  });
  for (int version = 1; version <= kVersions; ++version) EXPECT_TRUE(Ingest(version).ok());
  stop = true;
  session.join();
  for (std::thread& reader : readers) reader.join();
  verifier.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(reads, kVersions);
  // Of the versions that are gone, nothing is left in the pool.
  EID_ASSERT_RESULT(const auto last, archive_->FindDocument("books", "book"));
  ASSERT_TRUE(last.has_value());
  EID_ASSERT_OK(archive_->RemoveDocument(last->id));
  EXPECT_EQ(archive_->store().pool_stats().bytes, 0u);  // sessions read nothing here
}

INSTANTIATE_TEST_SUITE_P(Kinds, ArchiveConcurrency, ::testing::Values(Kind::kRam, Kind::kRocks),
                         [](const auto& info) {
                           return info.param == Kind::kRam ? "Ram" : "Rocks";
                         });

}  // namespace
}  // namespace eidetic::memory
