// Searches, by attention and by words, beside everything that changes an archive. What a search
// finds is compared with what was acknowledged before it began: that is never missing, and what
// was forgotten by then is never there. Run under ThreadSanitizer by .ci/run.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>

#include "memory/archive.h"
#include "memory/hash.h"
#include "memory/retriever.h"
#include "tests/memory/concurrent_threads.h"

namespace eidetic::memory {
namespace {

using testing::RandomBlock;
using testing::Rounds;
using testing::SmallLayout;
using testing::TemporaryFolder;
using testing::Threads;
using testing::UnlessRemoved;
using testing::Wrong;

constexpr int kBlocks = 8;  // of a document
constexpr uint64_t kBlockTokens = 32;
constexpr uint64_t kBytes = kBlocks * kBlockTokens;  // a token is a byte
constexpr char kCollection[] = "books";

// A word that only this document of this kind has.
std::string WordOf(const std::string& kind, int number) {
  return kind + std::to_string(number);
}

std::string TextOf(const std::string& kind, int number) {
  std::string text;
  for (int block = 0; block < kBlocks; ++block) {
    std::string line = "The " + WordOf(kind, number) + " waded away.";
    line.resize(kBlockTokens, ' ');
    text += line;
  }
  return text;
}

// An archive whose documents are numbered; `kind` is a word of its own.
class NumberedDocuments {
 public:
  NumberedDocuments(std::string path, std::string kind)
      : path_(std::move(path)), kind_(std::move(kind)) {}

  Result<std::shared_ptr<Archive>> Open(bool read_only) const {
    ArchiveOptions options;
    options.path = path_;
    options.create = !read_only;
    options.read_only = read_only;
    options.pool_bytes = 64u << 10;  // small: entries come and go
    return Archive::Open(options);
  }
  Status OpenToWrite() {
    EID_ASSIGN_OR_RETURN(archive_, Open(false));
    return EnsureCollection();
  }
  Archive& archive() const { return *archive_; }

  Status EnsureCollection() {
    CollectionRecord collection;
    collection.name = kCollection;
    collection.layout = SmallLayout();
    return archive_->EnsureCollection(collection).status();
  }
  Status Ingest(int number) {
    const std::string text = TextOf(kind_, number);
    EID_ASSIGN_OR_RETURN(auto writer, archive_->BeginDocument(kCollection, std::to_string(number),
                                                              Sha256Hex(text), text, text.size()));
    for (uint64_t at = 0; at < kBytes; at += kBlockTokens) {
      EID_RETURN_IF_ERROR(writer->Append(
          RandomBlock(SmallLayout(), at, kBlockTokens, static_cast<uint64_t>(number))));
      if (at == kBytes / 2) EID_RETURN_IF_ERROR(writer->Commit("state"));
    }
    return writer->Finish();
  }
  Status Ingest(int first, int last) {
    for (int number = first; number <= last; ++number) EID_RETURN_IF_ERROR(Ingest(number));
    return {};
  }
  Status Forget(int number) {
    ForgetRequest request;
    request.collection = kCollection;
    request.source = std::to_string(number);
    return archive_->Forget(request).status();
  }

  // The numbers of the documents that a search by attention finds; their blocks are read, and
  // their text is compared. kNotFound when something was removed meanwhile.
  Result<std::set<int>> FindByAttention(Archive* archive, IndexKind kind, uint64_t seed) const {
    EID_ASSIGN_OR_RETURN(const auto index, archive->Index(kCollection, kind, 1));
    return FindIn(archive, *index, seed);
  }
  Result<std::set<int>> FindIn(Archive* archive, const RepresentativeIndex& index,
                               uint64_t seed) const {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> queries(2 * 4 * 8);  // [tokens, heads, head_dim]
    for (float& number : queries) number = normal(random);
    RetrievalOptions options;
    options.k = 8;
    options.candidates = 16;
    options.votes = 8;
    options.scale = 0.35f;
    options.threads = 1;
    std::vector<ChosenBlock> chosen;
    EID_RETURN_IF_ERROR(ChooseBlocks({{&index, &archive->store()}}, options,
                                     {seed % 2 == 0 ? 3 : 7, queries.data(), 2, 4}, &chosen));
    std::set<int> found;
    for (const ChosenBlock& choice : chosen) {
      EID_ASSIGN_OR_RETURN(const auto document, archive->DocumentOfLineage(choice.block.lineage));
      if (!document) return Status(Code::kNotFound, "its document went");
      EID_RETURN_IF_ERROR(
          Compare(archive, *document, choice.block.text_begin, choice.block.text_end));
      found.insert(std::stoi(document->source));
    }
    return found;
  }

