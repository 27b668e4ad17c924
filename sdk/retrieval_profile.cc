#include "sdk/retrieval_profile.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "memory/hash.h"
#include "model/atomic_file.h"
#include "model/gguf.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;
using nlohmann::json;

namespace {

constexpr int kProfileVersion = 1;
constexpr const char* kVersionKey = "eidetic_retrieval_profile";
constexpr uintmax_t kMostProfileBytes = 1u << 20;

Status Damaged(const std::string& path, const std::string& what) {
  return Status(Code::kCorruption, "the retrieval profile '" + path + "' " + what,
                "run 'eidetic model calibrate' again, or remove the file");
}

Result<json> ReadJson(const std::string& path) {
  std::error_code failed;
  const uintmax_t bytes = std::filesystem::file_size(path, failed);
  if (failed) {
    return Status(Code::kNotFound, "there is no retrieval profile '" + path + "'",
                  "make one with 'eidetic model calibrate'");
  }
  if (bytes > kMostProfileBytes) return Damaged(path, "has " + std::to_string(bytes) + " bytes");
  std::ifstream file(path, std::ios::binary);
  const json content = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!content.is_object()) return Damaged(path, "is no JSON object");
  return content;
}

// A field that is an integer in range; nothing is taken on trust (rule 6).
Result<int> IntegerIn(const json& content, const char* key, int least, int most,
                      const std::string& path) {
  const auto found = content.find(key);
  if (found == content.end() || !found->is_number_integer()) {
    return Damaged(path, std::string("has no whole number '") + key + "'");
  }
  const auto value = found->get<int64_t>();
  if (value < least || value > most) {
    return Damaged(path, std::string("says ") + key + " " + std::to_string(value) + ", must be " +
                             std::to_string(least) + " to " + std::to_string(most));
  }
  return static_cast<int>(value);
}

Result<std::vector<int>> SpanLayersIn(const json& content, const model::ModelConfig& config,
                                      const std::string& path) {
  const auto found = content.find("span_layers");
  if (found == content.end() || !found->is_array() || found->empty()) {
    return Damaged(path, "has no list 'span_layers'");
  }
  const std::vector<int> attention = config.AttentionLayers();
  std::vector<int> layers;
  for (const json& entry : *found) {
    if (!entry.is_number_integer()) return Damaged(path, "names a span layer that is no number");
    const auto layer = entry.get<int64_t>();
    const bool known =
        layer >= 0 && layer <= INT32_MAX &&
        std::binary_search(attention.begin(), attention.end(), static_cast<int>(layer));
    if (!known) {
      return Status(Code::kInvalidArgument,
                    "the retrieval profile '" + path + "' names span layer " +
                        std::to_string(layer) + ", which is no attention layer of this model",
                    "run 'eidetic model calibrate' with this model");
    }
    if (!layers.empty() && layers.back() >= layer) {
      return Damaged(path, "names its span layers out of order");
    }
    layers.push_back(static_cast<int>(layer));
  }
  return layers;
}

// Optional: files without one leave it to each answer.
Result<int> FocusLayerIn(const json& content, const std::vector<int>& span_layers,
                         const std::string& path) {
  if (!content.contains("focus_layer")) return -1;
  EID_ASSIGN_OR_RETURN(const int layer, IntegerIn(content, "focus_layer", 0, INT32_MAX, path));
  if (!std::binary_search(span_layers.begin(), span_layers.end(), layer)) {
    return Damaged(path, "says focus_layer " + std::to_string(layer) + ", which is no span layer");
  }
  return layer;
}

// A number from 0 to 1.
Status ShareIn(const json& content, const char* key, const std::string& path, double* share) {
  const json& its = content.at(key);
  const double given = its.is_number() ? its.get<double>() : -1;
  if (!(given >= 0 && given <= 1)) {
    return Damaged(path, std::string("has no number from 0 to 1 as '") + key + "'");
  }
  *share = given;
  return Status();
}

// The optional part on words beside attention; what it leaves out stays as it is.
Status WordsIn(const json& content, const std::string& path, RetrievalProfile* profile) {
  const auto found = content.find("words");
  if (found == content.end()) return Status();
  if (!found->is_object()) return Damaged(path, "has 'words' that are no object");
  if (const auto policy = found->find("policy"); policy != found->end()) {
    if (!policy->is_string() ||
        !memory::ParseRecallPolicy(policy->get<std::string>(), &profile->policy)) {
      return Damaged(path, "has a policy of words that is none of attention, words, both");
    }
  }
  if (found->contains("places")) {
    EID_ASSIGN_OR_RETURN(profile->words.places, IntegerIn(*found, "places", 1, 1024, path));
  }
  for (auto& [key, value] :
       {std::pair<const char*, double*>("place_threshold", &profile->words.place_threshold),
        {"attention_threshold", &profile->words.attention_threshold}}) {
    if (found->contains(key)) EID_RETURN_IF_ERROR(ShareIn(*found, key, path, value));
  }
  return Status();
}

}  // namespace

