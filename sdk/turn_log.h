// What a session did since its last turn, as it will be kept with the next one.
#ifndef EIDETIC_SDK_TURN_LOG_H_
#define EIDETIC_SDK_TURN_LOG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "memory/session_store.h"

namespace eidetic::sdk {

class TurnLog {
 public:
  // What passes may recall from now on.
  void BeginView(memory::RecallView view);
  // One forward pass, after it. With `use_span` it may have recalled.
  void AddPass(size_t tokens, bool use_span);
  // The tokens that no part has yet belong to this one.
  void AddPart(std::string role, bool generated, std::string text);
  // The turn cannot be read again with the same result: what was recalled came from elsewhere, or
  // changed in the middle of a pass.
  void MarkNotReplayable() { replayable_ = false; }

  bool replayable() const { return replayable_; }
  // Whether the next pass of the turn looks at other things than the last one.
  bool view_changed() const { return !passes_.empty() && passes_.back().view != view_; }
  // Tokens of all passes.
  uint64_t tokens() const { return tokens_; }
  // Those of them that are in no part.
  uint64_t tokens_without_part() const { return tokens_ - tokens_in_parts_; }
  const std::vector<memory::PassRun>& passes() const { return passes_; }
  const std::vector<memory::RecallView>& views() const { return views_; }
  const std::vector<memory::TurnPart>& parts() const { return parts_; }

  // The turn was committed: what can be recalled stays, the rest begins anew.
  void Clear();

 private:
  std::vector<memory::PassRun> passes_;
  std::vector<memory::RecallView> views_;
  std::vector<memory::TurnPart> parts_;
  uint16_t view_ = 0;
  uint64_t tokens_ = 0;
  uint64_t tokens_in_parts_ = 0;
  bool replayable_ = true;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_TURN_LOG_H_
