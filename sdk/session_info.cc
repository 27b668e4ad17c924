// What a session tells of itself, as JSON.
#include <nlohmann/json.hpp>
#include <string>

#include "sdk/reports.h"
#include "sdk/session.h"

namespace eidetic::sdk {

std::string Session::InfoJson() const {
  const RecallRecord& record = recall_->record();
  int64_t memory_blocks = 0;
  for (const OwnPast& past : past_) memory_blocks += past.index->size();
  nlohmann::json info = {
      {"name", options_.name},
      {"mode", SessionModeName(options_.mode)},
      {"policy", RecallPolicyName(options_.policy)},
      {"options",
       {{"window", options_.window},
        {"sinks", options_.sinks},
        {"segment", options_.segment},
        {"span_blocks", options_.span_blocks},
        {"candidate_blocks", options_.candidate_blocks},
        {"successor_blocks", options_.successor_blocks},
        {"linger", options_.linger},
        {"query_offset", options_.query_offset},
        {"layer_group", options_.layer_group},
        {"codec", kernels::CodecName(options_.codec)},
        {"forget_own_past", options_.forget_own_past},
        {"span_layers", options_.span_layers},
        {"word_places", options_.words.places},
        {"seed", options_.seed}}},
      {"archive", archive_ != nullptr ? nlohmann::json(archive_->path()) : nlohmann::json()},
      {"position", tokens_.size()},
      {"turns", committed_turns_},
      {"window_begin", state_->window_begin()},
      {"state_bytes", state_->bytes()},
      {"memory_blocks", memory_blocks},
      {"collections", nlohmann::json::array()},
      {"last_answer",
       {{"selections", record.selections},
        {"recall_seconds", record.seconds},
        {"pinned_blocks", recall_->pinned().size()}}},
      {"forward_seconds", forward_seconds_}};
  for (const Attachment& attached : attachments_) {
    info["collections"].push_back({{"name", attached.collection},
                                   {"archive", attached.archive->path()},
                                   {"blocks", attached.index->size()},
                                   {"index_bytes", attached.index->bytes()},
                                   {"pool", PoolJson(attached.archive->store().pool_stats())}});
  }
  if (store_ != nullptr) info["pool"] = PoolJson(store_->pool_stats());
  return info.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace eidetic::sdk
