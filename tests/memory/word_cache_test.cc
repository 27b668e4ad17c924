// Searching an archive by words, and the file behind it: a cache that may be lost, damaged or old
// (rule 1).
#include "memory/word_cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "memory/archive.h"
#include "memory/hash.h"
#include "tests/memory/test_blocks.h"
#include "tests/seed.h"

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;
using testing::RandomBlock;
using testing::SmallLayout;

constexpr uint64_t kBytesPerToken = 4;

// Sentences about nothing in particular, with `fact` after `before` of them.
std::string Story(const std::string& fact, int before = 20, int after = 20) {
  std::string text;
  for (int i = 0; i < before; ++i) text += "The evening went by and the rain went on falling. ";
  text += fact + " ";
  for (int i = 0; i < after; ++i) text += "They sat by the fire and said little to each other. ";
  text.resize(text.size() / kBytesPerToken * kBytesPerToken);
  return text;
}

class ArchiveWords : public ::testing::Test {
 protected:
  std::string Path() const { return folder_ / "archive"; }
  std::shared_ptr<Archive> Open(bool read_only = false) const {
    ArchiveOptions options;
    options.path = Path();
    options.create = !read_only;
    options.read_only = read_only;
    options.pool_bytes = 8u << 20;
    auto archive = Archive::Open(options);
    EXPECT_TRUE(archive.ok()) << testing::Explain(archive.status());
    return std::move(archive).value();
  }
  static Status Ingest(Archive* archive, const std::string& source, const std::string& text,
                       bool finish = true) {
    CollectionRecord books;
    books.name = "books";
    books.layout = SmallLayout();
    EID_RETURN_IF_ERROR(archive->EnsureCollection(books).status());
    const uint64_t tokens = text.size() / kBytesPerToken;
    EID_ASSIGN_OR_RETURN(auto writer,
                         archive->BeginDocument("books", source, Sha256Hex(text), text, tokens));
    for (uint64_t at = writer->document().committed_tokens; at < tokens;) {
      const int count = testing::BlockTokens(SmallLayout(), at, tokens);
      EID_RETURN_IF_ERROR(writer->Append(RandomBlock(SmallLayout(), at, count, 1, kBytesPerToken)));
      at += static_cast<uint64_t>(count);
    }
    return finish ? writer->Finish() : writer->Commit("state");
  }
  // What the best place for `words` says; empty when there is none.
  static std::string Best(Archive* archive, const std::string& words) {
    const auto places = archive->SearchWords("books", words, 3);
    EXPECT_TRUE(places.ok()) << testing::Explain(places.status());
    if (!places.ok() || places->empty()) return "";
    const WordPlace& best = places->front();
    const auto text = archive->Text(best.document, best.byte_begin, best.byte_end);
    EXPECT_TRUE(text.ok()) << testing::Explain(text.status());
    return *text;
  }
  std::vector<std::string> CacheFiles() const {
    std::vector<std::string> files;
    std::error_code absent;
    for (const auto& entry : fs::directory_iterator(Path() + "/words", absent)) {
      files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  // The index's file.
  std::string CacheFile() const {
    for (const std::string& file : CacheFiles()) {
      if (file.ends_with(".sqlite")) return file;
    }
    ADD_FAILURE() << "there is no word index on disk";
    return "";
  }
  static std::string BytesOf(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
  }

  testing::TemporaryFolder folder_;
};

TEST_F(ArchiveWords, APlaceIsABlockWithItsNeighboursAndSaysWhereItStands) {
  auto archive = Open();
  const std::string text = Story("Irene Adler lives in Briony Lodge.");
  EID_ASSERT_OK(Ingest(archive.get(), "story.txt", text));
  EID_ASSERT_RESULT(const auto places, archive->SearchWords("books", "Where is Briony Lodge?", 3));
  ASSERT_EQ(places.size(), 1u);
  const WordPlace& place = places[0];
  EXPECT_EQ(place.blocks.size(), static_cast<size_t>(kMostPlaceBlocks));
  EXPECT_EQ(place.byte_begin, place.blocks.front().text_begin);
  EXPECT_EQ(place.byte_end, place.blocks.back().text_end);
  const size_t fact = text.find("Briony Lodge");
  EXPECT_LE(place.byte_begin, fact);
  EXPECT_GE(place.byte_end, fact + 12);
  for (size_t i = 1; i < place.blocks.size(); ++i) {
    EXPECT_EQ(place.blocks[i].position, place.blocks[i - 1].position + 32);
    EXPECT_GT(place.blocks[i].id, 0u);
  }
  EXPECT_GT(place.score, 0);
  EXPECT_EQ(archive->SearchWords("absent", "words", 3).status().code(), Code::kNotFound);
}

TEST_F(ArchiveWords, DocumentsThatComeAndGoAreFollowed) {
  auto archive = Open();
  EID_ASSERT_OK(Ingest(archive.get(), "one.txt", Story("The password is zanzibar.")));
  EID_ASSERT_OK(Ingest(archive.get(), "two.txt", Story("A giraffe slept.")));
  EXPECT_NE(Best(archive.get(), "zanzibar"), "");
  // Replaced: the old words are gone, from the file too.
  EID_ASSERT_OK(Ingest(archive.get(), "one.txt", Story("The password is timbuktu.")));
  EXPECT_EQ(Best(archive.get(), "zanzibar"), "");
  EXPECT_NE(Best(archive.get(), "timbuktu").find("timbuktu"), std::string::npos);
  EXPECT_EQ(BytesOf(CacheFile()).find("zanzibar"), std::string::npos);
  // Not while it is unfinished; once it is.
  EID_ASSERT_OK(Ingest(archive.get(), "three.txt", Story("An okapi came."), /*finish=*/false));
  EXPECT_EQ(Best(archive.get(), "okapi"), "");
  EID_ASSERT_OK(Ingest(archive.get(), "three.txt", Story("An okapi came.")));
  EXPECT_NE(Best(archive.get(), "okapi"), "");
  EID_ASSERT_RESULT(const auto two, archive->FindDocument("books", "two.txt"));
  ASSERT_TRUE(two.has_value());
  EID_ASSERT_OK(archive->RemoveDocument(two->id));
  EXPECT_EQ(BytesOf(CacheFile()).find("giraffe"), std::string::npos);  // before any search
  EXPECT_EQ(Best(archive.get(), "giraffe"), "");
}

TEST_F(ArchiveWords, TheFileIsMadeAgainWhenItIsMissing) {
  EID_ASSERT_OK(Ingest(Open().get(), "one.txt", Story("The password is zanzibar.")));
  for (const char* lost : {".sqlite", ".sum", ""}) {
    for (const std::string& file : CacheFiles()) {
      if (file.ends_with(lost)) fs::remove(file);
    }
    EXPECT_NE(Best(Open().get(), "zanzibar"), "") << lost;
    EXPECT_EQ(CacheFiles().size(), 2u) << lost;
  }
}

TEST_F(ArchiveWords, TheFileIsMadeAgainWhenABitOfItFlipped) {
  EID_ASSERT_OK(Ingest(Open().get(), "one.txt", Story("The password is zanzibar.")));
  const std::string good = Best(Open().get(), "zanzibar");
  std::mt19937_64 random(tests::Seed(5));
  for (int flip = 0; flip < 20; ++flip) {
    const std::vector<std::string> files = CacheFiles();
    const std::string& file = files.at(flip % files.size());
    const std::string whole = BytesOf(file);
    std::string bytes = whole;
    const uint64_t bit = random() % (8 * bytes.size());
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    std::ofstream(file, std::ios::binary) << bytes;
    EXPECT_EQ(Best(Open(/*read_only=*/true).get(), "zanzibar"), good) << file << " bit " << bit;
    EXPECT_EQ(BytesOf(file), bytes) << "a reader wrote";
    EXPECT_EQ(Best(Open().get(), "zanzibar"), good) << file << " bit " << bit;
    EXPECT_NE(BytesOf(file), bytes) << file << " bit " << bit;
  }
  std::ofstream(CacheFile(), std::ios::binary | std::ios::trunc) << "no database";
  EXPECT_EQ(Best(Open().get(), "zanzibar"), good);
}

TEST_F(ArchiveWords, TheFileOfAnOlderStateIsBroughtUpToDate) {
  {
    auto archive = Open();
    EID_ASSERT_OK(Ingest(archive.get(), "one.txt", Story("The password is zanzibar.")));
  }
  const fs::path kept = folder_ / "kept";
  fs::copy(Path() + "/words", kept);
  {
    auto archive = Open();
    EID_ASSERT_OK(Ingest(archive.get(), "one.txt", Story("The password is timbuktu.")));
    EID_ASSERT_OK(Ingest(archive.get(), "two.txt", Story("A giraffe slept.")));
  }
  fs::remove_all(Path() + "/words");
  fs::copy(kept, Path() + "/words");
  for (const bool read_only : {true, false}) {
    auto archive = Open(read_only);
    EXPECT_EQ(Best(archive.get(), "zanzibar"), "");
    EXPECT_NE(Best(archive.get(), "timbuktu"), "");
    EXPECT_NE(Best(archive.get(), "giraffe"), "");
  }
}

TEST_F(ArchiveWords, AReaderUsesTheFileAndNeverWritesIt) {
  EID_ASSERT_OK(Ingest(Open().get(), "one.txt", Story("The password is zanzibar.")));
  const std::string before = BytesOf(CacheFile());
  EXPECT_NE(Best(Open(true).get(), "zanzibar"), "");
  EXPECT_EQ(BytesOf(CacheFile()), before);
  fs::remove_all(Path() + "/words");
  EXPECT_NE(Best(Open(true).get(), "zanzibar"), "");
  EXPECT_FALSE(fs::exists(Path() + "/words"));
  EXPECT_FALSE(Open(true)->UpdateWords("books").ok());
  // What the writer added since the reader opened is not the reader's to see.
  auto reader = Open(true);
  EID_ASSERT_OK(Ingest(Open().get(), "two.txt", Story("A giraffe slept.")));
  EXPECT_EQ(Best(reader.get(), "giraffe"), "");
  EXPECT_NE(Best(reader.get(), "zanzibar"), "");
}

TEST_F(ArchiveWords, ATroubledFileLeadsToAnIndexInRam) {
  EID_ASSERT_OK(Ingest(Open().get(), "one.txt", Story("The password is zanzibar.")));
  fs::remove_all(Path() + "/words");
  std::ofstream(Path() + "/words") << "a file where the folder should be";
  auto archive = Open();
  EXPECT_NE(Best(archive.get(), "zanzibar"), "");
  EID_ASSERT_OK(Ingest(archive.get(), "two.txt", Story("A giraffe slept.")));
  EXPECT_NE(Best(archive.get(), "giraffe"), "");
}

TEST(WordCache, AnIndexThatTurnedOutToBeDamagedIsMadeAgain) {
  const testing::TemporaryFolder folder;
  WordCache cache(folder / "words/one", /*writable=*/true);
  int made = 0;
  const auto blocks_of = [&](LineageId) -> Result<std::vector<WordBlock>> {
    ++made;
    return std::vector<WordBlock>{{0, 32, "a needle"}};
  };
  EID_ASSERT_OK(cache.Holding({{1, "tag"}}, blocks_of).status());
  EXPECT_TRUE(cache.on_disk());
  EID_ASSERT_OK(cache.Holding({{1, "tag"}}, blocks_of).status());
  EXPECT_EQ(made, 1);
  EID_ASSERT_OK(cache.Holding({{1, "another"}}, blocks_of).status());
  EXPECT_EQ(made, 2);
  cache.Discard();
  EXPECT_TRUE(fs::is_empty(folder / "words"));
  EID_ASSERT_RESULT(const WordIndex* index, cache.Holding({{1, "another"}}, blocks_of));
  EXPECT_EQ(made, 3);
  EID_ASSERT_RESULT(const auto hits, index->Search("needles", 1, {}));
  EXPECT_EQ(hits.size(), 1u);
  // A lineage that goes while it is read is left out; another error is the caller's.
  const auto gone = [](LineageId) -> Result<std::vector<WordBlock>> {
    return Status(Code::kNotFound, "gone");
  };
  EID_ASSERT_OK(cache.Holding({{1, "another"}, {2, ""}}, gone).status());
  const auto damaged = [](LineageId) -> Result<std::vector<WordBlock>> {
    return Status(Code::kCorruption, "damaged text");
  };
  EXPECT_EQ(cache.Holding({{3, ""}}, damaged).status().code(), Code::kCorruption);
}

}  // namespace
}  // namespace eidetic::memory