std::string RetrievalProfile::Hash() const {
  std::string settings = "eidetic retrieval profile " + std::to_string(kProfileVersion);
  for (int layer : span_layers) settings += " " + std::to_string(layer);
  for (int number : {span_blocks, candidate_blocks, representative_tokens, query_offset}) {
    settings += "/" + std::to_string(number);
  }
  // What profiles of before there were groups, successors and lingering choices meant has the hash
  // that it had.
  if (successor_blocks != 0) {
    settings += "/successors " + (successor_blocks ? std::to_string(*successor_blocks) : "default");
  }
  if (linger != 0) settings += "/linger " + (linger ? std::to_string(*linger) : "default");
  if (layer_group != 1) settings += "/group " + std::to_string(layer_group);
  settings += std::string(" ") + RecallPolicyName(policy) + "/" + std::to_string(words.places) +
              "/" + std::to_string(words.place_threshold) + "/" +
              std::to_string(words.attention_threshold);
  return memory::Sha256Hex(settings);
}

RetrievalProfile AssumedProfile(const model::ModelConfig& config) {
  RetrievalProfile profile;
  profile.span_layers = config.AttentionLayers();
  return profile;
}

std::string ProfilePathOf(const std::string& model_path) {
  std::string path = model_path;  // a folder's may end with a slash
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path + ".profile.json";
}

Result<RetrievalProfile> ReadProfile(const std::string& path, const std::string& fingerprint,
                                     const model::ModelConfig& config) {
  EID_ASSIGN_OR_RETURN(const json content, ReadJson(path));
  EID_ASSIGN_OR_RETURN(const int version, IntegerIn(content, kVersionKey, 1, INT32_MAX, path));
  if (version > kProfileVersion) {
    return Status(Code::kUnsupported,
                  "the retrieval profile '" + path + "' has version " + std::to_string(version) +
                      ", this build reads " + std::to_string(kProfileVersion),
                  "use a newer eidetic, or run 'eidetic model calibrate' again");
  }
  const auto its = content.find("fingerprint");
  if (its == content.end() || !its->is_string()) return Damaged(path, "names no fingerprint");
  if (!fingerprint.empty() && its->get<std::string>() != fingerprint) {
    return Status(Code::kFingerprintMismatch,
                  "the retrieval profile '" + path + "' is of the model " +
                      its->get<std::string>().substr(0, 12) + "..., this model is " +
                      fingerprint.substr(0, 12) + "...",
                  "run 'eidetic model calibrate' with this model, or remove the file");
  }
  RetrievalProfile profile;
  EID_ASSIGN_OR_RETURN(profile.span_layers, SpanLayersIn(content, config, path));
  EID_ASSIGN_OR_RETURN(profile.span_blocks, IntegerIn(content, "span_blocks", 1, 4096, path));
  EID_ASSIGN_OR_RETURN(profile.candidate_blocks,
                       IntegerIn(content, "candidate_blocks", 0, 1 << 20, path));
  if (profile.candidate_blocks != 0 && profile.candidate_blocks < profile.span_blocks) {
    return Damaged(path, "has fewer candidate_blocks than span_blocks");
  }
  // The one kind of representative that is stored.
  EID_ASSIGN_OR_RETURN(profile.representative_tokens,
                       IntegerIn(content, "representative_tokens", 8, 8, path));
  EID_ASSIGN_OR_RETURN(profile.query_offset, IntegerIn(content, "query_offset", 0, 1 << 24, path));
  if (content.contains("successor_blocks")) {
    EID_ASSIGN_OR_RETURN(profile.successor_blocks,
                         IntegerIn(content, "successor_blocks", 0, 4096, path));
  }
  if (content.contains("linger")) {
    double linger = 0;
    EID_RETURN_IF_ERROR(ShareIn(content, "linger", path, &linger));
    profile.linger = linger;
  }
  if (content.contains("layer_group")) {
    EID_ASSIGN_OR_RETURN(profile.layer_group,
                         IntegerIn(content, "layer_group", 1, kMostLayerGroup, path));
  }
  EID_ASSIGN_OR_RETURN(profile.focus_layer, FocusLayerIn(content, profile.span_layers, path));
  EID_RETURN_IF_ERROR(WordsIn(content, path, &profile));
  profile.calibrated = true;
  profile.path = path;
  return profile;
}

Status BringProfile(const std::string& patch_dir, const std::string& model_path) {
  const std::filesystem::path source = std::filesystem::path(patch_dir) / "profile.json";
  const std::string target = ProfilePathOf(model_path);
  if (!std::filesystem::exists(source) || std::filesystem::exists(target)) return Status();
  const auto file = model::GgufFile::Open(model_path);
  // Of these weights or of others: the fingerprint is compared when they are loaded.
  EID_RETURN_IF_ERROR(
      ReadProfile(source.string(), /*fingerprint=*/"", model::ReadModelConfig(*file)).status());
  EID_ASSIGN_OR_RETURN(const json content, ReadJson(source.string()));
  const std::string text = content.dump(2) + "\n";
  model::AtomicFile copy(target);
  copy.Write(text.data(), text.size());
  copy.Commit();
  return Status();
}

}  // namespace eidetic::sdk
