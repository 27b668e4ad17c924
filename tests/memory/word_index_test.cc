#include "memory/word_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>

#include "memory/word_query.h"
#include "tests/memory/test_blocks.h"
#include "tests/seed.h"

namespace eidetic::memory {
namespace {

using testing::TemporaryFolder;

constexpr int kTokens = 32;

// Blocks of 32 tokens with these texts.
std::vector<WordBlock> Blocks(const std::vector<std::string>& texts) {
  std::vector<WordBlock> blocks;
  for (const std::string& text : texts) blocks.push_back({blocks.size() * kTokens, kTokens, text});
  return blocks;
}

std::unique_ptr<WordIndex> Open(const std::string& path = "", bool read_only = false) {
  auto index = WordIndex::Open(path, read_only);
  EXPECT_TRUE(index.ok()) << testing::Explain(index.status());
  return std::move(index).value();
}

std::vector<WordHit> Search(const WordIndex& index, std::string_view text, size_t limit = 8) {
  auto hits = index.Search(text, limit, {});
  EXPECT_TRUE(hits.ok()) << testing::Explain(hits.status());
  return std::move(hits).value();
}

TEST(QueryWords, LeaveOutStopWordsAndWhateverIsNoWord) {
  EXPECT_EQ(QueryWords("Where does Irene Adler live?"),
            (std::vector<std::string>{"irene", "adler", "live"}));
  EXPECT_EQ(QueryWords("the King\xe2\x80\x99s \xe2\x80\x9cphotograph\xe2\x80\x9d\xe2\x80\x94gone"),
            (std::vector<std::string>{"king", "photograph", "gone"}));
  EXPECT_EQ(QueryWords("Z\xc3\xbcrich, Z\xc3\xbcrich"),
            (std::vector<std::string>{"z\xc3\xbcrich"}));
  EXPECT_EQ(QueryWords("To be or not"), (std::vector<std::string>{"to", "be", "or", "not"}));
  EXPECT_TRUE(QueryWords(" ?!\t\"").empty());
}

TEST(QueryWords, KeepTheLastOfVeryMany) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "word" + std::to_string(i) + " ";
  const std::vector<std::string> words = QueryWords(text);
  ASSERT_EQ(words.size(), 64u);
  EXPECT_EQ(words.front(), "word36");
  EXPECT_EQ(words.back(), "word99");
}

TEST(WordIndex, ThePlaceThatSpeaksOfTheQuestionComesFirst) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(
      7, "a",
      Blocks({"It was a dark night. ", "The rain fell in torrents. ", "The lamps were lit. ",
              "She lives in Briony Lodge, ", "Serpentine Avenue. ", "He closed the door. ",
              "The clock struck ten. ", "Nobody came. ", "The horses waited. "})));
  const std::vector<WordHit> hits = Search(*index, "Who is living at Briony Lodge?");
  ASSERT_FALSE(hits.empty());
  EXPECT_EQ(hits[0].lineage, 7u);
  // The block and its neighbours.
  EXPECT_EQ(hits[0].position, 1u * kTokens);
  EXPECT_EQ(hits[0].tokens, kMostPlaceBlocks * kTokens);
  EXPECT_GT(hits[0].score, 0);
}

TEST(WordIndex, WordsAreStemmed) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks({"The horses were galloping away."})));
  for (const char* form : {"horse", "HORSES", "gallop", "gallops", "galloped"}) {
    EXPECT_EQ(Search(*index, form).size(), 1u) << form;
  }
  EXPECT_TRUE(Search(*index, "house").empty());
}

TEST(WordIndex, PlacesShareNoBlock) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks(std::vector<std::string>(20, "needle "))));
  const std::vector<WordHit> hits = Search(*index, "needle", 100);
  EXPECT_EQ(hits.size(), 4u);  // 20 blocks, five to a place
  for (size_t i = 0; i < hits.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const uint64_t apart = std::max(hits[i].position, hits[j].position) -
                             std::min(hits[i].position, hits[j].position);
      EXPECT_GE(apart, static_cast<uint64_t>(kMostPlaceBlocks * kTokens));
    }
  }
  EXPECT_EQ(Search(*index, "needle", 2).size(), 2u);
  EXPECT_TRUE(Search(*index, "needle", 0).empty());
}

TEST(WordIndex, WordsThatStandTogetherBeatWordsFarApart) {
  auto index = Open();
  std::vector<std::string> texts(40, "nothing here ");
  texts[2] = "the abbey ", texts[12] = "a lantern ";      // far apart
  texts[30] = "in the abbey ", texts[31] = "a lantern ";  // in neighbours
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks(texts)));
  const std::vector<WordHit> hits = Search(*index, "the lantern of the abbey");
  ASSERT_EQ(hits.size(), 3u);
  EXPECT_EQ(hits[0].position, 28u * kTokens);
  EXPECT_GT(hits[0].score, 1.3 * hits[1].score);
}

TEST(WordIndex, AWordCutBetweenTwoBlocksIsAWord) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks({"the hippo", "potamus slept"})));
  EXPECT_EQ(Search(*index, "hippopotamus").size(), 1u);
  EXPECT_TRUE(Search(*index, "potamus").empty());
  auto growing = Open();
  EID_ASSERT_OK(growing->Append(1, {0, kTokens, "the hippo"}));
  EID_ASSERT_OK(growing->Append(1, {32, kTokens, "potamus slept"}));
  EXPECT_EQ(Search(*growing, "hippopotamus").size(), 1u);
}

