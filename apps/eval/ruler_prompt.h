// The prompts of RULER's tasks, as long as asked for. The templates' wording is RULER's
// (github.com/NVIDIA/RULER, Apache-2.0): it is part of what is measured.
#ifndef EIDETIC_APPS_EVAL_RULER_PROMPT_H_
#define EIDETIC_APPS_EVAL_RULER_PROMPT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/eval/haystack.h"
#include "apps/eval/ruler_task.h"
#include "apps/eval/ruler_texts.h"

namespace eidetic::eval {

struct RulerPrompt {
  std::string text;      // an example where the task has one, the instruction and what it is about
  std::string question;  // and the beginning of its answer; follows the text
  std::size_t answer_begin = 0;      // where that begins in `question`
  std::vector<std::string> answers;  // the references
  // Where the first answer stands in the text, 0..1; of needles only.
  std::optional<double> depth;
  std::size_t tokens = 0;  // of text and question, with a chat template's

  void ask(const std::string& asked, const std::string& answer) {
    question = asked + answer;
    answer_begin = asked.size();
  }
  // For a turn of the user's and one of the assistant's, which begins without a space.
  std::string_view asked() const { return std::string_view(question).substr(0, answer_begin); }
  std::string_view answer_lead() const {
    const std::string_view lead = std::string_view(question).substr(answer_begin);
    return lead.substr(std::min(lead.find_first_not_of(' '), lead.size()));
  }
};

// Tokens of a text. A prompt's are those of its text and of its question, counted one by one.
using CountTokens = std::function<std::size_t(std::string_view)>;

// The prompt of one sample: a pure function of its arguments. Text, question and the task's
// answer_tokens together take at most `length` tokens, and less than that by at most .2 % or what
// the smallest part of the haystack takes: a word; of niah_single_1 and vt a line of noise, of
// niah_multikey_2 and 3 a needle. `turn_tokens`: those of a chat template around the prompt and
// before the answer, which are tokens of it too; 0: none, and the answer's beginning follows the
// question. Throws Error when the length holds no such prompt.
RulerPrompt ruler_prompt(const RulerTask& task, const RulerTexts& texts, const CountTokens& count,
                         std::uint64_t seed, std::uint64_t length, std::uint64_t index,
                         std::size_t turn_tokens = 0);

// The most units, at least `least`, of which `tokens_of` says that they fit into `budget`; stops
// looking when less than .2 % of it is left. `tokens_of` grows with the units, but for a few
// tokens. 0 when not even `least` fit.
std::size_t most_that_fit(std::size_t least, std::size_t budget,
                          const std::function<std::size_t(std::size_t)>& tokens_of);

// `count` different numbers below `bound`, in random order. count <= bound.
std::vector<std::size_t> draw_different(Random& random, std::size_t bound, std::size_t count);

template <typename T>
void shuffle(Random& random, std::vector<T>& items) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

// The five kinds: the prompt of that many units of haystack, without its tokens. `random` says
// what is drawn, so that the same one makes prompts of one sample.
struct RulerDraw {
  const RulerTask& task;
  const RulerTexts& texts;
  std::uint64_t seed = 0, length = 0, index = 0;
  Random random;
};
RulerPrompt needle_prompt_of(RulerDraw draw, std::size_t units);
RulerPrompt variables_prompt_of(RulerDraw draw, const CountTokens& count, std::size_t units);
RulerPrompt common_words_prompt_of(RulerDraw draw, std::size_t units);
RulerPrompt frequent_words_prompt_of(RulerDraw draw, std::size_t units);
RulerPrompt question_prompt_of(RulerDraw draw, std::size_t units);

// What a line of the haystack "noise" says.
inline constexpr std::string_view kRulerNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

std::string joined(const std::vector<std::string>& parts, std::string_view between);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RULER_PROMPT_H_
