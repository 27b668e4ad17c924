// What a session may be begun with.
#include <algorithm>
#include <string>
#include <vector>

#include "sdk/session.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Status;

namespace {

// As retrieval profiles and the archive's readers have them.
constexpr int kMostTokens = 1 << 24;
constexpr int kMostSinks = 65536;
constexpr int kMostSpanBlocks = 4096;
constexpr int kMostCandidates = 1 << 20;
constexpr int kMostWordPlaces = 1 << 20;

Status CheckRange(const char* what, int value, int least, int most) {
  if (value >= least && value <= most) return Status();
  return Status(Code::kInvalidArgument,
                std::string(what) + " is " + std::to_string(value) + ", must be " +
                    std::to_string(least) + " to " + std::to_string(most),
                "correct it, or leave it 0 for the default");
}

}  // namespace

const char* SessionModeName(SessionMode mode) {
  switch (mode) {
    case SessionMode::kStream:
      return "stream";
    case SessionMode::kWindow:
      return "window";
    case SessionMode::kFull:
      return "full";
    case SessionMode::kRandom:
      return "random";
  }
  return "unknown";
}

Status SessionOptions::Validate(const model::ModelConfig& config) const {
  EID_RETURN_IF_ERROR(CheckRange("window", window, 1, kMostTokens));
  EID_RETURN_IF_ERROR(CheckRange("sinks", sinks, 0, kMostSinks));
  EID_RETURN_IF_ERROR(CheckRange("segment", segment, 1, kMostTokens));
  EID_RETURN_IF_ERROR(CheckRange("span_blocks", span_blocks, 1, kMostSpanBlocks));
  EID_RETURN_IF_ERROR(CheckRange("candidate_blocks", candidate_blocks, 0, kMostCandidates));
  EID_RETURN_IF_ERROR(CheckRange("successor_blocks", successor_blocks, 0, kMostSpanBlocks));
  if (!(linger >= 0 && linger <= 1)) {
    return Status(Code::kInvalidArgument,
                  "linger is " + std::to_string(linger) + ", must be 0 to 1",
                  "correct it, or leave it 0 for the default");
  }
  EID_RETURN_IF_ERROR(CheckRange("query_offset", query_offset, 0, kMostTokens));
  EID_RETURN_IF_ERROR(CheckRange("layer_group", layer_group, 1, kMostLayerGroup));
  if (candidate_blocks != 0 && candidate_blocks < span_blocks) {
    return Status(Code::kInvalidArgument,
                  "candidate_blocks is " + std::to_string(candidate_blocks) +
                      ", fewer than the span_blocks, " + std::to_string(span_blocks),
                  "raise candidate_blocks, or lower span_blocks");
  }
  EID_RETURN_IF_ERROR(CheckRange("word_places", words.places, 0, kMostWordPlaces));
  for (const double threshold : {words.place_threshold, words.attention_threshold}) {
    if (threshold >= 0 && threshold <= 1) continue;
    return Status(
        Code::kInvalidArgument,
        "a threshold of the words' share is " + std::to_string(threshold) + ", must be 0 to 1",
        "correct it, or leave it 0 for the default");
  }
  if (policy != memory::RecallPolicy::kAttention && mode != SessionMode::kStream) {
    return Status(Code::kInvalidArgument,
                  std::string("recall by '") + RecallPolicyName(policy) + "' in mode '" +
                      SessionModeName(mode) + "'",
                  "words are searched in mode 'stream' alone");
  }
  const std::vector<int> attention = config.AttentionLayers();
  for (int layer : span_layers) {
    if (std::binary_search(attention.begin(), attention.end(), layer)) continue;
    std::string known;
    for (int one : attention) known += (known.empty() ? "" : ", ") + std::to_string(one);
    return Status(Code::kInvalidArgument,
                  "a span layer is " + std::to_string(layer) + ", which is no attention layer",
                  "choose among the model's attention layers: " + known);
  }
  return Status();
}

}  // namespace eidetic::sdk
