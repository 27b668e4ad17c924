#include "sdk/session_record.h"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;
using nlohmann::json;

// Arrays of numbers are stored as the machine holds them.
static_assert(std::endian::native == std::endian::little);

namespace {

constexpr int kVersion = 2, kOldestVersion = 1;

template <typename T>
json Binary(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return json::binary(std::move(bytes));
}

json Binary(const std::string& bytes) {
  return json::binary(std::vector<uint8_t>(bytes.begin(), bytes.end()));
}

template <typename T>
std::vector<T> Numbers(const json& record, const char* field) {
  const std::vector<uint8_t>& bytes = record.at(field).get_binary();
  if (bytes.size() % sizeof(T) != 0) throw std::length_error(field);
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::string Bytes(const json& record, const char* field) {
  const std::vector<uint8_t>& bytes = record.at(field).get_binary();
  return std::string(bytes.begin(), bytes.end());
}

json OptionsToJson(const SessionOptions& options) {
  return {{"mode", static_cast<int>(options.mode)},
          {"window", options.window},
          {"sinks", options.sinks},
          {"segment", options.segment},
          {"span_blocks", options.span_blocks},
          {"candidate_blocks", options.candidate_blocks},
          {"query_offset", options.query_offset},
          {"codec", kernels::CodecName(options.codec)},
          {"forget_own_past", options.forget_own_past},
          {"span_layers", options.span_layers},
          {"policy", RecallPolicyName(options.policy)},
          {"word_places", options.words.places},
          {"place_threshold", options.words.place_threshold},
          {"attention_threshold", options.words.attention_threshold},
          {"seed", options.seed}};
}

SessionOptions OptionsFromJson(const json& from, const std::string& name) {
  SessionOptions options;
  const int mode = from.at("mode").get<int>();
  if (mode < 0 || mode > static_cast<int>(SessionMode::kRandom)) throw std::out_of_range("mode");
  options.mode = static_cast<SessionMode>(mode);
  options.window = from.at("window").get<int>();
  options.sinks = from.at("sinks").get<int>();
  options.segment = from.at("segment").get<int>();
  options.span_blocks = from.at("span_blocks").get<int>();
  options.candidate_blocks = from.at("candidate_blocks").get<int>();
  options.query_offset = from.at("query_offset").get<int>();
  if (!kernels::ParseCodec(from.at("codec").get<std::string>().c_str(), &options.codec)) {
    throw std::out_of_range("codec");
  }
  options.forget_own_past = from.at("forget_own_past").get<bool>();
  options.span_layers = from.at("span_layers").get<std::vector<int>>();
  if (!memory::ParseRecallPolicy(from.value("policy", "attention"), &options.policy)) {
    throw std::out_of_range("policy");
  }
  options.words.places = from.value("word_places", options.words.places);
  options.words.place_threshold = from.value("place_threshold", options.words.place_threshold);
  options.words.attention_threshold =
      from.value("attention_threshold", options.words.attention_threshold);
  options.seed = from.at("seed").get<uint64_t>();
  options.name = name;
  return options;
}

}  // namespace

std::string EncodeSessionRecord(const SessionRecord& record) {
  json pins = json::array();
  for (const SessionRecord::Pin& pin : record.pins) {
    pins.push_back({pin.collection, pin.lineage, pin.position, pin.score});
  }
  const json encoded = {{"version", kVersion},
                        {"fingerprint", record.fingerprint},
                        {"options", OptionsToJson(record.options)},
                        {"lineage", record.lineage},
                        {"collections", record.collections},
                        {"pins", std::move(pins)},
                        {"tokens", Binary(record.tokens)},
                        {"logits", Binary(record.logits)},
                        {"sampler", Binary(record.sampler)},
                        {"sampler_seeded", record.sampler_seeded},
                        {"recall_random", record.recall_random},
                        {"turn_open", record.turn_open},
                        {"model_state", Binary(record.model_state)}};
  std::string bytes;
  json::to_cbor(encoded, bytes);
  return bytes;
}

Result<SessionRecord> DecodeSessionRecord(const std::string& bytes, const std::string& name) {
  try {
    const json encoded = json::from_cbor(bytes);
    const int version = encoded.at("version").get<int>();
    if (version < kOldestVersion || version > kVersion) {
      return Status(Code::kUnsupported,
                    "session '" + name + "' is stored in version " + std::to_string(version) +
                        ", this program reads versions " + std::to_string(kOldestVersion) + " to " +
                        std::to_string(kVersion),
                    "use a newer eidetic");
    }
    SessionRecord record;
    record.fingerprint = encoded.at("fingerprint").get<std::string>();
    record.options = OptionsFromJson(encoded.at("options"), name);
    record.lineage = encoded.at("lineage").get<memory::LineageId>();
    record.collections = encoded.at("collections").get<std::vector<std::string>>();
    // Version 1 knew no words: attention alone chose, and nothing was pinned.
    for (const json& pin : encoded.value("pins", json::array())) {
      record.pins.push_back({pin.at(0).get<std::string>(), pin.at(1).get<uint64_t>(),
                             pin.at(2).get<uint64_t>(), pin.at(3).get<double>()});
    }
    record.tokens = Numbers<int32_t>(encoded, "tokens");
    record.logits = Numbers<float>(encoded, "logits");
    record.sampler = Bytes(encoded, "sampler");
    record.sampler_seeded = encoded.at("sampler_seeded").get<bool>();
    record.recall_random = encoded.at("recall_random").get<uint64_t>();
    record.turn_open = encoded.at("turn_open").get<bool>();
    record.model_state = Bytes(encoded, "model_state");
    return record;
  } catch (const std::exception& error) {
    return Status(Code::kCorruption,
                  "the record of session '" + name + "' is damaged: " + error.what(),
                  "restore the archive from a backup");
  }
}

}  // namespace eidetic::sdk
