#include "sdk/reports.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "model/adapter_file.h"
#include "model/chat_template.h"
#include "model/checkpoint.h"
#include "model/error.h"
#include "model/train/train_state.h"

namespace eidetic::sdk {

using memory::Result;
using nlohmann::json;

namespace {

// Names that an archive was given by another library, or that come from a model file, need not be
// UTF-8.
std::string TextOf(const json& report) {
  return report.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

json PoolJson(const memory::PoolStats& pool) {
  return {
      {"hits", pool.hits}, {"misses", pool.misses}, {"bytes", pool.bytes}, {"budget", pool.budget}};
}

namespace {

json ConfigJson(const model::ModelConfig& config) {
  json out = {
      {"architecture", config.architecture},  {"name", config.name},
      {"layers", config.layers.size()},       {"attention_layers", config.AttentionLayers()},
      {"mamba_layers", config.MambaLayers()}, {"hidden", config.hidden},
      {"feed_forward", config.feed_forward},  {"heads", config.heads},
      {"kv_heads", config.kv_heads},          {"head_dim", config.head_dim},
      {"vocabulary", config.vocabulary},      {"trained_context", config.trained_context},
      {"rotary_base", config.rotary_base}};
  if (config.mamba.heads > 0) {
    out["mamba"] = {{"heads", config.mamba.heads},
                    {"head_dim", config.mamba.head_dim},
                    {"state", config.mamba.state},
                    {"groups", config.mamba.groups},
                    {"conv_width", config.mamba.conv_width}};
  }
  return out;
}

json ProfileJson(const RetrievalProfile& profile) {
  return {{"span_layers", profile.span_layers},
          {"span_blocks", profile.span_blocks},
          {"candidate_blocks", profile.candidate_blocks},
          {"successor_blocks", profile.SuccessorsOf(profile.span_blocks)},
          {"linger", profile.LingerOf(profile.span_blocks)},
          {"representative_tokens", profile.representative_tokens},
          {"query_offset", profile.query_offset},
          {"layer_group", profile.layer_group},
          {"focus_layer", profile.focus_layer},
          {"words",
           {{"policy", RecallPolicyName(profile.policy)},
            {"places", profile.words.places},
            {"place_threshold", profile.words.place_threshold},
            {"attention_threshold", profile.words.attention_threshold}}},
          {"calibrated", profile.calibrated},
          {"path", profile.path},
          {"hash", profile.Hash()}};
}

// What stands around the first message of a conversation, and around its answer; null when the
// model's template cannot be rendered.
json ChatJson(const model::Tokenizer& tokenizer) {
  const auto markers = [&](const char* role, bool first) -> json {
    const model::ChatMarkers around = model::MarkersOf(tokenizer, role, first);
    return {{"before", around.before}, {"after", around.after}};
  };
  try {
    return {{"user", markers("user", /*first=*/true)},
            {"assistant", markers("assistant", /*first=*/false)}};
  } catch (const model::Error&) {
    return nullptr;
  }
}

json DocumentJson(const memory::DocumentRecord& document) {
  return {
      {"id", document.id},
      {"source", document.source},
      {"content_hash", document.content_hash},
      {"bytes", document.bytes},
      {"format", document.format.empty() ? "text" : document.format},
      {"original_bytes", document.original_bytes == 0 ? document.bytes : document.original_bytes},
      {"tokens", document.tokens},
      {"blocks", document.committed_blocks},
      {"complete", document.complete},
      {"committed_tokens", document.committed_tokens}};
}

}  // namespace

std::string EngineJson(const Engine& engine) {
  json out = ConfigJson(engine.model().config());
  out["fingerprint"] = engine.fingerprint();
  out["weight_bytes"] = engine.model().weight_bytes();
  out["shared_weight_bytes"] = engine.model().shared_weight_bytes();
  out["device"] = engine.model().device();
  if (!engine.adapter_path().empty()) out["adapter"] = engine.adapter_path();
  out["chat"] = ChatJson(engine.tokenizer());
  out["retrieval_profile"] = ProfileJson(engine.profile());
  return TextOf(out);
}

std::string ModelFileJson(const std::string& path) {
  const auto checkpoint = model::Checkpoint::Open(path);
  const model::ModelConfig config = checkpoint->Config();
  const model::CheckpointSummary summary = checkpoint->Summary();
  json out = ConfigJson(config);
  uint64_t parameters = 0;
  for (const auto& [type, values] : summary.values_by_type) parameters += values;
  out["path"] = path;
  out["format"] = summary.format;
  out["file_bytes"] = summary.bytes;
  out["tensors"] = summary.tensors;
  out["parameters"] = parameters;
  out["parameters_by_type"] = summary.values_by_type;
  for (const auto& [key, text] : summary.notes) out[key] = text;
  // Whose weights it was made for is checked when they are loaded.
  const Result<RetrievalProfile> profile = ReadProfile(ProfilePathOf(path), "", config);
  if (profile.ok()) {
    out["retrieval_profile"] = ProfileJson(*profile);
  } else if (profile.status().code() == memory::Code::kNotFound) {
    out["retrieval_profile"] = ProfileJson(AssumedProfile(config));
  } else {
    out["retrieval_profile"] = {{"path", ProfilePathOf(path)},
                                {"error", profile.status().message()}};
  }
  return TextOf(out);
}

std::string AdapterJson(const std::string& path,
                        const std::function<std::string(const std::string& path)>& sha256_of_file) {
  const auto adapter = model::AdapterFile::Open(path);
  const model::AdapterConfig& config = adapter->config();
  json out = {
      {"path", path},
      {"kind", adapter->Kind()},
      {"base", config.base_model},
      {"rank", config.rank},
      {"alpha", config.alpha},
      {"rank_pattern", config.ranks},
      {"alpha_pattern", config.alphas},
      {"rslora", config.rslora},
      {"rope_scaling",
       config.rotary_scaling ? json(model::RotaryScalingText(*config.rotary_scaling)) : json()},
      {"targets",
       config.targets.pattern.empty() ? json(config.targets.names) : json(config.targets.pattern)},
      {"modules_to_save", config.modules_to_save},
      {"lora_modules", adapter->low_rank().size()},
      {"whole_tensors", adapter->whole().size()},
      {"parameters", adapter->Parameters()},
      {"file_bytes", adapter->bytes()},
      {"sha256", sha256_of_file(adapter->weights_path())}};
  if (const auto state = model::ReadTrainState(path)) {
    out["trained_steps"] = state->step;
    if (state->evaluated == state->step) out["held_out_loss"] = state->held_out_loss;
    if (state->step == 0) out["note"] = "of step 0: it is as it was before the run trained it";
  }
  return TextOf(out);
}

Result<std::string> ListJson(const memory::Archive& archive, const std::string& collection) {
  std::vector<memory::CollectionRecord> collections;
  if (collection.empty()) {
    EID_ASSIGN_OR_RETURN(collections, archive.Collections());
  } else {
    EID_ASSIGN_OR_RETURN(memory::CollectionRecord one, archive.Collection(collection));
    collections.push_back(std::move(one));
  }
  json out = {{"collections", json::array()}, {"sessions", json::array()}};
  if (const std::string lost = archive.LogDamage(); !lost.empty()) out["log_damage"] = lost;
  for (const memory::CollectionRecord& record : collections) {
    json entry = {{"name", record.name},
                  {"fingerprint", record.layout.fingerprint},
                  {"codec", kernels::CodecName(record.layout.codec)},
                  {"layers", record.layout.layers},
                  {"block_tokens", record.layout.block_tokens},
                  {"window", record.window},
                  {"sinks", record.sinks},
                  {"segment", record.segment},
                  {"read_with_span", record.read_with_span},
                  {"documents", json::array()}};
    EID_ASSIGN_OR_RETURN(std::vector<memory::DocumentRecord> documents,
                         archive.Documents(record.name));
    for (const memory::DocumentRecord& document : documents) {
      entry["documents"].push_back(DocumentJson(document));
    }
    out["collections"].push_back(std::move(entry));
  }
  if (collection.empty()) {
    EID_ASSIGN_OR_RETURN(std::vector<std::string> sessions, archive.Sessions());
    for (const std::string& name : sessions) out["sessions"].push_back({{"name", name}});
  }
  return TextOf(out);
}

Result<std::string> StatsJson(const memory::Archive& archive) {
  uint64_t documents = 0, incomplete = 0, blocks = 0, tokens = 0, text_bytes = 0;
  EID_ASSIGN_OR_RETURN(std::vector<memory::CollectionRecord> collections, archive.Collections());
  for (const memory::CollectionRecord& record : collections) {
    EID_ASSIGN_OR_RETURN(std::vector<memory::DocumentRecord> members,
                         archive.Documents(record.name));
    for (const memory::DocumentRecord& document : members) {
      ++(document.complete ? documents : incomplete);
      blocks += document.committed_blocks;
      tokens += document.committed_tokens;
      text_bytes += document.bytes;
    }
  }
  uint64_t session_blocks = 0, session_tokens = 0;
  EID_ASSIGN_OR_RETURN(std::vector<memory::LineageRecord> lineages, archive.store().Lineages());
  for (const memory::LineageRecord& lineage : lineages) {
    if (!lineage.owner.starts_with("session/")) continue;
    session_blocks += lineage.committed_blocks;
    session_tokens += lineage.committed_tokens;
  }
  EID_ASSIGN_OR_RETURN(uint64_t size, archive.SizeOnDisk());
  EID_ASSIGN_OR_RETURN(std::vector<std::string> sessions, archive.Sessions());
  const uint64_t all = tokens + session_tokens;
  json out = {
      {"path", archive.path()},
      {"bytes_on_disk", size},
      {"collections", collections.size()},
      {"documents", documents},
      {"incomplete", incomplete},
      {"blocks", blocks},
      {"tokens", tokens},
      {"text_bytes", text_bytes},
      {"sessions", sessions.size()},
      {"session_blocks", session_blocks},
      {"session_tokens", session_tokens},
      {"bytes_per_token", all == 0 ? 0.0 : static_cast<double>(size) / static_cast<double>(all)},
      {"pool", PoolJson(archive.store().pool_stats())}};
  return TextOf(out);
}

std::string VerifyJson(const memory::VerifyReport& report) {
  json out = {{"clean", report.clean()},
              {"records", report.records},
              {"damaged", json::array()},
              {"collections", json::array()}};
  for (const memory::Damage& damage : report.damage) {
    out["damaged"].push_back(
        {{"what", damage.what}, {"document", damage.document}, {"block", damage.block}});
  }
  for (const memory::CollectionDigest& digest : report.collections) {
    out["collections"].push_back({{"name", digest.collection},
                                  {"digest", digest.digest},
                                  {"documents", digest.documents},
                                  {"blocks", digest.blocks}});
  }
  return TextOf(out);
}

}  // namespace eidetic::sdk
