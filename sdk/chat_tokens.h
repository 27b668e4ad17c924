// Chat turns as tokens. The template's own markers become control tokens; what a person wrote never
// does, whatever it spells.
#ifndef EIDETIC_SDK_CHAT_TOKENS_H_
#define EIDETIC_SDK_CHAT_TOKENS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace eidetic::sdk {

// One message, after closing the assistant's turn if `turn_open`. `first`: it begins the
// conversation. Throws model::Error (kUnsupported, kInvalidArgument for an unknown role).
std::vector<int32_t> MessageTokens(const model::Tokenizer& tokenizer, const std::string& role,
                                   const std::string& text, bool first, bool turn_open);
// What opens the assistant's turn, and what closes it.
std::vector<int32_t> AssistantHeaderTokens(const model::Tokenizer& tokenizer);
std::vector<int32_t> TurnEndTokens(const model::Tokenizer& tokenizer);

// Holds back text that may turn out to be the stop text. Not thread-safe.
class StopTextFilter {
 public:
  explicit StopTextFilter(std::string stop) : stop_(std::move(stop)) {}
  // What can be shown now.
  std::string Push(std::string_view piece);
  // What was held back at the end of the answer.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  std::string stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_CHAT_TOKENS_H_
