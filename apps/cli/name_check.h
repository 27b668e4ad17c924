// Options whose value is a name, or must not be left empty: what is wrong is told by the option,
// and before anything is opened.
#ifndef EIDETIC_APPS_CLI_NAME_CHECK_H_
#define EIDETIC_APPS_CLI_NAME_CHECK_H_

#include <CLI/CLI.hpp>
#include <string>

namespace eidetic::cli {

// Refuses what is empty or no UTF-8; `what` is for the message, as "a session's name".
CLI::Validator name_check(const std::string& what);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_NAME_CHECK_H_
