// The map between a stored text and the original it came from.
#include "memory/text_map.h"

#include <gtest/gtest.h>

#include <random>

namespace eidetic::memory {
namespace {

// "<p>a &amp; b</p><p>c" as "a & b\nc".
TextMap Page() {
  return TextMap::Make({{0, 2, 3, 2}, {2, 1, 5, 5}, {3, 2, 10, 2}, {6, 1, 19, 1}}, 7, 20).value();
}

TEST(TextMap, WithoutPiecesTheTextIsTheOriginal) {
  const TextMap map;
  EXPECT_TRUE(map.identity());
  EXPECT_EQ(map.ToOriginal({3, 9}), (ByteRange{3, 9}));
  EXPECT_EQ(map.ToText({3, 9}), (std::vector<ByteRange>{{3, 9}}));
}

TEST(TextMap, RangesOfTheTextLeadToTheBytesTheyCameFrom) {
  const TextMap map = Page();
  EXPECT_EQ(map.ToOriginal({0, 1}), (ByteRange{3, 4}));
  EXPECT_EQ(map.ToOriginal({1, 2}), (ByteRange{4, 5}));
  EXPECT_EQ(map.ToOriginal({2, 3}), (ByteRange{5, 10}));  // a reference as a whole
  EXPECT_EQ(map.ToOriginal({1, 4}), (ByteRange{4, 11}));
  EXPECT_EQ(map.ToOriginal({0, 7}), (ByteRange{3, 20}));
  EXPECT_EQ(map.ToOriginal({5, 6}), (ByteRange{19, 19}));  // a break that was put in
  EXPECT_EQ(map.ToOriginal({7, 7}), (ByteRange{20, 20}));
}

TEST(TextMap, RangesOfTheOriginalLeadToTheTextTheyBecame) {
  const TextMap map = Page();
  EXPECT_EQ(map.ToText({0, 3}), (std::vector<ByteRange>{}));  // markup
  EXPECT_EQ(map.ToText({6, 7}), (std::vector<ByteRange>{{2, 3}}));
  EXPECT_EQ(map.ToText({0, 20}), (std::vector<ByteRange>{{0, 5}, {6, 7}}));
  EXPECT_EQ(map.ToText({4, 11}), (std::vector<ByteRange>{{1, 4}}));
  EXPECT_EQ(map.ToText({9, 9}), (std::vector<ByteRange>{}));
}

TEST(TextMap, PiecesThatCannotBeAreRefused) {
  const std::vector<std::vector<TextPiece>> wrong = {
      {{0, 0, 0, 1}},                // nothing of the text
      {{0, 1, 0, 0}},                // nothing of the original
      {{2, 2, 0, 2}, {3, 1, 5, 1}},  // one within another
      {{0, 8, 0, 8}},                // past the text
      {{0, 1, 20, 1}},               // past the original
      {{1, UINT64_MAX, 0, 1}},       // past all numbers
      {{0, 1, 1, UINT64_MAX}},
  };
  for (const auto& pieces : wrong) {
    EXPECT_EQ(TextMap::Make(pieces, 7, 20).status().code(), Code::kInvalidArgument);
  }
}

// Every byte of the text, looked up there and back, in maps of random pieces.
TEST(TextMap, ThereAndBackHoldsWhereOneCame) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<TextPiece> pieces;
    uint64_t text = 0, original = 0;
    for (int i = 0; i < 20; ++i) {
      TextPiece piece{text + random() % 3, 1 + random() % 4, original + random() % 9, 0};
      piece.original_bytes = random() % 2 ? piece.text_bytes : 1 + random() % 6;
      text = piece.text_begin + piece.text_bytes;
      original = piece.original_begin + piece.original_bytes;
      pieces.push_back(piece);
    }
    const TextMap map = TextMap::Make(pieces, text + 2, original + 3).value();
    const auto parsed = TextMap::Parse(map.Serialize());
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(parsed->pieces(), pieces);
    for (const TextPiece& piece : pieces) {
      for (uint64_t byte = piece.text_begin; byte < piece.text_begin + piece.text_bytes; ++byte) {
        const ByteRange there = parsed->ToOriginal({byte, byte + 1});
        ASSERT_LT(there.begin, there.end);
        const std::vector<ByteRange> back = parsed->ToText(there);
        ASSERT_EQ(back.size(), 1u);
        EXPECT_LE(back[0].begin, byte);
        EXPECT_GT(back[0].end, byte);
        if (piece.text_bytes == piece.original_bytes) {
          EXPECT_EQ(back[0], (ByteRange{byte, byte + 1}));
        }
      }
    }
  }
}

TEST(TextMap, DamagedBytesAreRefusedOrAMapThatHolds) {
  const std::string good = Page().Serialize();
  for (size_t cut = 0; cut < good.size(); ++cut) {
    const auto map = TextMap::Parse(std::string_view(good).substr(0, cut));
    EXPECT_TRUE(map.ok() || map.status().code() == Code::kCorruption);
  }
  std::mt19937_64 random(9);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto map = TextMap::Parse(bytes);
    if (!map.ok()) continue;
    for (const TextPiece& piece : map->pieces()) {
      EXPECT_LE(map->ToOriginal({piece.text_begin, piece.text_begin + 1}).end,
                piece.original_begin + piece.original_bytes);
    }
  }
}

}  // namespace
}  // namespace eidetic::memory
