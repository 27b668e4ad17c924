// Forks and rewinds of sessions, and the removal of what none of them sees any more.
#include <algorithm>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/format.h"
#include "memory/session_catalog.h"
#include "memory/session_format.h"
#include "memory/session_retention.h"
#include "memory/session_store.h"

namespace eidetic::memory {
namespace {

void RemoveRange(std::string begin, RecordBatch* batch) {
  std::string end = format::LineageEnd(begin);
  batch->DeleteRange(Family::kSessions, std::move(begin), std::move(end));
}

// All turns of a lineage from `turn` on; their rows begin at `tokens`.
void RemoveTurnsFrom(LineageId lineage, TurnNumber turn, uint64_t tokens, RecordBatch* batch) {
  RemoveRange(format::TurnKey(lineage, turn), batch);
  RemoveRange(format::ContentKey(lineage, turn), batch);
  RemoveRange(format::SnapshotPrefix(lineage, turn), batch);
  RemoveRange(format::RowsKey(lineage, tokens), batch);
}

// Bytes of the states that snapshots have, at least: all chunks but the last are full.
uint64_t StateBytes(const SessionCatalog& catalog, LineageId root) {
  uint64_t bytes = 0;
  for (const TurnId& id : PresentSnapshots(catalog, root)) {
    bytes += (catalog.Find(id.first, id.second)->snapshot_chunks - 1) * format::kBlobChunkBytes;
  }
  return bytes;
}

// Whether something that was recalled in this turn is gone.
Status CheckViews(const TurnContent& content, const SessionStore::DocumentLineages& documents) {
  for (const PassRun& pass : content.passes) {
    if (!pass.use_span) continue;
    for (const CollectionView& view : content.views[pass.view].collections) {
      EID_ASSIGN_OR_RETURN(const std::vector<LineageId> now, documents(view.collection));
      EID_RETURN_IF_ERROR(LineagesOfView(view, now).status());
    }
  }
  return {};
}

}  // namespace

void SessionStore::RemoveWaiting(const std::string& name, RecordBatch* batch) {
  const std::string prefix = format::WaitingPrefix(name);
  batch->DeleteRange(Family::kSessions, prefix, format::PrefixEnd(prefix));
}

void SessionStore::RemoveTurns(LineageId lineage, RecordBatch* batch) {
  RemoveTurnsFrom(lineage, 0, 0, batch);
}

Result<std::vector<LineageId>> SessionStore::SeenLineages() const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  EID_RETURN_IF_ERROR(catalog->damage);
  std::vector<LineageId> lineages;
  for (const auto& [lineage, turn] : catalog->SeenTurns()) lineages.push_back(lineage);
  return lineages;
}

Result<SessionHead> SessionStore::CutHead(const SessionCatalog& catalog, const std::string& name,
                                          TurnNumber turn) const {
  EID_ASSIGN_OR_RETURN(SessionHead head, FindHead(catalog, name));
  EID_ASSIGN_OR_RETURN(const TurnHeader* last, catalog.Find(head, turn));
  const auto holds = [&](const PathEntry& entry) { return entry.lineage == last->lineage; };
  const auto entry = std::find_if(head.path.begin(), head.path.end(), holds);
  *entry = {last->lineage, turn, last->token_end, last->blocks};
  head.path.erase(std::next(entry), head.path.end());
  head.writes = 0;
  return head;
}

Status SessionStore::CheckReachable(const SessionCatalog& catalog,
                                    const SessionHead& session) const {
  for (TurnNumber number = session.turns(); number > 0; --number) {
    EID_ASSIGN_OR_RETURN(const TurnHeader* turn, catalog.Find(session, number));
    if (turn->has_snapshot()) return {};
    EID_ASSIGN_OR_RETURN(const TurnContent content, Content(*turn));
    Status views = CheckViews(content, documents_);
    if (views.ok() && !turn->replayable) {
      views = Status(Code::kNotFound, "what it recalled came from elsewhere, or changed meanwhile");
    }
    if (views.ok()) continue;
    return Status(views.code(),
                  "turn " + std::to_string(session.turns()) + " of session " + session.name +
                      " can no longer be reached: it has no snapshot, and turn " +
                      std::to_string(number) + " cannot be read again: " + views.message(),
                  views.remedy());
  }
  return {};
}

Result<TurnNumber> SessionStore::LastReachable(const SessionCatalog& catalog,
                                               const SessionHead& head, TurnNumber turn) const {
  TurnNumber last = turn;
  for (TurnNumber number = turn; number > 0; --number) {
    EID_ASSIGN_OR_RETURN(const TurnHeader* one, catalog.Find(head, number));
    if (one->has_snapshot()) break;
    EID_ASSIGN_OR_RETURN(const TurnContent content, Content(*one));
    if (!one->replayable || !CheckViews(content, documents_).ok()) last = number - 1;
  }
  return last;
}