  // The numbers of the documents that hold a word.
  Result<std::set<int>> FindByWord(Archive* archive, const std::string& word) const {
    EID_ASSIGN_OR_RETURN(const auto places, archive->SearchWords(kCollection, word, 4));
    EID_ASSIGN_OR_RETURN(const auto documents, archive->Documents(kCollection));
    std::set<int> found;
    for (const WordPlace& place : places) {
      const auto document =
          std::find_if(documents.begin(), documents.end(),
                       [&](const DocumentRecord& one) { return one.id == place.document; });
      if (document == documents.end()) return Status(Code::kNotFound, "its document went");
      EID_RETURN_IF_ERROR(Compare(archive, *document, place.byte_begin, place.byte_end));
      found.insert(std::stoi(document->source));
    }
    return found;
  }
  Result<std::set<int>> FindByWord(Archive* archive, int number) const {
    return FindByWord(archive, WordOf(kind_, number));
  }

 private:
  Status Compare(Archive* archive, const DocumentRecord& document, uint64_t begin,
                 uint64_t end) const {
    EID_ASSIGN_OR_RETURN(const std::string text, archive->Text(document.id, begin, end));
    if (text == TextOf(kind_, std::stoi(document.source)).substr(begin, end - begin)) return {};
    return Wrong("document " + document.source + " says '" + text + "'");
  }

  std::string path_;
  std::string kind_;
  std::shared_ptr<Archive> archive_;
};

// One of 1..last, each in its turn.
int Pick(uint64_t turn, int last) {
  return 1 + static_cast<int>(turn % static_cast<uint64_t>(last));
}

class ArchiveSearchConcurrency : public ::testing::Test {
 protected:
  void SetUp() override { EID_ASSERT_OK(herons_.OpenToWrite()); }

