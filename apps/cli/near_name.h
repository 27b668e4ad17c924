// What a mistyped name was meant to be.
#ifndef EIDETIC_APPS_CLI_NEAR_NAME_H_
#define EIDETIC_APPS_CLI_NEAR_NAME_H_

#include <string>
#include <vector>

namespace eidetic::cli {

// The name that `word` is the fewest typing errors away from: a letter more, less, another one, or
// two that changed places. Empty when none is within a third of its letters.
std::string near_name(const std::string& word, const std::vector<std::string>& names);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_NEAR_NAME_H_
