#include "apps/eval/ruler_task.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

constexpr const char* kAllTasks = "all";
constexpr const char* kMeanTasks = "ruler-11";

RulerTask needle_task(const char* name, RulerHaystack haystack, int keys, int values, int queries) {
  RulerTask task;
  task.name = name;
  task.haystack = haystack;
  task.keys = keys;
  task.values = values;
  task.queries = queries;
  return task;
}

RulerTask other_task(const char* name, RulerKind kind, int answer_tokens) {
  RulerTask task;
  task.name = name;
  task.kind = kind;
  task.answer_tokens = answer_tokens;
  return task;
}

std::vector<RulerTask> all_tasks() {
  using enum RulerHaystack;
  std::vector<RulerTask> tasks = {
      needle_task("niah_single_1", kNoise, 1, 1, 1),
      needle_task("niah_single_2", kText, 1, 1, 1),
      needle_task("niah_single_3", kText, 1, 1, 1),
      needle_task("niah_multikey_1", kText, 4, 1, 1),
      needle_task("niah_multikey_2", kNeedles, 1, 1, 1),
      needle_task("niah_multikey_3", kNeedles, 1, 1, 1),
      needle_task("niah_multivalue", kText, 1, 4, 1),
      needle_task("niah_multiquery", kText, 4, 1, 4),
      other_task("vt", RulerKind::kVariables, 30),
      other_task("cwe", RulerKind::kCommonWords, 120),
      other_task("fwe", RulerKind::kFrequentWords, 50),
      other_task("qa_1", RulerKind::kQuestion, 32),
      other_task("qa_2", RulerKind::kQuestion, 32),
  };
  tasks[2].uuid_values = true;
  tasks[5].uuid_keys = tasks[5].uuid_values = true;
  tasks[12].hard_documents = true;
  return tasks;
}

char small(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool holds(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end(),
                     [](char a, char b) { return small(a) == small(b); }) != text.end();
}

}  // namespace

const std::vector<RulerTask>& ruler_tasks() {
  static const std::vector<RulerTask> tasks = all_tasks();
  return tasks;
}

std::vector<RulerTask> ruler_tasks_of(const std::vector<std::string>& list) {
  std::set<std::string> wanted;
  for (const std::string& name : list) {
    bool known = false;
    for (const RulerTask& task : ruler_tasks()) {
      if (name != kAllTasks && name != task.name && !(name == kMeanTasks && task.in_ruler_11())) {
        continue;
      }
      wanted.insert(task.name);
      known = true;
    }
    if (known) continue;
    std::string names = std::string(kAllTasks) + ", " + kMeanTasks;
    for (const RulerTask& task : ruler_tasks()) names += ", " + task.name;
    throw Error(EID_INVALID_ARGUMENT, "RULER has no task '" + name + "'", "choose of " + names);
  }
  std::vector<RulerTask> tasks;
  for (const RulerTask& task : ruler_tasks()) {
    if (wanted.contains(task.name)) tasks.push_back(task);
  }
  return tasks;
}

std::string ruler_answer(std::string_view generated) {
  const auto blank = [](char c) { return static_cast<unsigned char>(c) <= ' '; };
  while (!generated.empty() && blank(generated.front())) generated.remove_prefix(1);
  while (!generated.empty() && blank(generated.back())) generated.remove_suffix(1);
  std::string answer(generated);
  std::replace_if(
      answer.begin(), answer.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; },
      '\n');
  return answer;
}

double string_match_all(std::string_view answer, const std::vector<std::string>& references) {
  const auto found =
      std::count_if(references.begin(), references.end(),
                    [&](const std::string& reference) { return holds(answer, reference); });
  return static_cast<double>(found) / static_cast<double>(references.size());
}

double string_match_part(std::string_view answer, const std::vector<std::string>& references) {
  return string_match_all(answer, references) > 0 ? 1 : 0;
}

double ruler_score(const RulerTask& task, std::string_view answer,
                   const std::vector<std::string>& references) {
  return task.kind == RulerKind::kQuestion ? string_match_part(answer, references)
                                           : string_match_all(answer, references);
}

}  // namespace eidetic::eval