  TemporaryFolder folder_;
  NumberedDocuments herons_{folder_ / "herons", "heron"};
};

TEST_F(ArchiveSearchConcurrency, WhatIsWrittenBesideASearchIsThereAsAWhole) {
  EID_ASSERT_OK(herons_.Ingest(1));
  Archive* archive = &herons_.archive();
  std::atomic<int> written = 1;
  Threads threads;
  threads.Repeat("attention", [&](uint64_t turn) -> Status {
    const int before = written;
    EID_ASSIGN_OR_RETURN(const auto index, archive->Index(kCollection, IndexKind::kInt8, 1));
    if (index->size() % kBlocks != 0 || index->size() < before * kBlocks) {
      return Wrong(std::to_string(index->size()) + " blocks after " + std::to_string(before) +
                   " documents");
    }
    return herons_.FindIn(archive, *index, turn).status();
  });
  threads.Repeat("words", [&](uint64_t turn) -> Status {
    const int number = Pick(turn, written);
    EID_ASSIGN_OR_RETURN(const auto found, herons_.FindByWord(archive, number));
    return found == std::set<int>{number} ? Status() : Wrong("a word was not found");
  });
  for (int number = 2; number <= Rounds(8) && !threads.failed(); ++number) {
    EID_ASSERT_OK(herons_.Ingest(number));
    written = number;
  }
}

TEST_F(ArchiveSearchConcurrency, WhatIsForgottenIsNeverFoundAfterwards) {
  const int documents = Rounds(5);
  EID_ASSERT_OK(herons_.Ingest(1, documents + 1));
  Archive* archive = &herons_.archive();
  std::atomic<int> forgotten = 0;
  const auto expect_none_of = [](const std::set<int>& found, int before) {
    return found.empty() || *found.begin() > before
               ? Status()
               : Wrong("document " + std::to_string(*found.begin()) + " was forgotten");
  };
  Threads threads;
  for (const IndexKind kind : {IndexKind::kInt8, IndexKind::kExact}) {
    threads.Repeat("attention", [&, kind](uint64_t turn) -> Status {
      const int before = forgotten;
      const auto found = herons_.FindByAttention(archive, kind, turn);
      return found.ok() ? expect_none_of(*found, before) : UnlessRemoved(found.status());
    });
  }
  threads.Repeat("words", [&](uint64_t turn) -> Status {
    const int before = forgotten;
    const auto found = turn % 2 == 0 ? herons_.FindByWord(archive, "waded")
                                     : herons_.FindByWord(archive, Pick(turn, documents));
    return found.ok() ? expect_none_of(*found, before) : UnlessRemoved(found.status());
  });
  for (int number = 1; number <= documents && !threads.failed(); ++number) {
    EID_ASSERT_OK(herons_.Forget(number));
    forgotten = number;
  }
  threads.Join();
  EID_ASSERT_RESULT(const auto left, herons_.FindByWord(archive, "waded"));
  EXPECT_EQ(left, std::set<int>{documents + 1});
  // A search whose document goes is no damage, and leaves nothing behind.
  EID_ASSERT_OK(herons_.Forget(documents + 1));
  EXPECT_EQ(archive->store().pool_stats().bytes, 0u);
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  for (const Damage& damage : report.damage) ADD_FAILURE() << damage.what;
}

TEST_F(ArchiveSearchConcurrency, IndexesAreMadeAnewBesideTheirSearches) {
  constexpr int kDocuments = 4;
  EID_ASSERT_OK(herons_.Ingest(1, kDocuments));
  Archive* archive = &herons_.archive();
  Threads threads;
  // One that holds on to an index, and some that ask for the newest: that one can always be made,
  // also when a document goes while it is read.
  threads.Repeat("holder", [&](uint64_t turn) -> Status {
    EID_ASSIGN_OR_RETURN(const auto index, archive->Index(kCollection, IndexKind::kExact, 1));
    for (uint64_t i = 0; i < 5; ++i) {
      EID_RETURN_IF_ERROR(UnlessRemoved(herons_.FindIn(archive, *index, turn + i).status()));
    }
    return {};
  });
  for (const IndexKind kind : {IndexKind::kInt8, IndexKind::kExact, IndexKind::kFaiss}) {
    threads.Repeat("maker", [&, kind](uint64_t turn) -> Status {
      EID_ASSIGN_OR_RETURN(const auto index, archive->Index(kCollection, kind, 1));
      if (index->size() % kBlocks != 0) return Wrong("a document is there in part");
      return UnlessRemoved(herons_.FindIn(archive, *index, turn).status());
    });
  }
  for (int round = 0; round < Rounds(10) && !threads.failed(); ++round) {
    const int number = 1 + round % kDocuments;
    EID_ASSERT_RESULT(const auto document,
                      archive->FindDocument(kCollection, std::to_string(number)));
    ASSERT_TRUE(document.has_value());
    EID_ASSERT_OK(archive->RemoveDocument(document->id));
    EID_ASSERT_OK(herons_.Ingest(number));
  }
}

TEST_F(ArchiveSearchConcurrency, WordsAreSearchedWhileTheirIndexIsWritten) {
  constexpr int kStay = 2, kReplaced = 3;
  EID_ASSERT_OK(herons_.Ingest(1, kReplaced));
  Archive* archive = &herons_.archive();
  EID_ASSERT_RESULT(const auto beside, herons_.Open(/*read_only=*/true));
  Threads threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.Repeat("reader", [&](uint64_t turn) -> Status {
      const int number = Pick(turn, kStay);
      const auto found = herons_.FindByWord(archive, number);
      if (!found.ok()) return UnlessRemoved(found.status());
      return *found == std::set<int>{number} ? Status() : Wrong("what stays was not found");
    });
  }
  threads.Repeat("updater", [&](uint64_t) { return archive->UpdateWords(kCollection); });
  threads.Repeat("reader of an archive opened read-only", [&](uint64_t turn) -> Status {
    return UnlessRemoved(herons_.FindByWord(beside.get(), Pick(turn, kStay)).status());
  });
  for (int round = 0; round < Rounds(4) && !threads.failed(); ++round) {
    EID_ASSERT_OK(herons_.Forget(kReplaced));
    EID_ASSERT_OK(herons_.Ingest(kReplaced));
  }
}

TEST_F(ArchiveSearchConcurrency, ACollectionIsForgottenBesideItsIngest) {
  Archive* archive = &herons_.archive();
  Threads threads;
  threads.Repeat("forgetter", [&](uint64_t) -> Status {
    ForgetRequest request;
    request.collection = kCollection;
    const Status status = archive->Forget(request).status();
    // While a document is written, its collection cannot go.
    return status.code() == Code::kLocked ? Status() : UnlessRemoved(status);
  });
  threads.Repeat("reader", [&](uint64_t turn) -> Status {
    EID_RETURN_IF_ERROR(UnlessRemoved(herons_.FindByWord(archive, 1).status()));
    return UnlessRemoved(herons_.FindByAttention(archive, IndexKind::kInt8, turn).status());
  });
  // Never a document without its collection.
  threads.Repeat("verifier", [&](uint64_t) -> Status {
    EID_ASSIGN_OR_RETURN(const VerifyReport report, archive->Verify(nullptr));
    return report.clean() ? Status() : Wrong(report.damage.front().what);
  });
  for (int round = 0; round < Rounds(20) && !threads.failed(); ++round) {
    EID_ASSERT_OK(herons_.EnsureCollection());
    EID_ASSERT_OK(UnlessRemoved(herons_.Ingest(1 + round % 3)));
  }
  threads.Join();
  EID_ASSERT_RESULT(const VerifyReport report, archive->Verify(nullptr));
  for (const Damage& damage : report.damage) ADD_FAILURE() << damage.what;
}

TEST_F(ArchiveSearchConcurrency, TwoArchivesOfOneProcessDoNotMeet) {
  NumberedDocuments badgers(folder_ / "badgers", "badger");
  EID_ASSERT_OK(badgers.OpenToWrite());
  Threads threads;
  for (NumberedDocuments* one : {&herons_, &badgers}) {
    EID_ASSERT_OK(one->Ingest(1));
    threads.Repeat("reader", [one](uint64_t turn) -> Status {
      EID_RETURN_IF_ERROR(one->FindByAttention(&one->archive(), IndexKind::kInt8, turn).status());
      EID_ASSIGN_OR_RETURN(const auto found, one->FindByWord(&one->archive(), 1));
      return found == std::set<int>{1} ? Status() : Wrong("a word was not found");
    });
  }
  threads.Repeat("writer", [&](uint64_t turn) { return badgers.Ingest(Pick(turn, 1000) + 1); });
  // What is acknowledged is there for whoever opens the archive now.
  threads.Repeat("opener", [&](uint64_t) -> Status {
    EID_ASSIGN_OR_RETURN(const auto beside, herons_.Open(/*read_only=*/true));
    EID_ASSIGN_OR_RETURN(const auto found,
                         herons_.FindByAttention(beside.get(), IndexKind::kExact, 1));
    return found.empty() ? Wrong("nothing was found") : Status();
  });
  for (int number = 2; number <= Rounds(6) && !threads.failed(); ++number) {
    EID_ASSERT_OK(herons_.Ingest(number));
  }
}

}  // namespace
}  // namespace eidetic::memory
