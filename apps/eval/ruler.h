// RULER: thirteen synthetic tasks on long prompts, by a session that reads them in several ways.
#ifndef EIDETIC_APPS_EVAL_RULER_H_
#define EIDETIC_APPS_EVAL_RULER_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/eval/prompt_options.h"
#include "apps/eval/ruler_prompt.h"
#include "apps/eval/ruler_task.h"
#include "apps/eval/ruler_texts.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

// Modes are those that read by a session.
struct RulerOptions : PromptOptions {
  RulerOptions() { samples = 10; }

  std::vector<RulerTask> tasks;
  // The prompt is a user's turn by the model's chat template, and the answer's beginning stands in
  // the assistant's.
  bool chat = false;
};

struct RulerSample {
  std::string mode, task;
  std::uint64_t length = 0, index = 0;
  std::uint64_t tokens = 0;  // of the prompt
  std::optional<double> depth;
  std::vector<std::string> references;
  std::string answer;
  double score = 0;  // 0..1
  bool fits = true;  // false: there was not enough memory for the mode
  double read_seconds = 0, answer_seconds = 0;
};

nlohmann::json to_json(const RulerSample& sample);
RulerSample ruler_sample_from_json(const nlohmann::json& json);  // throws json::exception

struct RulerCalls {
  // Returns false to stop. `done` and `total` count tokens read, over all samples.
  std::function<bool(const RulerSample& at, std::uint64_t done, std::uint64_t total)> progress;
  // A sample that is known already is not asked for; null when it is not.
  std::function<const RulerSample*(const std::string& mode, const std::string& task,
                                   std::uint64_t length, std::uint64_t index)>
      known;
  std::function<void(const RulerSample&)> done;
};

// Sample by sample all tasks, each in every mode, so that a run that was stopped has something of
// each. Throws Error when it is to chat and the model has no chat template. Texts are read with the
// span off, questions with the span on; answers are greedy, of as many tokens as RULER generates,
// or as it takes to hold every reference. A mode whose memory does not suffice has a sample that
// does not fit.
std::vector<RulerSample> run_ruler(const Engine& engine, const RulerTexts& texts,
                                   const RulerOptions& options, const RulerCalls& calls);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RULER_H_
