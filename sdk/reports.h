// What the C interface tells as JSON. The fields are listed in docs/reports.md.
#ifndef EIDETIC_SDK_REPORTS_H_
#define EIDETIC_SDK_REPORTS_H_

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "memory/archive.h"
#include "sdk/engine.h"

namespace eidetic::sdk {

nlohmann::json PoolJson(const memory::PoolStats& pool);
std::string EngineJson(const Engine& engine);
// Of a file's header and tables, without its weights. Throws model::Error.
std::string ModelFileJson(const std::string& path);
// Of an adapter's files, which are read; `sha256_of_file` hashes the weights' (hex). Throws
// model::Error.
std::string AdapterJson(const std::string& path,
                        const std::function<std::string(const std::string& path)>& sha256_of_file);
// `collection` empty: all.
memory::Result<std::string> ListJson(const memory::Archive& archive, const std::string& collection);
memory::Result<std::string> StatsJson(const memory::Archive& archive);
std::string VerifyJson(const memory::VerifyReport& report);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_REPORTS_H_
