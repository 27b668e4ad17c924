#include "sdk/turn_log.h"

#include <algorithm>
#include <utility>

namespace eidetic::sdk {
namespace {

// A turn that looks at more different things than can be numbered is not replayed.
constexpr size_t kMostViews = 1024;

}  // namespace

void TurnLog::BeginView(memory::RecallView view) {
  const auto known = std::find(views_.begin(), views_.end(), view);
  if (known == views_.end() && views_.size() == kMostViews) {
    MarkNotReplayable();
    return;
  }
  view_ = static_cast<uint16_t>(known - views_.begin());
  if (known == views_.end()) views_.push_back(std::move(view));
}

void TurnLog::AddPass(size_t tokens, bool use_span) {
  if (views_.empty()) views_.emplace_back();
  const auto count = static_cast<uint32_t>(tokens);
  tokens_ += count;
  if (!passes_.empty()) {
    memory::PassRun& last = passes_.back();
    if (last.tokens == count && last.use_span == use_span && last.view == view_) {
      ++last.times;
      return;
    }
  }
  passes_.push_back({count, 1, use_span, view_});
}

void TurnLog::AddPart(std::string role, bool generated, std::string text) {
  if (tokens_without_part() == 0) return;
  parts_.push_back(
      {std::move(role), generated, static_cast<uint32_t>(tokens_without_part()), std::move(text)});
  tokens_in_parts_ = tokens_;
}

void TurnLog::Clear() {
  memory::RecallView view = views_.empty() ? memory::RecallView() : std::move(views_[view_]);
  *this = TurnLog();
  BeginView(std::move(view));
}

}  // namespace eidetic::sdk
