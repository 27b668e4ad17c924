// RULER's variable tracking: a chain of assignments in noise, after an example of the same.
#include <algorithm>
#include <set>

#include "apps/eval/ruler_prompt.h"

namespace eidetic::eval {
namespace {

constexpr std::size_t kVariables = 5;  // one that gets the value, and four hops
constexpr std::size_t kVariableLetters = 5, kExampleLetters = 3;
constexpr std::size_t kExampleTokens = 500;

struct Chain {
  std::string text, question, answer;  // the answer's beginning
  std::vector<std::string> variables;
};

Chain draw_chain(Random& random, std::size_t letters, std::size_t noise) {
  Chain chain;
  std::set<std::string> taken;
  while (chain.variables.size() < kVariables) {
    std::string name;
    for (std::size_t i = 0; i < letters; ++i) name += static_cast<char>('A' + random.below(26));
    if (taken.insert(name).second) chain.variables.push_back(name);
  }
  const std::string value = std::to_string(10000 + random.below(90000));
  std::vector<std::size_t> places = draw_different(random, noise, kVariables);
  std::sort(places.begin(), places.end());
  std::vector<std::string> lines(noise, std::string(kRulerNoise));
  for (std::size_t v = 0; v < kVariables; ++v) {
    const std::string line =
        "VAR " + chain.variables[v] + " = " +
        (v == 0 ? value : "VAR " + chain.variables[v - 1] + " ");  // ends with a space there too
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(places[v] + v), line);
  }
  chain.text =
      "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n" +
      joined(lines, "\n");
  chain.question =
      "\nQuestion: Find all variables that are assigned the value " + value + " in the text above.";
  chain.answer = " Answer: According to the chain(s) of variable assignment in the text above, " +
                 std::to_string(kVariables) + " variables are assigned the value " + value +
                 ", they are: ";
  return chain;
}

}  // namespace

RulerPrompt variables_prompt_of(RulerDraw draw, const CountTokens& count, std::size_t units) {
  const std::uint64_t example_seed = draw.random.next();
  const auto example_of = [&](std::size_t noise) {
    Random random(example_seed);
    const Chain chain = draw_chain(random, kExampleLetters, noise);
    return chain.text + chain.question + chain.answer + " " + joined(chain.variables, " ") + "\n";
  };
  // Of a short prompt it is a quarter at most, but for its five lines.
  const std::size_t budget =
      std::min<std::size_t>(kExampleTokens, static_cast<std::size_t>(draw.length / 4));
  const std::size_t noise = most_that_fit(
      kVariables, budget, [&](std::size_t lines) { return count(example_of(lines)); });
  const Chain chain = draw_chain(draw.random, kVariableLetters, units);
  RulerPrompt prompt;
  prompt.text = example_of(std::max(noise, kVariables)) + "\n" + chain.text;
  prompt.ask(chain.question, chain.answer);
  prompt.answers = chain.variables;
  return prompt;
}

}  // namespace eidetic::eval
