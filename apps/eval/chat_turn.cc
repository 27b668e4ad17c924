#include "apps/eval/chat_turn.h"

#include <nlohmann/json.hpp>
#include <string>

namespace eidetic::eval {

ChatTurn chat_turn_of(const Engine& engine) {
  const nlohmann::json chat = nlohmann::json::parse(engine.info()).at("chat");
  if (chat.is_null()) {
    throw Error(EID_UNSUPPORTED, "the model has no chat template that can be rendered",
                "leave out --chat: the prompt is then plain text");
  }
  const auto marker = [&](const char* role, const char* where) {
    return chat.at(role).at(where).get<std::string>();
  };
  // Their names in the markers become control tokens; in what is asked they would not.
  return {engine.tokenize(marker("user", "before"), /*special=*/true),
          engine.tokenize(marker("user", "after") + marker("assistant", "before"),
                          /*special=*/true)};
}

}  // namespace eidetic::eval
