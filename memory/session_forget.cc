// Forgetting turns in every session that sees them (docs/decisions/070).
#include <algorithm>
#include <iterator>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/forget.h"
#include "memory/forgotten_bytes.h"
#include "memory/format.h"
#include "memory/session_catalog.h"
#include "memory/session_format.h"
#include "memory/session_retention.h"
#include "memory/session_store.h"

namespace eidetic::memory {
namespace {

// A turn of a session, read or waiting to be read again.
struct AnyTurn {
  TurnNumber turn = 0;
  TurnId origin = {};
  int64_t time = 0;
  bool forgotten = false;
  const TurnHeader* read = nullptr;  // null: it waits
};

Result<std::vector<AnyTurn>> TurnsOf(const SessionCatalog& catalog, const SessionHead& head) {
  std::vector<AnyTurn> turns;
  for (TurnNumber number = 1; number <= head.turns(); ++number) {
    EID_ASSIGN_OR_RETURN(const TurnHeader* turn, catalog.Find(head, number));
    turns.push_back({number, turn->origin(), turn->time, turn->forgotten, turn});
  }
  const auto waiting = catalog.waiting.find(head.name);
  if (waiting == catalog.waiting.end()) return turns;
  for (const auto& [number, turn] : waiting->second) {
    turns.push_back({number, turn.first, turn.time, turn.forgotten, nullptr});
  }
  return turns;
}

Status NoTurn(const ForgetRequest& request, size_t turns) {
  return Status(Code::kNotFound,
                "session " + request.session + " has no turn " + std::to_string(request.turn) +
                    ", it has " + std::to_string(turns),
                "`eidetic sessions show` lists a session's turns");
}

}  // namespace

Result<WaitingTurn> SessionStore::ReadWaiting(const std::string& name, TurnNumber turn) const {
  const std::string key = format::WaitingKey(name, turn);
  Result<std::string> value = records_->Get(Family::kSessions, key);
  if (!value.ok()) {
    if (value.status().code() != Code::kNotFound) return value.status();
    return Status(Code::kCorruption,
                  "session " + name + ": what turn " + std::to_string(turn) + " read is missing",
                  "run `eidetic memory verify`, and restore the archive from a backup");
  }
  return format::DecodeWaiting(key, *value);
}

Result<std::set<TurnId>> SessionStore::TurnsToForget(const SessionCatalog& catalog,
                                                     const ForgetRequest& request) const {
  std::set<TurnId> forgotten;
  for (const auto& [name, head] : catalog.heads) {
    if (!request.session.empty() && name != request.session) continue;
    EID_ASSIGN_OR_RETURN(const std::vector<AnyTurn> turns, TurnsOf(catalog, head));
    if (request.turn > turns.size()) return NoTurn(request, turns.size());
    for (const AnyTurn& turn : turns) {
      if (turn.forgotten || (request.turn != 0 && turn.turn != request.turn)) continue;
      if (request.before != 0 && turn.time >= request.before) continue;
      forgotten.insert(turn.origin);
    }
  }
  if (request.turn != 0 && forgotten.empty()) {
    return Status(Code::kNotFound, "turn " + std::to_string(request.turn) + " of session " +
                                       request.session + " was forgotten already");
  }
  return forgotten;
}

// Leaves out what is forgotten of one session: it goes back to the last turn that it can be opened
// at without it, and what comes after that waits to be read again.
Status SessionStore::ForgetIn(const SessionHead& head, const std::set<TurnId>& forgotten,
                              SessionCatalog* after, RecordBatch* batch,
                              ForgetReceipt* receipt) const {
  EID_ASSIGN_OR_RETURN(const std::vector<AnyTurn> turns, TurnsOf(*catalog_, head));
  const auto goes = [&](const AnyTurn& turn) { return forgotten.contains(turn.origin); };
  const auto first = std::find_if(turns.begin(), turns.end(), goes);
  if (first == turns.end()) return {};

  TouchedSession touched;
  touched.name = head.name;
  touched.turns = static_cast<uint64_t>(std::count_if(turns.begin(), turns.end(), goes));
  after->waiting.erase(head.name);
  RemoveWaiting(head.name, batch);
  if (std::all_of(turns.begin(), turns.end(),
                  [&](const AnyTurn& turn) { return turn.forgotten || goes(turn); })) {
    touched.removed = true;
    batch->Delete(Family::kSessions, format::HeadKey(head.name));
    after->heads.erase(head.name);
    receipt->sessions.push_back(std::move(touched));
    return {};
  }

  EID_ASSIGN_OR_RETURN(touched.stands_at,
                       LastReachable(*catalog_, head, std::min(first->turn - 1, head.turns())));
  SessionHead cut = head;
  if (touched.stands_at == 0) {
    cut.path.clear();
    cut.writes = 0;
  } else if (touched.stands_at < head.turns()) {
    EID_ASSIGN_OR_RETURN(cut, CutHead(*catalog_, head.name, touched.stands_at));
  }
  // Forgotten turns at the end need no place: nothing comes after them.
  size_t end = turns.size();
  while (end > touched.stands_at && (turns[end - 1].forgotten || goes(turns[end - 1]))) --end;
  for (size_t i = touched.stands_at; i < end; ++i) {
    const AnyTurn& turn = turns[i];
    WaitingTurn waiting;
    waiting.forgotten = turn.forgotten || goes(turn);
    if (waiting.forgotten) {
      waiting.time = turn.time;
    } else if (turn.read == nullptr) {
      EID_ASSIGN_OR_RETURN(waiting, ReadWaiting(head.name, turn.turn));
    } else {
      waiting.name = turn.read->name;
      waiting.time = turn.read->time;
      waiting.first = turn.origin;
      EID_ASSIGN_OR_RETURN(waiting.content, Content(*turn.read));
    }
    waiting.turn = turn.turn;
    const std::string key = format::WaitingKey(head.name, turn.turn);
    batch->Put(Family::kSessions, key, format::EncodeWaiting(key, waiting));
    waiting.content = {};
    after->waiting[head.name].emplace(turn.turn, std::move(waiting));
    ++touched.waiting;
  }
  const std::string key = format::HeadKey(head.name);
  batch->Put(Family::kSessions, key, format::EncodeHead(key, cut));
  after->heads[head.name] = std::move(cut);
  receipt->sessions.push_back(std::move(touched));
  return {};
}

// Texts of turns, and samples of them and of their tokens.
Status SessionStore::TellTurns(const SessionCatalog& catalog, const std::set<TurnId>& forgotten,
                               ForgetReceipt* receipt, ForgottenBytes* samples) const {
  std::set<TurnId> told;
  for (const auto& [name, head] : catalog.heads) {
    EID_ASSIGN_OR_RETURN(const std::vector<AnyTurn> turns, TurnsOf(catalog, head));
    for (const AnyTurn& turn : turns) {
      if (!forgotten.contains(turn.origin) || !told.insert(turn.origin).second) continue;
      TurnContent content;
      if (turn.read != nullptr) {
        EID_ASSIGN_OR_RETURN(content, Content(*turn.read));
      } else {
        EID_ASSIGN_OR_RETURN(WaitingTurn waiting, ReadWaiting(name, turn.turn));
        content = std::move(waiting.content);
      }
      for (const TurnPart& part : content.parts) {
        receipt->text_bytes += part.text.size();
        if (samples != nullptr) samples->Add(part.text);
      }
      if (samples != nullptr) {
        samples->Add({reinterpret_cast<const char*>(content.tokens.data()),
                      content.tokens.size() * sizeof(int32_t)},
                     ForgottenBytes::kLong);
      }
    }
  }
  receipt->turns += told.size();
  return {};
}

Status SessionStore::TellBlocks(const SessionCatalog& before, const SessionCatalog& after,
                                const std::vector<LineageId>& shortened,
                                ForgetReceipt* receipt) const {
  const std::map<LineageId, TurnNumber> seen = after.SeenTurns();
  for (const LineageId id : shortened) {
    EID_ASSIGN_OR_RETURN(const LineageRecord lineage, blocks_->Lineage(id));
    uint64_t end = 0;  // of the blocks that stay
    if (const auto now = seen.find(id); now != seen.end()) {
      const TurnHeader* last = before.Find(id, now->second);
      if (last != nullptr) end = last->blocks;
    }
    EID_RETURN_IF_ERROR(
        blocks_->ScanBlocks(id, [&](const BlockHeader& header, const std::vector<uint16_t>& means) {
          if (header.position < end) return Status();
          ++receipt->blocks;
          receipt->representatives += means.size() / static_cast<size_t>(lineage.layout.head_dim);
          return Status();
        }));
  }
  return {};
}

bool SessionStore::IsSaved(const std::string& name) const {
  return records_->Get(Family::kSessions, format::BlobKey(format::SessionPrefix(name), 0)).ok();
}

Result<std::vector<LineageId>> SessionStore::Forget(const ForgetRequest& request, RecordBatch batch,
                                                    ForgetReceipt* receipt,
                                                    ForgottenBytes* samples) {
  std::lock_guard lock(mutex_);
  SessionCatalog after;
  std::vector<LineageId> shortened;
  const bool of_turns =
      !request.session.empty() || (request.before != 0 && request.collection.empty());
  if (of_turns) {
    EID_ASSIGN_OR_RETURN(SessionCatalog * catalog, Current());
    EID_RETURN_IF_ERROR(catalog->damage);
    after = *catalog;
    const Status there =
        request.session.empty() ? Status() : FindHead(*catalog, request.session).status();
    if (there.code() == Code::kNotFound && IsSaved(request.session)) {
      EID_RETURN_IF_ERROR(ForgetSaved(request, &batch, receipt, &shortened));
    } else {
      EID_RETURN_IF_ERROR(there);
      EID_RETURN_IF_ERROR(ForgetTurns(request, &after, &batch, receipt, samples, &shortened));
    }
    EID_RETURN_IF_ERROR(TellBlocks(*catalog, after, shortened, receipt));
  }
  if (request.dry_run || batch.changes().empty()) return shortened;
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  if (of_turns) {
    *catalog_ = std::move(after);
    for (LineageId lineage : shortened) blocks_->ForgetPooled(lineage);
  }
  return shortened;
}

Status SessionStore::ForgetSaved(const ForgetRequest& request, RecordBatch* batch,
                                 ForgetReceipt* receipt, std::vector<LineageId>* removed) const {
  if (request.turn != 0 || request.before != 0) {
    return Status(Code::kUnsupported,
                  "session " + request.session +
                      " was saved before there were turns: no part of it can be forgotten",
                  "open it and save it once, or forget all of it");
  }
  TouchedSession touched;
  touched.name = request.session;
  touched.removed = true;
  receipt->sessions.push_back(std::move(touched));
  ++receipt->snapshots;
  return AddSaved(request.session, batch, removed);
}

Status SessionStore::ForgetTurns(const ForgetRequest& request, SessionCatalog* after,
                                 RecordBatch* batch, ForgetReceipt* receipt,
                                 ForgottenBytes* samples, std::vector<LineageId>* shortened) const {
  EID_ASSIGN_OR_RETURN(const std::set<TurnId> forgotten, TurnsToForget(*catalog_, request));
  std::set<LineageId> roots;
  for (const auto& [name, head] : catalog_->heads) {
    const size_t touched = receipt->sessions.size();
    EID_RETURN_IF_ERROR(ForgetIn(head, forgotten, after, batch, receipt));
    if (receipt->sessions.size() > touched && !head.path.empty()) roots.insert(RootOf(head));
  }
  EID_RETURN_IF_ERROR(TellTurns(*catalog_, forgotten, receipt, samples));
  const auto snapshots_of = [&](const SessionCatalog& catalog) {
    uint64_t count = 0;
    for (const LineageId root : roots) count += PresentSnapshots(catalog, root).size();
    return count;
  };
  EID_RETURN_IF_ERROR(AddUnseen(roots, after, batch, shortened));
  receipt->snapshots += snapshots_of(*catalog_) - snapshots_of(*after);
  return {};
}

Result<std::vector<std::pair<std::string, TurnNumber>>> SessionStore::RecallersOf(
    const std::string& collection, const std::set<LineageId>& lineages) const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  std::vector<std::pair<std::string, TurnNumber>> recallers;
  if (lineages.empty()) return recallers;
  // What a view held is known by a digest alone: that it could hold one of them is enough.
  const auto could = [&](const TurnContent& content) {
    return std::any_of(content.passes.begin(), content.passes.end(), [&](const PassRun& pass) {
      const auto& views = content.views[pass.view].collections;
      return pass.use_span && std::any_of(views.begin(), views.end(), [&](const CollectionView& v) {
               return v.collection == collection && v.last >= *lineages.begin();
             });
    });
  };
  std::map<TurnId, bool> known;  // forks share turns
  for (const auto& [name, head] : catalog->heads) {
    for (TurnNumber number = 1; number <= head.turns(); ++number) {
      EID_ASSIGN_OR_RETURN(const TurnHeader* turn, catalog->Find(head, number));
      const TurnId id(turn->lineage, turn->turn);
      auto found = known.find(id);
      if (found == known.end()) {
        EID_ASSIGN_OR_RETURN(const TurnContent content, Content(*turn));
        found = known.emplace(id, could(content)).first;
      }
      if (!found->second) continue;
      recallers.emplace_back(name, number);
      break;
    }
  }
  return recallers;
}

}  // namespace eidetic::memory
