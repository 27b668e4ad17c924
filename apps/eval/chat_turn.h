// What a model's chat template puts around a question, for prompts that are read in several parts.
#ifndef EIDETIC_APPS_EVAL_CHAT_TURN_H_
#define EIDETIC_APPS_EVAL_CHAT_TURN_H_

#include <cstdint>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct ChatTurn {
  std::vector<std::int32_t> opening;    // of a conversation and the user's turn in it
  std::vector<std::int32_t> answering;  // what ends that and opens the assistant's

  std::size_t tokens() const { return opening.size() + answering.size(); }
};

// Throws Error when the model has no chat template that can be rendered.
ChatTurn chat_turn_of(const Engine& engine);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_CHAT_TURN_H_
