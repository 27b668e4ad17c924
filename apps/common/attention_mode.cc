#include "apps/common/attention_mode.h"

namespace eidetic::apps {
namespace {

constexpr struct {
  const char* name;
  eid_attention_mode mode;
} kModes[] = {{"stream", EID_ATTENTION_STREAM},
              {"window", EID_ATTENTION_WINDOW},
              {"full", EID_ATTENTION_FULL},
              {"random", EID_ATTENTION_RANDOM}};

}  // namespace

std::vector<std::string> attention_mode_names() {
  std::vector<std::string> names;
  for (const auto& entry : kModes) names.emplace_back(entry.name);
  return names;
}

eid_attention_mode parse_mode(const std::string& name) {
  for (const auto& entry : kModes) {
    if (name == entry.name) return entry.mode;
  }
  throw Error(EID_INVALID_ARGUMENT, "there is no attention mode '" + name + "'",
              "choose stream, window, full or random");
}

}  // namespace eidetic::apps
