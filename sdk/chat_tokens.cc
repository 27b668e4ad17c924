#include "sdk/chat_tokens.h"

#include <algorithm>
#include <utility>

#include "model/chat_template.h"

namespace eidetic::sdk {
namespace {

void AppendTokens(const std::vector<int32_t>& from, std::vector<int32_t>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

}  // namespace

std::vector<int32_t> MessageTokens(const model::Tokenizer& tokenizer, const std::string& role,
                                   const std::string& text, bool first, bool turn_open) {
  const model::ChatMarkers markers = model::MarkersOf(tokenizer, role, first);
  std::vector<int32_t> tokens;
  if (turn_open) tokens = TurnEndTokens(tokenizer);
  AppendTokens(tokenizer.Encode(markers.before, /*special=*/true), &tokens);
  AppendTokens(tokenizer.Encode(text, /*special=*/false), &tokens);
  AppendTokens(tokenizer.Encode(markers.after, /*special=*/true), &tokens);
  return tokens;
}

std::vector<int32_t> AssistantHeaderTokens(const model::Tokenizer& tokenizer) {
  return tokenizer.Encode(model::RenderChat(tokenizer, {}, /*first=*/false,
                                            /*open_assistant_turn=*/true),
                          /*special=*/true);
}

std::vector<int32_t> TurnEndTokens(const model::Tokenizer& tokenizer) {
  return tokenizer.Encode(model::MarkersOf(tokenizer, "assistant", /*first=*/false).after,
                          /*special=*/true);
}

std::string StopTextFilter::Push(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  if (stop_.empty()) return std::exchange(held_, {});
  if (const size_t at = held_.find(stop_); at != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, {}).substr(0, at);
  }
  // Keep the longest end that could begin the stop text.
  size_t keep = std::min(stop_.size() - 1, held_.size());
  while (keep > 0 && held_.compare(held_.size() - keep, keep, stop_, 0, keep) != 0) --keep;
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopTextFilter::Finish() {
  if (stopped_) return {};
  return std::exchange(held_, {});
}

}  // namespace eidetic::sdk
