#include "apps/eval/ruler_prompt.h"

#include <algorithm>
#include <numeric>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

// Variables of a chain, of which each gets a line of its own.
constexpr std::size_t kLeastNoiseOfVariables = 5;
constexpr std::size_t kCommonWordsAsked = 10;

// A number that tells samples apart: FNV-1a.
std::uint64_t sample_seed(const RulerTask& task, std::uint64_t seed, std::uint64_t length,
                          std::uint64_t index) {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  const auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001B3ull; };
  for (const char c : task.name) mix(static_cast<unsigned char>(c));
  for (const std::uint64_t value : {seed, length, index}) mix(value);
  return hash;
}

// Units of haystack without which a task makes no sense.
std::size_t least_units(const RulerTask& task) {
  switch (task.kind) {
    case RulerKind::kNeedle:
      return static_cast<std::size_t>(std::max(task.keys, task.values));
    case RulerKind::kVariables:
      return kLeastNoiseOfVariables;
    case RulerKind::kCommonWords:
      return kCommonWordsAsked + 1;
    case RulerKind::kFrequentWords:
      return 64;  // the fourth of them appears twice, the fifth once
    case RulerKind::kQuestion:
      return 1;
  }
  return 1;
}

}  // namespace

std::size_t most_that_fit(std::size_t least, std::size_t budget,
                          const std::function<std::size_t(std::size_t)>& tokens_of) {
  const std::size_t least_tokens = tokens_of(least);
  if (least_tokens > budget) return 0;
  const std::size_t enough = budget - budget / 500;
  std::size_t fits = least, fits_tokens = least_tokens;
  std::size_t above = 0, above_tokens = 0;  // the fewest known not to fit; 0: none is
  for (int round = 0; fits_tokens < enough && (above == 0 || fits + 1 < above); ++round) {
    // What lies on the line through what is known; halves, now and then, in case it is no line.
    std::size_t next = 2 * fits + 1;
    if (above != 0) {
      next = fits + (above - fits) / 2;
      if (round % 3 != 2 && above_tokens > fits_tokens) {
        next = fits + (above - fits) * (budget - fits_tokens) / (above_tokens - fits_tokens);
      }
      next = std::clamp(next, fits + 1, above - 1);
    } else if (fits > least && fits_tokens > least_tokens) {
      next = fits + 1 + (fits - least) * (budget - fits_tokens) / (fits_tokens - least_tokens);
    }
    const std::size_t tokens = tokens_of(next);
    if (tokens <= budget) {
      fits = next;
      fits_tokens = tokens;
    } else {
      above = next;
      above_tokens = tokens;
    }
  }
  return fits;
}

std::vector<std::size_t> draw_different(Random& random, std::size_t bound, std::size_t count) {
  std::vector<std::size_t> numbers(bound);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(numbers[i], numbers[i + random.below(bound - i)]);
  }
  numbers.resize(count);
  return numbers;
}

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string result;
  for (const std::string& part : parts) {
    if (&part != &parts.front()) result += between;
    result += part;
  }
  return result;
}

RulerPrompt ruler_prompt(const RulerTask& task, const RulerTexts& texts, const CountTokens& count,
                         std::uint64_t seed, std::uint64_t length, std::uint64_t index,
                         std::size_t turn_tokens) {
  if (task.kind == RulerKind::kQuestion && texts.questions.questions().empty()) {
    throw Error(EID_INVALID_ARGUMENT, "the task " + task.name + " has no questions to ask",
                "name a question file with --questions, or leave the task out of --tasks");
  }
  const RulerDraw draw{task,   texts, seed,
                       length, index, Random(sample_seed(task, seed, length, index))};
  const auto prompt_of = [&](std::size_t units) {
    RulerPrompt prompt;
    switch (task.kind) {
      case RulerKind::kNeedle:
        prompt = needle_prompt_of(draw, units);
        break;
      case RulerKind::kVariables:
        prompt = variables_prompt_of(draw, count, units);
        break;
      case RulerKind::kCommonWords:
        prompt = common_words_prompt_of(draw, units);
        break;
      case RulerKind::kFrequentWords:
        prompt = frequent_words_prompt_of(draw, units);
        break;
      case RulerKind::kQuestion:
        prompt = question_prompt_of(draw, units);
        break;
    }
    prompt.tokens = count(prompt.text) + turn_tokens;
    prompt.tokens += turn_tokens == 0 ? count(prompt.question)
                                      : count(prompt.asked()) + count(prompt.answer_lead());
    return prompt;
  };
  const auto answer = static_cast<std::uint64_t>(task.answer_tokens);
  RulerPrompt best;
  std::size_t best_units = 0;
  const std::size_t units =
      length <= answer ? 0 : most_that_fit(least_units(task), length - answer, [&](std::size_t n) {
        RulerPrompt prompt = prompt_of(n);
        const std::size_t tokens = prompt.tokens;
        if (tokens <= length - answer && n >= best_units) {
          best_units = n;
          best = std::move(prompt);
        }
        return tokens;
      });
  if (units == 0) {
    throw Error(EID_INVALID_ARGUMENT,
                "a length of " + std::to_string(length) + " tokens holds no prompt of " +
                    task.name + " and the " + std::to_string(answer) + " tokens of its answer",
                "ask for a greater length, or leave the task out of --tasks");
  }
  return best;
}

}  // namespace eidetic::eval
