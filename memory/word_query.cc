#include "memory/word_query.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace eidetic::memory {
namespace {

constexpr size_t kMostWords = 64;
// Longer than any word; what is longer is cut there.
constexpr size_t kMostWordBytes = 64;

// Sorted. Single letters are what an apostrophe leaves of "it's" and "don't".
constexpr std::string_view kStopWords[] = {
    "a",      "about",   "after", "again",   "all",    "also",    "am",      "an",         "and",
    "any",    "are",     "as",    "at",      "b",      "be",      "because", "been",       "before",
    "being",  "between", "both",  "but",     "by",     "c",       "can",     "could",      "d",
    "did",    "do",      "does",  "doing",   "down",   "during",  "e",       "each",       "f",
    "few",    "for",     "from",  "further", "g",      "h",       "had",     "has",        "have",
    "having", "he",      "her",   "here",    "hers",   "herself", "him",     "himself",    "his",
    "how",    "i",       "if",    "in",      "into",   "is",      "it",      "its",        "itself",
    "j",      "just",    "k",     "l",       "ll",     "m",       "may",     "me",         "might",
    "more",   "most",    "must",  "my",      "myself", "n",       "no",      "nor",        "not",
    "now",    "o",       "of",    "off",     "on",     "once",    "only",    "or",         "other",
    "ought",  "our",     "ours",  "out",     "over",   "own",     "p",       "q",          "r",
    "re",     "s",       "same",  "shall",   "she",    "should",  "so",      "some",       "such",
    "t",      "than",    "that",  "the",     "their",  "theirs",  "them",    "themselves", "then",
    "there",  "these",   "they",  "this",    "those",  "through", "to",      "too",        "u",
    "under",  "until",   "up",    "us",      "v",      "ve",      "very",    "w",          "was",
    "we",     "were",    "what",  "when",    "where",  "which",   "while",   "who",        "whom",
    "whose",  "why",     "will",  "with",    "would",  "x",       "y",       "you",        "your",
    "yours",  "z"};
static_assert(std::is_sorted(std::begin(kStopWords), std::end(kStopWords)));

bool IsStopWord(const std::string& word) {
  return std::binary_search(std::begin(kStopWords), std::end(kStopWords), word);
}

// Bytes of the character at the front of `text`, at least 1: a byte that is no UTF-8 stands alone.
size_t CharacterBytes(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t bytes = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  for (size_t i = 1; i < bytes; ++i) {
    if (i >= text.size() || (static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) return 1;
  }
  return bytes;
}

// ASCII letters and digits, and beyond ASCII whatever is not in U+0080..U+00BF (signs of Latin-1)
// or U+2000..U+206F, U+3000..U+303F (punctuation and spaces). What slips through is for FTS5's
// tokenizer, which knows all of Unicode, to leave out.
bool BelongsToWord(std::string_view character) {
  const auto lead = static_cast<uint8_t>(character[0]);
  if (character.size() == 1) {
    return (lead >= '0' && lead <= '9') || (lead >= 'a' && lead <= 'z') ||
           (lead >= 'A' && lead <= 'Z');
  }
  const auto second = static_cast<uint8_t>(character[1]);
  if (lead == 0xc2) return false;
  if (lead == 0xe2) return second > 0x81;
  return !(lead == 0xe3 && second == 0x80);
}

std::vector<std::string> WordsOf(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  auto end_word = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  while (!text.empty()) {
    const std::string_view character = text.substr(0, CharacterBytes(text));
    text.remove_prefix(character.size());
    if (!BelongsToWord(character)) {
      end_word();
    } else if (word.size() + character.size() <= kMostWordBytes) {
      word += character;
      if (character.size() == 1 && word.back() >= 'A' && word.back() <= 'Z') word.back() += 32;
    }
  }
  end_word();
  return words;
}

}  // namespace

std::vector<std::string> QueryWords(std::string_view text) {
  std::vector<std::string> words = WordsOf(text);
  if (!std::all_of(words.begin(), words.end(), IsStopWord)) std::erase_if(words, IsStopWord);
  std::vector<std::string> kept;  // last word first
  for (auto word = words.rbegin(); word != words.rend() && kept.size() < kMostWords; ++word) {
    if (std::find(kept.begin(), kept.end(), *word) == kept.end()) kept.push_back(*word);
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

std::string QuotedWord(const std::string& word) {
  return '"' + word + '"';
}

}  // namespace eidetic::memory
