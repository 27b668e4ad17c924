// Questions on documents, in the form of RULER's qa_1 (SQuAD there) and qa_2 (HotpotQA there). The
// data sets are not ours to ship: questions on books stand in for them.
#include <algorithm>

#include "apps/eval/ruler_prompt.h"

namespace eidetic::eval {
namespace {

// HotpotQA's questions come with ten documents that resemble each other.
constexpr std::size_t kHardDocuments = 9;
// A document that would be cut to fewer words is left out.
constexpr std::size_t kFewestWords = 8;

// Documents that do not answer, in the order in which they join the prompt. For qa_1: of the same
// book, then of the others; for qa_2: those that resemble the question, then of all books.
std::vector<std::size_t> distractors(const RulerDraw& draw, const RulerQuestion& question,
                                     Random& random) {
  const RulerQuestions& all = draw.texts.questions;
  const auto answers = [&](std::size_t d) {
    return std::binary_search(question.overlaps.begin(), question.overlaps.end(), d);
  };
  std::vector<std::size_t> order;
  if (draw.task.hard_documents) {
    order = all.alike(question, kHardDocuments + question.overlaps.size());
    std::erase_if(order, answers);
    order.resize(std::min(order.size(), kHardDocuments));
  }
  const std::size_t first = order.size();
  for (const std::size_t d :
       draw_different(random, all.documents().size(), all.documents().size())) {
    const bool is_taken =
        std::find(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(first), d) !=
        order.begin() + static_cast<std::ptrdiff_t>(first);
    if (!answers(d) && !is_taken) order.push_back(d);
  }
  if (!draw.task.hard_documents) {
    std::stable_partition(order.begin(), order.end(), [&](std::size_t d) {
      return all.documents()[d].book == question.document.book;
    });
  }
  return order;
}

// The first `words` words, and how many there were.
std::size_t cut_to_words(std::string& text, std::size_t words) {
  std::size_t count = 1;
  for (std::size_t at = 0; (at = text.find(' ', at)) != std::string::npos; ++at, ++count) {
    if (count == words) {
      text.resize(at);
      return words;
    }
  }
  return count;
}

}  // namespace

RulerPrompt question_prompt_of(RulerDraw draw, std::size_t units) {
  const RulerQuestions& all = draw.texts.questions;
  // All questions are asked in an order of the seed's before one is asked again.
  Random order(2 * draw.seed + (draw.task.hard_documents ? 1 : 0));
  const std::size_t size = all.questions().size();
  const RulerQuestion& question =
      all.questions()[draw_different(order, size, size)[draw.index % size]];
  const auto written = [&](const RulerDocument& document, const std::string& text) {
    return draw.task.hard_documents ? all.title(document) + "\n" + text : text;
  };
  std::vector<std::string> documents = {written(question.document, question.document.text)};
  Random places(draw.random.next());
  const std::vector<std::size_t> others = distractors(draw, question, draw.random);
  // Units are words of documents that do not answer; the first one is none.
  std::size_t words = units - 1;
  for (std::size_t i = 0; words >= kFewestWords && !others.empty(); ++i) {
    const RulerDocument& other = all.documents()[others[i % others.size()]];
    std::string text = other.text;
    words -= cut_to_words(text, words);
    documents.push_back(written(other, text));
  }
  shuffle(places, documents);
  const std::string request =
      "Answer the question based on the given documents. Only give me the answer and do not output "
      "any other words.\n\n";
  RulerPrompt prompt;
  prompt.text = request + "The following are given documents.";
  for (std::size_t i = 0; i < documents.size(); ++i) {
    prompt.text += "\n\nDocument " + std::to_string(i + 1) + ":\n" + documents[i];
  }
  prompt.ask("\n\n" + request + "Question: " + question.question, " Answer:");
  prompt.answers = question.answers;
  return prompt;
}

}  // namespace eidetic::eval
