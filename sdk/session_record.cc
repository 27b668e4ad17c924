#include "sdk/session_record.h"

#include <nlohmann/json.hpp>

#include "sdk/session_json.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;
using nlohmann::json;

namespace {

constexpr int kRecordVersion = 2, kOldestVersion = 1;

}  // namespace

std::string EncodeSessionRecord(const SessionRecord& record) {
  const json encoded = {{"version", kRecordVersion},
                        {"fingerprint", record.fingerprint},
                        {"options", OptionsToJson(record.options)},
                        {"lineage", record.lineage},
                        {"collections", record.collections},
                        {"pins", PinsToJson(record.pins)},
                        {"tokens", BinaryJson(record.tokens)},
                        {"logits", BinaryJson(record.logits)},
                        {"sampler", BinaryJson(record.sampler)},
                        {"sampler_seeded", record.sampler_seeded},
                        {"recall_random", record.recall_random},
                        {"turn_open", record.turn_open},
                        {"model_state", BinaryJson(record.model_state)}};
  std::string bytes;
  json::to_cbor(encoded, bytes);
  return bytes;
}

Result<SessionRecord> DecodeSessionRecord(const std::string& bytes, const std::string& name) {
  try {
    const json encoded = json::from_cbor(bytes);
    const int version = encoded.at("version").get<int>();
    if (version < kOldestVersion || version > kRecordVersion) {
      return Status(Code::kUnsupported,
                    "session '" + name + "' is stored in version " + std::to_string(version) +
                        ", this program reads versions " + std::to_string(kOldestVersion) + " to " +
                        std::to_string(kRecordVersion),
                    "use a newer eidetic");
    }
    SessionRecord record;
    record.fingerprint = encoded.at("fingerprint").get<std::string>();
    record.options = OptionsFromJson(encoded.at("options"), name);
    record.lineage = encoded.at("lineage").get<memory::LineageId>();
    record.collections = encoded.at("collections").get<std::vector<std::string>>();
    // Version 1 knew no words: attention alone chose, and nothing was pinned.
    record.pins = PinsFromJson(encoded.value("pins", json::array()));
    record.tokens = NumbersOf<int32_t>(encoded, "tokens");
    record.logits = NumbersOf<float>(encoded, "logits");
    record.sampler = BytesOf(encoded, "sampler");
    record.sampler_seeded = encoded.at("sampler_seeded").get<bool>();
    record.recall_random = encoded.at("recall_random").get<uint64_t>();
    record.turn_open = encoded.at("turn_open").get<bool>();
    record.model_state = BytesOf(encoded, "model_state");
    return record;
  } catch (const std::exception& error) {
    return Status(Code::kCorruption,
                  "the record of session '" + name + "' is damaged: " + error.what(),
                  "restore the archive from a backup");
  }
}

}  // namespace eidetic::sdk
