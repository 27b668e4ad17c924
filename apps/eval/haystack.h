// Needle-in-a-haystack prompts from running text: the same seed gives the same prompts.
#ifndef EIDETIC_APPS_EVAL_HAYSTACK_H_
#define EIDETIC_APPS_EVAL_HAYSTACK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

// SplitMix64: the same numbers on every platform and standard library, unlike <random>'s
// distributions.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t bound);  // 0..bound-1; bound > 0
  double unit();                             // 0 <= x < 1

 private:
  std::uint64_t state_;
};

// Cuts text where a new word may begin without changing how the words are tokenised: a piece begins
// with the white space before its first word. Long sentences are cut between words.
struct TextPiece {
  std::string_view text;
  bool sentence = false;  // begins a sentence
};
std::vector<TextPiece> split_text(std::string_view text);

// Running text, tokenised piece by piece.
class Corpus {
 public:
  struct Piece {
    std::string text;
    std::vector<std::int32_t> tokens;
    bool sentence = false;
  };

  // Throws Error when the texts hold no two sentences.
  Corpus(const Engine& engine, const std::vector<std::string>& texts);

  const std::vector<Piece>& pieces() const { return pieces_; }
  std::uint64_t tokens() const { return tokens_; }

 private:
  std::vector<Piece> pieces_;
  std::uint64_t tokens_ = 0;
};

// A half-open range.
struct Range {
  std::uint64_t begin = 0, end = 0;
  bool overlaps(std::uint64_t from, std::uint64_t to) const { return from < end && begin < to; }
};

struct Needle {
  std::string key;     // "ancient-dragon"
  std::string number;  // seven digits
  // Where the number stands in the text, in bytes and in tokens.
  Range bytes, tokens;

  // " One of the special magic numbers for ancient-dragon is: 6986384."
  std::string sentence() const;
};

// Needles of `keys` keys that differ, `values` of each key side by side, with numbers that differ.
std::vector<Needle> draw_needles(Random& random, std::size_t keys, std::size_t values = 1);

struct Haystack {
  std::string text;                  // what `tokens` stand for
  std::vector<std::int32_t> tokens;  // at most the length asked for, short by a word at most
  std::vector<Needle> needles;       // the first ones have the key that is asked for
  double depth = 0;                  // of the first needle, in tokens, 0..1
};

struct HaystackOptions {
  std::uint64_t length = 4096;  // tokens, needles included
  std::size_t needles = 1;      // keys; 0: text alone
  std::size_t values = 1;       // needles of each key
  // The first needle's depth is drawn from this range, the others' from the whole text.
  double depth_from = 0, depth_to = 1;
};

// Text from a random sentence on (from the corpus' beginning again when it ends), with the needles
// at sentence boundaries.
Haystack build_haystack(const Engine& engine, const Corpus& corpus, Random& random,
                        const HaystackOptions& options);

// A document as `text`, cut to about `bytes` at the end of a sentence, with needles at random
// sentence boundaries. Needles get byte ranges only.
std::string hide_needles(std::string_view text, std::size_t bytes, Random& random,
                         std::vector<Needle>& needles);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_HAYSTACK_H_
