// The JSON of a command against the tables of docs/cli.md.
#ifndef EIDETIC_TESTS_APPS_DOCUMENTED_KEYS_H_
#define EIDETIC_TESTS_APPS_DOCUMENTED_KEYS_H_

#include <nlohmann/json.hpp>
#include <string>

namespace eidetic::apps {

// Expects that `printed` has the keys that the section `what` of "JSON keys" lists, and no others.
// A key whose description begins with "only" may be missing.
void ExpectDocumented(const std::string& what, const nlohmann::json& printed);

}  // namespace eidetic::apps

#endif  // EIDETIC_TESTS_APPS_DOCUMENTED_KEYS_H_
