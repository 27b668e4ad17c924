// What a line of chat that begins with a slash does.
#ifndef EIDETIC_APPS_CLI_CHAT_SLASH_H_
#define EIDETIC_APPS_CLI_CHAT_SLASH_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "apps/cli/conversation.h"

namespace eidetic::cli {

// "/why" is a command, "//why" the message "/why".
bool is_slash_command(std::string_view line);
// A message without the slash that protects its first one.
std::string unprotected(const std::string& message);

// Runs the command and tells what came of it: an object with `event`, documented in docs/cli.md,
// and, when `print`, the same for people on standard output. An object without `event`: /quit.
// Throws Error (EID_INVALID_ARGUMENT for an unknown command or a wrong argument, with what is
// right); the conversation is then as it was.
nlohmann::json run_slash_command(Conversation& conversation, const std::string& line, bool print);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CHAT_SLASH_H_
