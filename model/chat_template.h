// What a model's chat template puts around a message.
#ifndef EIDETIC_MODEL_CHAT_TEMPLATE_H_
#define EIDETIC_MODEL_CHAT_TEMPLATE_H_

#include <string>

#include "model/tokenizer.h"

namespace eidetic::model {

// To be encoded with `special`; the content between them without, so that nothing a person wrote
// becomes markup.
struct ChatMarkers {
  std::string before, after;
};
// `first`: the message begins the conversation. Throws as RenderChat (tokenizer.h) does, and
// kInvalidArgument for a role other than user, assistant and system.
ChatMarkers MarkersOf(const Tokenizer& tokenizer, const std::string& role, bool first);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_CHAT_TEMPLATE_H_
