// What was forgotten, or would be, in words: the receipts of eid_archive_forget.
#ifndef EIDETIC_APPS_CLI_FORGET_REPORT_H_
#define EIDETIC_APPS_CLI_FORGET_REPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace eidetic::cli {

// "1 block", "12 blocks"
std::string counted(std::uint64_t count, const std::string& noun);

// Whether nothing went, or would go.
bool is_empty_receipt(const nlohmann::json& receipt);

void print_receipt(const nlohmann::json& receipt);

// A line for each session whose state may have seen what went.
void print_seen(const nlohmann::json& receipt);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_FORGET_REPORT_H_
