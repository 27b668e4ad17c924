// What evaluations have in common that ask prompts of several lengths in several modes.
#ifndef EIDETIC_APPS_EVAL_PROMPT_OPTIONS_H_
#define EIDETIC_APPS_EVAL_PROMPT_OPTIONS_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct PromptOptions {
  std::vector<std::uint64_t> lengths = {4096};
  std::vector<std::string> modes = {"stream"};  // in the order of the report
  std::size_t samples = 4;                      // per length (and task), the same for every mode
  std::size_t first_sample = 0;                 // the number of the first one
  std::uint64_t seed = 1;
  bool only_known = false;  // measure nothing
  // Greatest length by mode; what is longer is not measured.
  std::map<std::string, std::uint64_t> limits;
  SessionOptions session;  // `mode` and `seed` are set per run

  std::vector<std::string> modes_within(std::uint64_t length) const;
  // Of a report.
  nlohmann::json parameters() const;
};

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_PROMPT_OPTIONS_H_
