#include "apps/eval/reading_mode.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/common/attention_mode.h"

namespace eidetic::eval {
namespace {

constexpr const char* kWideWindow = "wide-window";
constexpr const char* kSequenceModes[] = {"paper",          "paper-random", "paper-no-memory",
                                          "paper-landmark", "se-stream",    "s2"};
constexpr int kBlockTokens = 32;

}  // namespace

std::vector<std::string> reading_modes() {
  std::vector<std::string> names = apps::attention_mode_names();
  names.emplace_back(kWideWindow);
  names.insert(names.end(), std::begin(kSequenceModes), std::end(kSequenceModes));
  return names;
}

bool reads_a_sequence(const std::string& mode) {
  if (std::find(std::begin(kSequenceModes), std::end(kSequenceModes), mode) !=
      std::end(kSequenceModes)) {
    return true;
  }
  if (mode != kWideWindow) apps::parse_mode(mode);
  return false;
}

bool recalls(const std::string& mode) {
  return mode == "stream" || mode == "random";
}

SessionOptions session_of(const std::string& mode, SessionOptions options, const Engine& engine) {
  options.mode = mode == kWideWindow ? EID_ATTENTION_WINDOW : apps::parse_mode(mode);
  if (mode == kWideWindow) {
    const auto profile = nlohmann::json::parse(engine.info()).at("retrieval_profile");
    const int blocks =
        options.span_blocks > 0 ? options.span_blocks : profile.at("span_blocks").get<int>();
    if (options.window <= 0) options.window = kDefaultWindow;
    options.window += blocks * kBlockTokens;
  }
  if (options.mode != EID_ATTENTION_STREAM) options.policy = EID_RECALL_ATTENTION;
  options.forget_own_past =
      options.mode == EID_ATTENTION_WINDOW || options.mode == EID_ATTENTION_FULL;
  return options;
}

SequenceOptions sequence_of(const std::string& mode, SequenceOptions options) {
  options.mode = mode;
  return options;
}

}  // namespace eidetic::eval