TEST(WordIndex, NeighboursAreOfTheSameLineage) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks({"alpha "})));
  EID_ASSERT_OK(index->AddLineage(2, "", Blocks({"beta ", "gamma "})));
  const std::vector<WordHit> hits = Search(*index, "alpha beta");
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].lineage, 1u);
  EXPECT_EQ(hits[0].tokens, kTokens);
  EXPECT_EQ(hits[1].tokens, 2 * kTokens);
}

TEST(WordIndex, AShortLineageIsOnePlaceAndAnEmptyOneIsNone) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks({"alpha ", "beta "})));
  EID_ASSERT_OK(index->AddLineage(2, "", {}));
  const std::vector<WordHit> hits = Search(*index, "beta");
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].position, 0u);
  EXPECT_EQ(hits[0].tokens, 2 * kTokens);
}

TEST(WordIndex, AnythingMayBeAsked) {
  auto index = Open();
  EID_ASSERT_OK(index->AddLineage(1, "", Blocks({"A near text: column OR NOT (quoted)."})));
  for (const char* text :
       {"\"", "'; DROP TABLE words; --", "text:column", "NEAR(near text, 2)", "* ^ -text", "(((",
        "OR", "AND NOT", "{text} : near", "\xff\xfe\x80", "a\"b\"\"c", "near*", "+", "\xe2\x80"}) {
    EXPECT_TRUE(index->Search(text, 4, {}).ok()) << text;
  }
  EXPECT_TRUE(index->Search(std::string_view("near\0near", 9), 4, {}).ok());
  EXPECT_EQ(Search(*index, "text:nothing").size(), 1u);  // "text" is a word of it, no column
  std::mt19937_64 random(tests::Seed(11));
  for (int i = 0; i < 300; ++i) {
    std::string text(random() % 40, ' ');
    for (char& byte : text) byte = static_cast<char>(random());
    EXPECT_TRUE(index->Search(text, 4, {}).ok()) << i;
  }
  EXPECT_EQ(Search(*index, "quoted").size(), 1u);
}

TEST(WordIndex, OnlyAdmittedLineagesCount) {
  auto index = Open();
  for (LineageId lineage = 1; lineage <= 5; ++lineage) {
    EID_ASSERT_OK(index->AddLineage(lineage, "", Blocks({"the same words"})));
  }
  EID_ASSERT_RESULT(const auto hits,
                    index->Search("words", 2, [](LineageId lineage) { return lineage >= 3; }));
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].lineage, 3u);  // equals in the order of lineages
  EXPECT_EQ(hits[1].lineage, 4u);
}

TEST(WordIndex, WhatIsRemovedIsFoundNoMoreAndLeavesNoBytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "words";
  {
    auto index = Open(path);
    EID_ASSERT_OK(index->AddLineage(1, "one", Blocks({"the zanzibar secret"})));
    EID_ASSERT_OK(index->AddLineage(2, "two", Blocks({"the other secret", " and more"})));
    EXPECT_EQ(index->AddLineage(2, "two", {}).code(), Code::kAlreadyExists);
    EXPECT_EQ(Search(*index, "secret").size(), 2u);
    EID_ASSERT_OK(index->RemoveLineages({1, 99}));
    EXPECT_TRUE(Search(*index, "zanzibar").empty());
    EXPECT_EQ(Search(*index, "secret").size(), 1u);
  }
  auto again = Open(path, /*read_only=*/true);
  EID_ASSERT_RESULT(const auto lineages, again->Lineages());
  EXPECT_EQ(lineages, (std::map<LineageId, std::string>{{2, "two"}}));
  EXPECT_EQ(Search(*again, "secret").size(), 1u);
  EXPECT_FALSE(again->AddLineage(3, "", Blocks({"more"})).ok());
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  EXPECT_NE(bytes.str().find("other secret"), std::string::npos);
  EXPECT_EQ(bytes.str().find("zanzibar"), std::string::npos);
}

TEST(WordIndex, ALineageThatGrowsIsFoundAsItGrows) {
  auto index = Open();
  EID_ASSERT_OK(index->Append(4, {0, kTokens, "first "}));
  EID_ASSERT_OK(index->Append(4, {32, kTokens, "second "}));
  EXPECT_EQ(Search(*index, "first").size(), 1u);
  EXPECT_TRUE(Search(*index, "second").empty());  // a word may go on in the next block
  EID_ASSERT_OK(index->Append(4, {64, 7, "third "}));
  const std::vector<WordHit> hits = Search(*index, "second");
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].lineage, 4u);
  EXPECT_EQ(hits[0].position, 0u);
  EXPECT_EQ(hits[0].tokens, 64);
}

TEST(WordIndex, AFileOfAnotherKindOrVersionIsDamage) {
  const TemporaryFolder folder;
  const std::string path = folder / "words";
  std::ofstream(path) << "this is no database, and long enough not to be taken for an empty one";
  EXPECT_EQ(WordIndex::Open(path, false).status().code(), Code::kCorruption);
  EXPECT_EQ(WordIndex::Open(folder / "absent", true).status().code(), Code::kIoError);
}

}  // namespace
}  // namespace eidetic::memory
