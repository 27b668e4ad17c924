#include "sdk/session_json.h"

namespace eidetic::sdk {

using nlohmann::json;

json OptionsToJson(const SessionOptions& options) {
  json fields = {{"mode", static_cast<int>(options.mode)},
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
  if (options.layer_group != 1) fields["layer_group"] = options.layer_group;
  if (options.successor_blocks != 0) fields["successor_blocks"] = options.successor_blocks;
  if (options.linger != 0) fields["linger"] = options.linger;
  return fields;
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
  options.layer_group = from.value("layer_group", 1);
  options.successor_blocks = from.value("successor_blocks", 0);
  options.linger = from.value("linger", 0.0);
  options.seed = from.at("seed").get<uint64_t>();
  options.name = name;
  return options;
}

json PinsToJson(const std::vector<SavedPin>& pins) {
  json list = json::array();
  for (const SavedPin& pin : pins) {
    list.push_back({pin.collection, pin.lineage, pin.position, pin.score});
  }
  return list;
}

std::vector<SavedPin> PinsFromJson(const json& list) {
  std::vector<SavedPin> pins;
  for (const json& pin : list) {
    pins.push_back({pin.at(0).get<std::string>(), pin.at(1).get<uint64_t>(),
                    pin.at(2).get<uint64_t>(), pin.at(3).get<double>()});
  }
  return pins;
}

}  // namespace eidetic::sdk
