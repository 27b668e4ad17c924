#include "sdk/forget_report.h"

#include <nlohmann/json.hpp>

namespace eidetic::sdk {

using nlohmann::json;

std::string ForgetJson(const memory::ForgetReceipt& receipt) {
  json documents = json::array(), sessions = json::array(), seen = json::array();
  for (const memory::ForgottenDocument& one : receipt.documents) {
    documents.push_back({{"id", one.document},
                         {"collection", one.collection},
                         {"source", one.source},
                         {"whole", one.whole},
                         {"byte_begin", one.byte_begin},
                         {"byte_end", one.byte_end},
                         {"blocks", one.blocks}});
  }
  for (const memory::TouchedSession& one : receipt.sessions) {
    sessions.push_back({{"name", one.name},
                        {"removed", one.removed},
                        {"turns", one.turns},
                        {"stands_at", one.stands_at},
                        {"waiting", one.waiting}});
  }
  for (const memory::SeenBy& one : receipt.seen) {
    seen.push_back({{"session", one.session}, {"turn", one.turn}});
  }
  json told = {{"dry_run", receipt.dry_run},
               {"documents", std::move(documents)},
               {"collections", receipt.collections},
               {"sessions", std::move(sessions)},
               {"seen", std::move(seen)},
               {"blocks", receipt.blocks},
               {"representatives", receipt.representatives},
               {"text_bytes", receipt.text_bytes},
               {"turns", receipt.turns},
               {"snapshots", receipt.snapshots},
               {"word_entries", receipt.word_entries},
               {"undated", receipt.undated}};
  if (receipt.scan) {
    told["files"] = {{"clean", receipt.scan->clean()},       {"files", receipt.scan->files},
                     {"bytes", receipt.scan->bytes},         {"samples", receipt.scan->samples},
                     {"elsewhere", receipt.scan->elsewhere}, {"found", receipt.scan->found}};
  }
  return told.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace eidetic::sdk
