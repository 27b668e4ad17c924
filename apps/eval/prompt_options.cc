#include "apps/eval/prompt_options.h"

namespace eidetic::eval {

std::vector<std::string> PromptOptions::modes_within(std::uint64_t length) const {
  std::vector<std::string> within;
  for (const std::string& mode : modes) {
    const auto limit = limits.find(mode);
    if (limit == limits.end() || length <= limit->second) within.push_back(mode);
  }
  return within;
}

nlohmann::json PromptOptions::parameters() const {
  return {{"lengths", lengths},
          {"modes", modes},
          {"limits", limits},
          {"samples", samples},
          {"first_sample", first_sample},
          {"seed", seed},
          {"window", session.window},
          {"sinks", session.sinks},
          {"segment", session.segment},
          {"span_blocks", session.span_blocks},
          {"candidates", session.candidate_blocks},
          {"successors", session.successor_blocks},
          {"linger", session.linger},
          {"query_offset", session.query_offset},
          {"layer_group", session.layer_group},
          {"span_layers", session.span_layers},
          {"codec", session.codec}};
}

}  // namespace eidetic::eval