Status SessionStore::Fork(const std::string& from, TurnNumber turn, const std::string& to,
                          int64_t time) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(CheckName("session", to, format::kMaxNameBytes));
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(SessionCatalog * catalog, Current());
  if (const auto waits = catalog->waiting.find(from);
      waits != catalog->waiting.end() && waits->second.contains(turn)) {
    EID_RETURN_IF_ERROR(CheckNoneWaiting(*catalog, from));
  }
  EID_ASSIGN_OR_RETURN(SessionHead head, CutHead(*catalog, from, turn));
  EID_RETURN_IF_ERROR(CheckReachable(*catalog, head));
  const std::string key = format::HeadKey(to);
  const std::string saved = format::BlobKey(format::SessionPrefix(to), 0);
  for (const std::string& taken : {key, saved}) {
    const Status there = records_->Get(Family::kSessions, taken).status();
    if (there.code() == Code::kNotFound) continue;
    EID_RETURN_IF_ERROR(there);
    return Status(Code::kAlreadyExists, "there is a session " + to + " already",
                  "choose another name, or delete that session first");
  }
  head.name = to;
  head.forked_from = from;
  head.created = head.changed = time;
  RecordBatch batch;
  batch.Put(Family::kSessions, key, format::EncodeHead(key, head));
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  catalog->heads[to] = std::move(head);
  return {};
}

Status SessionStore::Rewind(const std::string& name, TurnNumber turn, int64_t time) {
  std::vector<KeyRange> emptied;
  EID_RETURN_IF_ERROR(RewindAndTell(name, turn, time, &emptied));
  Reclaim(emptied);
  return {};
}

Status SessionStore::RewindAndTell(const std::string& name, TurnNumber turn, int64_t time,
                                   std::vector<KeyRange>* emptied) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_ASSIGN_OR_RETURN(const auto removal, removal_());
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(SessionCatalog * catalog, Current());
  EID_RETURN_IF_ERROR(catalog->damage);
  const auto waits = catalog->waiting.find(name);
  if (waits != catalog->waiting.end() && waits->second.contains(turn)) {
    EID_RETURN_IF_ERROR(CheckNoneWaiting(*catalog, name));
  }
  EID_ASSIGN_OR_RETURN(SessionHead head, CutHead(*catalog, name, turn));
  const bool is_last = turn == catalog->heads.at(name).turns();
  if (is_last && waits == catalog->waiting.end()) return {};
  if (is_last) head.writes = catalog->heads.at(name).writes;
  EID_RETURN_IF_ERROR(CheckReachable(*catalog, head));
  head.changed = time;
  SessionCatalog after = *catalog;
  after.heads[name] = head;
  after.waiting.erase(name);
  RecordBatch batch;
  RemoveWaiting(name, &batch);
  const std::string key = format::HeadKey(name);
  batch.Put(Family::kSessions, key, format::EncodeHead(key, head));
  return RemoveUnseen(RootOf(head), std::move(after), std::move(batch), emptied);
}

// A session as Archive::CommitSession saved it: nobody but it sees its lineages.
Status SessionStore::AddSaved(const std::string& name, RecordBatch* batch,
                              std::vector<LineageId>* removed) const {
  const std::string prefix = format::SessionPrefix(name);
  batch->DeleteRange(Family::kSessions, prefix, format::PrefixEnd(prefix));
  EID_ASSIGN_OR_RETURN(const std::vector<LineageRecord> lineages, blocks_->Lineages());
  const std::map<LineageId, TurnNumber> seen = catalog_->SeenTurns();
  for (const LineageRecord& lineage : lineages) {
    if (lineage.owner != SessionOwner(name) || seen.contains(lineage.id)) continue;
    EID_RETURN_IF_ERROR(blocks_->RemoveLineage(lineage.id, batch));
    removed->push_back(lineage.id);
  }
  return {};
}

Status SessionStore::RemoveSaved(const std::string& name) {
  RecordBatch batch;
  std::vector<LineageId> removed;
  EID_RETURN_IF_ERROR(AddSaved(name, &batch, &removed));
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  for (LineageId lineage : removed) blocks_->ForgetPooled(lineage);
  return {};
}

Status SessionStore::Remove(const std::string& name) {
  std::vector<KeyRange> emptied;
  EID_RETURN_IF_ERROR(RemoveAndTell(name, &emptied));
  Reclaim(emptied);
  return {};
}

