#include "sdk/kept_beginnings.h"

#include <algorithm>
#include <utility>

namespace eidetic::sdk {

std::unique_ptr<model::ModelState> KeptBeginnings::Find(const model::HybridModel& model,
                                                        const model::AttentionOptions& options,
                                                        const std::vector<int32_t>& tokens) {
  std::shared_ptr<const model::ModelState> state;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    state = Touch(options, tokens);
  }
  return state != nullptr ? model.CopyState(*state) : nullptr;
}

void KeptBeginnings::Keep(const model::HybridModel& model, const model::ModelState& state,
                          const std::vector<int32_t>& tokens) {
  std::shared_ptr<const model::ModelState> copy = model.CopyState(state);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (Touch(state.options(), tokens) != nullptr) return;  // another session was faster
  kept_.insert(kept_.begin(), {tokens, std::move(copy)});
  if (kept_.size() > kMost) kept_.pop_back();
}

size_t KeptBeginnings::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return kept_.size();
}

std::shared_ptr<const model::ModelState> KeptBeginnings::Touch(
    const model::AttentionOptions& options, const std::vector<int32_t>& tokens) {
  const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Beginning& one) {
    return one.tokens == tokens && one.state->options() == options;
  });
  if (found == kept_.end()) return nullptr;
  std::rotate(kept_.begin(), found, found + 1);
  return kept_.front().state;
}

}  // namespace eidetic::sdk
