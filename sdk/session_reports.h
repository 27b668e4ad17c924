// What the C interface tells of kept sessions: lists as JSON, and exports.
#ifndef EIDETIC_SDK_SESSION_REPORTS_H_
#define EIDETIC_SDK_SESSION_REPORTS_H_

#include <string>

#include "memory/archive.h"

namespace eidetic::sdk {

enum class ExportFormat { kText = 0, kJson = 1 };

// All sessions, by name.
memory::Result<std::string> SessionsJson(const memory::Archive& archive);
// One session and its turns. A session that was saved before there were turns has none.
memory::Result<std::string> SessionJson(const memory::Archive& archive, const std::string& name);
// Everything that was read and answered, as text or with its turns, parts and tokens as JSON.
// kUnsupported for a session without turns.
memory::Result<std::string> ExportSession(const memory::Archive& archive, const std::string& name,
                                          ExportFormat format);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_SESSION_REPORTS_H_