Status SessionStore::RemoveAndTell(const std::string& name, std::vector<KeyRange>* emptied) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_ASSIGN_OR_RETURN(const auto removal, removal_());
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(SessionCatalog * catalog, Current());
  const Result<SessionHead> found = FindHead(*catalog, name);
  RecordBatch batch;
  batch.Delete(Family::kSessions, format::HeadKey(name));
  RemoveWaiting(name, &batch);
  if (!found.ok()) {
    if (found.status().code() == Code::kNotFound && catalog->damage.ok() &&
        records_->Get(Family::kSessions, format::BlobKey(format::SessionPrefix(name), 0)).ok()) {
      return RemoveSaved(name);
    }
    if (found.status().code() != Code::kCorruption) return found.status();
    // What it saw is not known: the next opening sweeps it, when no other record is damaged.
    EID_RETURN_IF_ERROR(records_->Write(batch, true));
    catalog_.reset();
    return {};
  }
  EID_RETURN_IF_ERROR(catalog->damage);
  SessionCatalog after = *catalog;
  after.heads.erase(name);
  after.waiting.erase(name);
  return RemoveUnseen(RootOf(*found), std::move(after), std::move(batch), emptied);
}

Status SessionStore::CheckNoneWaiting(const SessionCatalog& catalog,
                                      const std::string& name) const {
  const auto waiting = catalog.waiting.find(name);
  if (waiting == catalog.waiting.end()) return {};
  return Status(Code::kInvalidArgument,
                std::to_string(waiting->second.size()) + " turns of session " + name +
                    " wait to be read again, since something before them was forgotten",
                "open the session and save it first: `eidetic generate --session` does");
}

Status SessionStore::AddUnseen(const std::set<LineageId>& roots, SessionCatalog* after,
                               RecordBatch* batch, std::vector<LineageId>* shortened) const {
  const std::map<LineageId, TurnNumber> seen_before = catalog_->SeenTurns();
  const std::map<LineageId, TurnNumber> seen = after->SeenTurns();
  // What snapshots need so far, of lineages that stay.
  std::map<LineageId, std::map<LineageId, std::vector<RowRange>>> present;
  for (const LineageId root : roots) {
    present[root] = RowsOfSnapshots(*catalog_, root, PresentSnapshots(*catalog_, root));
  }
  for (const auto& [lineage, last] : seen_before) {
    const auto now = seen.find(lineage);
    if (now != seen.end() && now->second == last) continue;
    shortened->push_back(lineage);
    if (now == seen.end()) {
      EID_RETURN_IF_ERROR(blocks_->RemoveLineage(lineage, batch));
      RemoveTurns(lineage, batch);
      after->turns.erase(lineage);
      for (auto& [root, rows] : present) rows.erase(lineage);
      continue;
    }
    const TurnHeader* end = after->Find(lineage, now->second);
    if (end == nullptr) {
      return Status(Code::kCorruption,
                    "the record of turn " + std::to_string(now->second) + " of lineage " +
                        std::to_string(lineage) + " is missing or damaged",
                    "run `eidetic memory verify`, and restore the archive from a backup");
    }
    EID_RETURN_IF_ERROR(blocks_->TruncateLineage(lineage, end->blocks, end->block_count, batch));
    RemoveTurnsFrom(lineage, end->turn + 1, end->token_end, batch);
    auto& turns = after->turns[lineage];
    turns.erase(turns.upper_bound(end->turn), turns.end());
  }
  for (const LineageId root : roots) {
    for (TurnHeader& turn : DropSnapshots(*after, root, present[root], batch)) {
      after->turns[turn.lineage][turn.turn] = std::move(turn);
    }
  }
  return {};
}

Status SessionStore::RemoveUnseen(LineageId root, SessionCatalog after, RecordBatch batch,
                                  std::vector<KeyRange>* emptied) {
  std::vector<LineageId> shortened;
  EID_RETURN_IF_ERROR(AddUnseen({root}, &after, &batch, &shortened));
  for (const LineageId lineage : shortened) {
    const Result<LineageRecord> record = blocks_->Lineage(lineage);
    if (!record.ok()) continue;
    const auto turns = after.turns.find(lineage);
    const uint64_t end =
        turns == after.turns.end() ? record->begin : turns->second.rbegin()->second.blocks;
    if (record->layout.PayloadBytes(record->committed_tokens - end) < kReclaimBytes) continue;
    const std::string prefix = format::LineagePrefix(lineage);
    for (const Family family : {Family::kBlocks, Family::kEmbeddings}) {
      emptied->push_back({family, prefix, format::PrefixEnd(prefix)});
    }
  }
  if (StateBytes(*catalog_, root) >= StateBytes(after, root) + kReclaimBytes) {
    emptied->push_back({Family::kSessions, {}, {}});
  }
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  *catalog_ = std::move(after);
  for (LineageId lineage : shortened) blocks_->ForgetPooled(lineage);
  return {};
}

void SessionStore::Reclaim(const std::vector<KeyRange>& emptied) const {
  for (const KeyRange& range : emptied) {
    // A failure leaves only space behind, which the next merge finds.
    static_cast<void>(records_->Reclaim(range.family, range.begin, range.end).ok());
  }
}

}  // namespace eidetic::memory
