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
#include "apps/eval/question_form.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

// Where the text is read: by the session that is asked, or into an archive that a fresh session
// asks, as `ask` does.
enum class Via { kSession, kArchive };

struct NeedleOptions {
  std::vector<std::uint64_t> lengths = {4096};
  std::vector<std::string> modes = {"stream"};  // in the order of the report
  std::size_t samples = 4;                      // per length and mode, the same prompts for all
  std::size_t keys = 1;                         // needles in a prompt; one is asked for
  std::size_t depths = 4;                       // equal parts of the text, taken in turn
  std::uint64_t seed = 1;
  Via via = Via::kSession;
  QuestionForm form;
  int answer_tokens = 16;
  SessionOptions session;  // `mode` and `seed` are set per run
  std::string work_dir;    // for archives
};

struct NeedleSample {
  std::string mode;
  std::uint64_t length = 0, index = 0, tokens = 0;
  std::size_t depth_part = 0;
  double depth = 0;
  std::string key, number, answer;
  bool hit = false;
  // Recallable: the number had left window and sinks when the question came, so that only the span
  // could bring it. Presence: how often a block of it was in the span (Passage::presence).
  bool recallable = false;
  double presence = 0;
  double read_seconds = 0, answer_seconds = 0;
};

// Returns false to stop. `done` and `total` count tokens read, over all samples.
using NeedleProgress =
    std::function<bool(const NeedleSample& at, std::uint64_t done, std::uint64_t total)>;

// The prompt of one sample: a pure function of the options' seed, the length and the index.
Haystack needle_prompt(const Engine& engine, const Corpus& corpus, const NeedleOptions& options,
                       std::uint64_t length, std::uint64_t index);

std::vector<NeedleSample> run_needle(const Engine& engine, const Corpus& corpus,
                                     const NeedleOptions& options, const NeedleProgress& progress);

// One mode at one length.
struct NeedleCell {
  std::string mode;
  std::uint64_t length = 0;
  int samples = 0, hits = 0, recallable = 0;
  double presence = 0;           // summed over recallable samples
  double tokens_per_second = 0;  // of reading
  std::vector<HeatCell> by_depth{};
};

std::vector<NeedleCell> needle_cells(const NeedleOptions& options,
                                     const std::vector<NeedleSample>& samples);
nlohmann::json needle_report(const NeedleOptions& options,
                             const std::vector<NeedleSample>& samples);
HeatMap needle_heat_map(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model);

// 4096: "4K", 131072: "128K", 1000: "1000"
std::string length_name(std::uint64_t length);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_NEEDLE_H_
