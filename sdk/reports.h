// What the C interface tells as JSON. The fields are listed in docs/reports.md.
#ifndef EIDETIC_SDK_REPORTS_H_
#define EIDETIC_SDK_REPORTS_H_

#include <nlohmann/json.hpp>
#include <string>

#include "memory/archive.h"
#include "sdk/engine.h"

namespace eidetic::sdk {

nlohmann::json PoolJson(const memory::PoolStats& pool);
std::string EngineJson(const Engine& engine);
// Of a file's header and tables, without its weights. Throws model::Error.
std::string ModelFileJson(const std::string& path);
// `collection` empty: all.
memory::Result<std::string> ListJson(const memory::Archive& archive, const std::string& collection);
memory::Result<std::string> StatsJson(const memory::Archive& archive);
std::string VerifyJson(const memory::VerifyReport& report);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_REPORTS_H_
