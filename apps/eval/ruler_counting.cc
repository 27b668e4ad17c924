// RULER's aggregation: which words stand most often in a list (common words), and in a coded text
// whose words' frequencies fall by Zipf's law (frequent words).
#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "apps/eval/ruler_prompt.h"
#include "apps/eval/ruler_words.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

constexpr std::size_t kAsked = 10;  // most common words
// Below this many tokens the words stand less often.
constexpr std::uint64_t kShortList = 4096;

struct Repeats {
  std::size_t common, other;
};

// `count` different words: common ones while they suffice, those of the text beside them, and for
// lists that are longer still, pairs.
std::vector<std::string> draw_words(const RulerTexts& texts, Random& random, std::size_t count) {
  std::vector<std::string> words = ruler_common_words();
  const auto unite = [&](const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
  };
  if (count > words.size()) unite(texts.vocabulary);
  if (count > words.size()) {
    std::vector<std::string> pairs;
    for (const std::string& adjective : ruler_adjectives()) {
      for (const std::string& noun : ruler_nouns()) pairs.push_back(adjective + "-" + noun);
    }
    unite(pairs);
  }
  if (count > words.size()) {
    throw Error(EID_INVALID_ARGUMENT,
                "the words for cwe do not suffice for a list of " + std::to_string(count),
                "ask for a smaller length");
  }
  std::vector<std::string> drawn;
  for (const std::size_t i : draw_different(random, words.size(), count)) {
    drawn.push_back(words[i]);
  }
  return drawn;
}

std::string numbered(const std::vector<std::string>& words) {
  std::string list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    list += (i > 0 ? " " : "") + std::to_string(i + 1) + ". " + words[i];
  }
  return list;
}

struct WordList {
  std::string text, question, answer;  // the answer's beginning
  std::vector<std::string> common;
};

WordList draw_list(const RulerTexts& texts, Random& random, std::size_t count, Repeats repeats) {
  WordList result;
  const std::uint64_t order = random.next();
  const std::vector<std::string> words = draw_words(texts, random, count);
  result.common.assign(words.begin(), words.begin() + kAsked);
  std::vector<std::string> list;
  for (std::size_t w = 0; w < words.size(); ++w) {
    list.insert(list.end(), w < kAsked ? repeats.common : repeats.other, words[w]);
  }
  Random shuffled(order);
  shuffle(shuffled, list);
  result.text =
      "Below is a numbered list of words. In these words, some appear more often than others. "
      "Memorize the ones that appear most often.\n" +
      numbered(list);
  result.question = "\nQuestion: What are the 10 most common words in the above list?";
  result.answer = " Answer: The top 10 words that appear most often in the list are:";
  return result;
}

}  // namespace

RulerPrompt common_words_prompt_of(RulerDraw draw, std::size_t units) {
  const bool is_short = draw.length < kShortList;
  Random example_random(draw.random.next());
  const WordList example = draw_list(draw.texts, example_random, is_short ? 20 : 40,
                                     is_short ? Repeats{3, 1} : Repeats{10, 3});
  const WordList list =
      draw_list(draw.texts, draw.random, units, is_short ? Repeats{6, 1} : Repeats{30, 3});
  RulerPrompt prompt;
  prompt.text = example.text + example.question + example.answer + " " + numbered(example.common) +
                "\n" + list.text;
  prompt.ask(list.question, list.answer);
  prompt.answers = list.common;
  return prompt;
}

RulerPrompt frequent_words_prompt_of(RulerDraw draw, std::size_t units) {
  constexpr std::size_t kLetters = 6, kFrequentAsked = 3;
  constexpr double kZetaOfTwo = std::numbers::pi * std::numbers::pi / 6;
  const auto room = draw.length - static_cast<std::uint64_t>(draw.task.answer_tokens);
  const auto size = std::max<std::size_t>(static_cast<std::size_t>(room / 50), kFrequentAsked + 2);
  const std::uint64_t order = draw.random.next();
  std::set<std::string> taken;
  std::vector<std::string> vocabulary = {"..."};  // the most frequent one is noise
  while (vocabulary.size() < size) {
    std::string word;
    for (std::size_t i = 0; i < kLetters; ++i) {
      word += static_cast<char>('a' + draw.random.below(26));
    }
    if (taken.insert(word).second) vocabulary.push_back(word);
  }
  std::vector<std::string> text;
  for (std::size_t rank = 1; rank <= vocabulary.size(); ++rank) {
    const auto times = static_cast<std::size_t>(static_cast<double>(units) /
                                                static_cast<double>(rank * rank) / kZetaOfTwo);
    text.insert(text.end(), times, vocabulary[rank - 1]);
  }
  Random shuffled(order);
  shuffle(shuffled, text);
  RulerPrompt prompt;
  prompt.text =
      "Read the following coded text and track the frequency of each coded word. Find the three "
      "most frequently appeared coded words. " +
      joined(text, " ");
  prompt.ask(
      "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
      "three most frequently appeared words in the above coded text?",
      " Answer: According to the coded text above, the three most frequently appeared words are:");
  prompt.answers.assign(vocabulary.begin() + 1, vocabulary.begin() + 1 + kFrequentAsked);
  return prompt;
}

}  // namespace eidetic::eval
