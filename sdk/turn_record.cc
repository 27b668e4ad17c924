#include "sdk/turn_record.h"

#include <nlohmann/json.hpp>

#include "sdk/session_json.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;
using nlohmann::json;

namespace {

constexpr int kTurnVersion = 1;
constexpr int kGroupVersion = 2;      // of settings in which layers share a choice
constexpr int kSuccessorVersion = 3;  // of those in which blocks bring others
constexpr int kLingerVersion = 4;     // of those in which choices linger

// Decodes with `read(json)`, whose exceptions become errors that name the session.
template <typename T, typename Read>
Result<T> Decode(const std::string& bytes, const char* what, const std::string& name, Read read,
                 int newest = kTurnVersion) {
  try {
    const json encoded = json::from_cbor(bytes);
    const int version = encoded.at("version").get<int>();
    if (version < 1 || version > newest) {
      return Status(Code::kUnsupported,
                    std::string(what) + " of session '" + name + "' have version " +
                        std::to_string(version) + ", this program reads version " +
                        std::to_string(newest),
                    "use a newer eidetic");
    }
    return read(encoded);
  } catch (const std::exception& error) {
    return Status(Code::kCorruption,
                  std::string(what) + " of session '" + name + "' are damaged: " + error.what(),
                  "restore the archive from a backup");
  }
}

std::string Encode(const json& fields) {
  std::string bytes;
  json::to_cbor(fields, bytes);
  return bytes;
}

}  // namespace

std::string EncodeSettings(const SessionSettings& settings) {
  // The oldest that says all of it, so that older builds read what they can follow.
  const int version = settings.options.linger != 0             ? kLingerVersion
                      : settings.options.successor_blocks != 0 ? kSuccessorVersion
                      : settings.options.layer_group != 1      ? kGroupVersion
                                                               : kTurnVersion;
  return Encode({{"version", version},
                 {"fingerprint", settings.fingerprint},
                 {"options", OptionsToJson(settings.options)}});
}

Result<SessionSettings> DecodeSettings(const std::string& bytes, const std::string& name) {
  return Decode<SessionSettings>(
      bytes, "the settings", name,
      [&](const json& encoded) {
        SessionSettings settings;
        settings.fingerprint = encoded.at("fingerprint").get<std::string>();
        settings.options = OptionsFromJson(encoded.at("options"), name);
        return settings;
      },
      kLingerVersion);
}

std::string EncodePins(const std::vector<SavedPin>& pins) {
  if (pins.empty()) return {};
  return Encode({{"version", kTurnVersion}, {"pins", PinsToJson(pins)}});
}

Result<std::vector<SavedPin>> DecodePins(const std::string& bytes, const std::string& name) {
  if (bytes.empty()) return std::vector<SavedPin>();
  return Decode<std::vector<SavedPin>>(bytes, "the pinned blocks", name, [&](const json& encoded) {
    return PinsFromJson(encoded.at("pins"));
  });
}

std::string EncodeResume(const TurnResume& resume) {
  json fields = {{"version", kTurnVersion},
                 {"sampler", BinaryJson(resume.sampler)},
                 {"sampler_seeded", resume.sampler_seeded},
                 {"recall_random", resume.recall_random},
                 {"turn_open", resume.turn_open},
                 {"collections", resume.collections},
                 {"pins", PinsToJson(resume.pins)},
                 {"state_checksum", resume.state_checksum}};
  if (!resume.logits.empty()) fields["logits"] = BinaryJson(resume.logits);
  return Encode(fields);
}

Result<TurnResume> DecodeResume(const std::string& bytes, const std::string& name) {
  return Decode<TurnResume>(bytes, "the states", name, [&](const json& encoded) {
    TurnResume resume;
    resume.sampler = BytesOf(encoded, "sampler");
    resume.sampler_seeded = encoded.at("sampler_seeded").get<bool>();
    resume.recall_random = encoded.at("recall_random").get<uint64_t>();
    resume.turn_open = encoded.at("turn_open").get<bool>();
    resume.collections = encoded.at("collections").get<std::vector<std::string>>();
    resume.pins = PinsFromJson(encoded.at("pins"));
    resume.state_checksum = encoded.at("state_checksum").get<uint64_t>();
    if (encoded.contains("logits")) resume.logits = NumbersOf<float>(encoded, "logits");
    return resume;
  });
}

}  // namespace eidetic::sdk
