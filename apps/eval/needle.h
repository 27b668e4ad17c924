// The needle evaluation: hide a number in running text, ask for it, see whether it comes back and
// whether its block was in the span.
#ifndef EIDETIC_APPS_EVAL_NEEDLE_H_
#define EIDETIC_APPS_EVAL_NEEDLE_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/haystack.h"
#include "apps/eval/heat_map.h"
#include "apps/eval/prompt_options.h"
#include "apps/eval/question_form.h"
#include "apps/eval/reading_mode.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

// Where the text is read: by the session that is asked, or into an archive that a fresh session
// asks, as `ask` does.
enum class Via { kSession, kArchive };

struct NeedleOptions : PromptOptions {
  std::size_t keys = 1;    // in a prompt; one is asked for
  std::size_t values = 1;  // needles of each key; all are asked for
  std::size_t depths = 4;  // equal parts of the text, taken in turn
  Via via = Via::kSession;
  QuestionForm form;
  int answer_tokens = 16;
  SequenceOptions sequence;
  std::string work_dir;  // for archives
};

struct NeedleSample {
  std::string mode;
  std::uint64_t length = 0, index = 0, tokens = 0;
  std::size_t depth_part = 0;
  double depth = 0;
  std::string key, answer;
  std::vector<std::string> numbers;  // that are asked for
  std::size_t found = 0;             // of these in the answer
  bool hit = false;                  // all of them
  bool fits = true;                  // false: there was not enough memory for the mode
  // Recallable: the number had left window and sinks when the question came, so that only the span
  // could bring it. Presence: how often a block of it was in the span (Passage::presence).
  bool recallable = false;
  double presence = 0;
  double read_seconds = 0, answer_seconds = 0;
};

nlohmann::json to_json(const NeedleSample& sample);
NeedleSample needle_sample_from_json(const nlohmann::json& json);  // throws json::exception

struct NeedleCalls {
  // Returns false to stop. `done` and `total` count tokens read, over all samples.
  std::function<bool(const NeedleSample& at, std::uint64_t done, std::uint64_t total)> progress;
  // A sample that is known already is not asked for; null when it is not.
  std::function<const NeedleSample*(const std::string& mode, std::uint64_t length,
                                    std::uint64_t index)>
      known;
  std::function<void(const NeedleSample&)> done;
};

// The prompt of one sample: a pure function of the options' seed, the length and the index.
Haystack needle_prompt(const Engine& engine, const Corpus& corpus, const NeedleOptions& options,
                       std::uint64_t length, std::uint64_t index);

// In a mode that reads a sequence the right answer is fed: a hit is one whose every token was the
// likeliest, given those before. Such a mode, and full, may not have the memory that a length
// needs: that sample does not fit.
std::vector<NeedleSample> run_needle(const Engine& engine, const Corpus& corpus,
                                     const NeedleOptions& options, const NeedleCalls& calls);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_NEEDLE_H_
