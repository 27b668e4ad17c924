// The thirteen tasks of RULER (Hsieh et al., "RULER: What's the Real Context Size of Your
// Long-Context Language Models?", 2024, arXiv 2404.06654) and how their answers are scored.
#ifndef EIDETIC_APPS_EVAL_RULER_TASK_H_
#define EIDETIC_APPS_EVAL_RULER_TASK_H_

#include <string>
#include <string_view>
#include <vector>

namespace eidetic::eval {

enum class RulerKind { kNeedle, kVariables, kCommonWords, kFrequentWords, kQuestion };
enum class RulerHaystack { kNoise, kText, kNeedles };

struct RulerTask {
  std::string name;  // RULER's: "niah_single_1"
  RulerKind kind = RulerKind::kNeedle;
  int answer_tokens = 128;  // generated; the prompt leaves room for them
  // Of kNeedle: what surrounds the needles, and how many are hidden and asked for.
  RulerHaystack haystack = RulerHaystack::kNoise;
  bool uuid_keys = false, uuid_values = false;  // else words, and numbers of seven digits
  int keys = 1, values = 1, queries = 1;
  // Of kQuestion: documents have titles, and those that resemble the question come first.
  bool hard_documents = false;

  // RULER-11 is the mean over all tasks but the two of kQuestion.
  bool in_ruler_11() const { return kind != RulerKind::kQuestion; }
};

// In RULER's order.
const std::vector<RulerTask>& ruler_tasks();
// The names of `list`, in which "all" stands for the thirteen and "ruler-11" for those of the mean.
// In RULER's order, none twice. Throws Error when a name is no task.
std::vector<RulerTask> ruler_tasks_of(const std::vector<std::string>& list);

// What is scored of an answer: without white space at its ends, control characters as line ends.
std::string ruler_answer(std::string_view generated);
// The share of the references that stand in the answer; the case of ASCII letters does not count.
// 0..1; there is at least one reference.
double string_match_all(std::string_view answer, const std::vector<std::string>& references);
// 1 when one of them does, else 0.
double string_match_part(std::string_view answer, const std::vector<std::string>& references);
// The task's own of the two: part for kQuestion, all for the others.
double ruler_score(const RulerTask& task, std::string_view answer,
                   const std::vector<std::string>& references);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RULER_TASK_H_
