// Attention modes by the names that the command line and reports give them.
#ifndef EIDETIC_APPS_COMMON_ATTENTION_MODE_H_
#define EIDETIC_APPS_COMMON_ATTENTION_MODE_H_

#include <string>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::apps {

// stream, window, full, random
std::vector<std::string> attention_mode_names();
// Throws EID_INVALID_ARGUMENT when there is none of this name.
eid_attention_mode parse_mode(const std::string& name);

}  // namespace eidetic::apps

#endif  // EIDETIC_APPS_COMMON_ATTENTION_MODE_H_
