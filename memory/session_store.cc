#include "memory/session_store.h"

#include <algorithm>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/blob.h"
#include "memory/format.h"
#include "memory/session_catalog.h"
#include "memory/session_format.h"
#include "memory/session_retention.h"

namespace eidetic::memory {
namespace {

Status Damaged(const SessionHead& session, const TurnHeader& turn, const std::string& what) {
  return Status(Code::kCorruption,
                "session " + session.name + ", turn " + std::to_string(turn.turn) + ": " + what,
                "run `eidetic memory verify`; rewind the session to a turn before it, or restore "
                "the archive from a backup");
}

// The caller's values, before anything is written.
Status CheckCommit(const TurnCommit& commit) {
  if (!commit.name.empty()) {
    EID_RETURN_IF_ERROR(CheckName("turn", commit.name, format::kMaxTurnNameBytes));
  }
  if (commit.time < 0) {
    return Status(Code::kInvalidArgument,
                  "a turn's time is " + std::to_string(commit.time) + " ms, before 1970");
  }
  if (commit.state.empty()) return Status(Code::kInvalidArgument, "a turn's state is empty");
  if (commit.settings.size() > format::kMaxSettingsBytes) {
    return Status(Code::kInvalidArgument,
                  "a session's settings have " + std::to_string(commit.settings.size()) +
                      " bytes, at most " + std::to_string(format::kMaxSettingsBytes));
  }
  return format::CheckContent(commit.content);
}

Status CheckPlaces(const TurnHeader& turn) {
  const auto whole = [&](uint64_t position) {
    return position % kRowTokens == 0 || position == turn.token_end;
  };
  if (turn.sinks <= turn.token_end && turn.window_begin <= turn.token_end && whole(turn.sinks) &&
      whole(turn.window_begin)) {
    return {};
  }
  return Status(Code::kInvalidArgument,
                "turn " + std::to_string(turn.turn) + " up to token " +
                    std::to_string(turn.token_end) + " has " + std::to_string(turn.sinks) +
                    " sinks and a window from " + std::to_string(turn.window_begin) +
                    ": both must be multiples of " + std::to_string(kRowTokens) +
                    ", or where the session ends");
}

// The path with the turn that `lineage` is about to commit, whose place is not filled in yet.
Status ExtendPath(const SessionCatalog& catalog, const LineageWriter& lineage, SessionHead* head) {
  if (head->writes == lineage.lineage()) return {};
  const PathEntry last = head->path.empty() ? PathEntry() : head->path.back();
  if (head->writes != 0 || lineage.begin() != last.blocks || lineage.lineage() <= last.lineage ||
      catalog.turns.contains(lineage.lineage())) {
    return Status(Code::kInvalidArgument,
                  "session " + head->name + " cannot go on in lineage " +
                      std::to_string(lineage.lineage()) + ", which begins at position " +
                      std::to_string(lineage.begin()) + "; its blocks end at " +
                      std::to_string(last.blocks),
                  "go on in its own lineage, or in a new one that begins there");
  }
  head->path.push_back({lineage.lineage(), last.last_turn, last.tokens, last.blocks});
  head->writes = lineage.lineage();
  return {};
}

uint32_t ChunksOf(const std::string& state) {
  return static_cast<uint32_t>((state.size() + format::kBlobChunkBytes - 1) /
                               format::kBlobChunkBytes);
}

template <typename Value>
void Put(std::string key, Value encode, RecordBatch* batch) {
  std::string value = encode(key);
  batch->Put(Family::kSessions, std::move(key), std::move(value));
}

void PutTurn(const TurnHeader& turn, RecordBatch* batch) {
  Put(
      format::TurnKey(turn.lineage, turn.turn),
      [&](const std::string& key) { return format::EncodeTurn(key, turn); }, batch);
}

}  // namespace

SessionStore::SessionStore(std::shared_ptr<RecordStore> records, BlockStore* blocks, bool read_only,
                           RemovalLock removal, DocumentLineages documents)
    : records_(std::move(records)),
      blocks_(blocks),
      read_only_(read_only),
      removal_(std::move(removal)),
      documents_(std::move(documents)) {}

SessionStore::~SessionStore() = default;

Status SessionStore::CheckWritable() const {
  if (!read_only_) return {};
  return Status(Code::kInvalidArgument, "the archive was opened read-only",
                "open it without read_only to write");
}

Result<SessionCatalog*> SessionStore::Current() const {
  if (catalog_ == nullptr || read_only_) {
    EID_ASSIGN_OR_RETURN(SessionCatalog loaded, SessionCatalog::Load(*records_));
    catalog_ = std::make_unique<SessionCatalog>(std::move(loaded));
  }
  return catalog_.get();
}

Result<SessionHead> SessionStore::FindHead(const SessionCatalog& catalog,
                                           const std::string& name) const {
  EID_RETURN_IF_ERROR(CheckName("session", name, format::kMaxNameBytes));
  const auto found = catalog.heads.find(name);
  if (found != catalog.heads.end()) return found->second;
  const std::string key = format::HeadKey(name);
  Result<std::string> value = records_->Get(Family::kSessions, key);
  if (value.ok()) {  // damaged, or it would be known
    Result<SessionHead> head = format::DecodeHead(key, *value);
    if (head.ok()) return head;
    return Status(head.status().code(), "session " + name + ": " + head.status().message(),
                  head.status().remedy());
  }
  if (value.status().code() != Code::kNotFound) return value.status();
  return Status(Code::kNotFound, "there is no session " + name + " in the archive",
                "`eidetic sessions list` shows the sessions there are");
}

Result<std::vector<SessionHead>> SessionStore::List() const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  EID_RETURN_IF_ERROR(catalog->damage);
  std::vector<SessionHead> heads;
  for (const auto& [name, head] : catalog->heads) heads.push_back(head);
  return heads;
}

Result<SessionHead> SessionStore::Find(const std::string& name) const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  return FindHead(*catalog, name);
}

Result<std::vector<TurnHeader>> SessionStore::Turns(const std::string& name) const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  EID_ASSIGN_OR_RETURN(const SessionHead head, FindHead(*catalog, name));
  std::vector<TurnHeader> turns;
  for (TurnNumber number = 1; number <= head.turns(); ++number) {
    EID_ASSIGN_OR_RETURN(const TurnHeader* turn, catalog->Find(head, number));
    turns.push_back(*turn);
  }
  return turns;
}

Result<std::vector<WaitingTurn>> SessionStore::Waiting(const std::string& name) const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  EID_RETURN_IF_ERROR(FindHead(*catalog, name).status());
  std::vector<WaitingTurn> turns;
  const auto waiting = catalog->waiting.find(name);
  if (waiting == catalog->waiting.end()) return turns;
  for (const auto& [number, header] : waiting->second) {
    EID_ASSIGN_OR_RETURN(WaitingTurn turn, ReadWaiting(name, number));
    turns.push_back(std::move(turn));
  }
  return turns;
}

Result<std::map<std::string, uint64_t>> SessionStore::CountWaiting() const {
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(const SessionCatalog* catalog, Current());
  std::map<std::string, uint64_t> counts;
  for (const auto& [name, turns] : catalog->waiting) {
    for (const auto& [number, turn] : turns) {
      if (!turn.forgotten) ++counts[name];
    }
  }
  return counts;
}

Status SessionStore::UnlessGone(const TurnHeader& turn, bool snapshot, Status damage) const {
  const std::string key = format::TurnKey(turn.lineage, turn.turn);
  const Result<std::string> value = records_->Get(Family::kSessions, key);
  bool gone = value.status().code() == Code::kNotFound;
  if (value.ok() && snapshot) {
    const Result<TurnHeader> now = format::DecodeTurn(key, *value);
    gone = now.ok() && !now->has_snapshot();
  }
  if (!gone) return damage;
  return Status(Code::kNotFound,
                std::string(snapshot ? "the snapshot of turn " : "turn ") +
                    std::to_string(turn.turn) + " of lineage " + std::to_string(turn.lineage) +
                    " was removed meanwhile",
                "look at the session's turns again");
}

Result<TurnContent> SessionStore::Content(const TurnHeader& turn) const {
  const std::string key = format::ContentKey(turn.lineage, turn.turn);
  Result<std::string> value = records_->Get(Family::kSessions, key);
  if (!value.ok()) {
    if (value.status().code() != Code::kNotFound) return value.status();
    return UnlessGone(turn, /*snapshot=*/false,
                      Status(Code::kCorruption,
                             "what turn " + std::to_string(turn.turn) + " of lineage " +
                                 std::to_string(turn.lineage) + " read is missing",
                             "run `eidetic memory verify`, and restore the archive from a backup"));
  }
  return format::DecodeContent(key, *value);
}

Result<Snapshot> SessionStore::ReadSnapshot(const SessionHead& session,
                                            const TurnHeader& turn) const {
  Snapshot snapshot;
  Result<std::string> state =
      ReadBlob(*records_, Family::kSessions, format::SnapshotPrefix(turn.lineage, turn.turn));
  if (!state.ok()) {
    if (state.status().code() != Code::kNotFound) return state.status();
    return UnlessGone(turn, true, Damaged(session, turn, "its state is missing"));
  }
  snapshot.state = std::move(state).value();
  for (const auto& [lineage, ranges] : RowsOfSnapshot(session.path, turn)) {
    for (const RowRange& range : ranges) {
      uint64_t at = range.begin;
      EID_RETURN_IF_ERROR(records_->Scan(
          Family::kSessions, format::RowsKey(lineage, range.begin),
          format::RowsKey(lineage, range.end),
          [&](std::string_view key, std::string_view value) -> Status {
            EID_ASSIGN_OR_RETURN(WindowRows rows, format::DecodeRows(key, value));
            if (rows.begin != at || rows.end > range.end) {
              return UnlessGone(
                  turn, true,
                  Damaged(session, turn,
                          "the keys and values of its window are not whole at token " +
                              std::to_string(at)));
            }
            at = rows.end;
            snapshot.rows.push_back(std::move(rows));
            return {};
          }));
      if (at == range.end) continue;
      return UnlessGone(turn, true,
                        Damaged(session, turn,
                                "keys and values of its window are missing, from token " +
                                    std::to_string(at) + " to " + std::to_string(range.end)));
    }
  }
  std::sort(snapshot.rows.begin(), snapshot.rows.end(),
            [](const WindowRows& a, const WindowRows& b) { return a.begin < b.begin; });
  return snapshot;
}

Status SessionStore::PutPieces(const SessionCatalog& catalog, const SessionHead& session,
                               const TurnHeader& turn, uint64_t from, const RowsOf& rows,
                               RecordBatch* batch) const {
  for (const auto& [lineage, ranges] : RowsOfSnapshot(session.path, turn)) {
    for (RowRange range : ranges) {
      range.begin = std::max(range.begin, from);
      if (range.begin >= range.end) continue;
      for (const RowRange& piece : PiecesOf(catalog, lineage, range)) {
        EID_ASSIGN_OR_RETURN(std::string bytes, rows(piece.begin, piece.end));
        const WindowRows put{piece.begin, piece.end, std::move(bytes)};
        Put(
            format::RowsKey(lineage, piece.begin),
            [&](const std::string& key) { return format::EncodeRows(key, put); }, batch);
      }
    }
  }
  return {};
}

Result<TurnReceipt> SessionStore::CommitTurn(const std::string& name, LineageWriter* lineage,
                                             TurnCommit commit) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(CheckName("session", name, format::kMaxNameBytes));
  EID_RETURN_IF_ERROR(CheckCommit(commit));
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(SessionCatalog * catalog, Current());
  Result<SessionHead> found = FindHead(*catalog, name);
  if (!found.ok() && found.status().code() != Code::kNotFound) return found.status();
  SessionHead head;
  if (found.ok()) {
    head = std::move(found).value();
  } else {
    head.name = name;
    head.created = commit.time;
    head.settings = std::move(commit.settings);
  }
  const auto waits = catalog->waiting.find(name);
  if (!commit.waiting) EID_RETURN_IF_ERROR(CheckNoneWaiting(*catalog, name));
  if (commit.waiting && waits == catalog->waiting.end()) {
    return Status(Code::kInvalidArgument, "session " + name + " has no turn to read again");
  }
  if (!commit.waiting) head.changed = commit.time;
  EID_RETURN_IF_ERROR(ExtendPath(*catalog, *lineage, &head));

  TurnReceipt receipt;
  TurnHeader& turn = receipt.turn;
  PathEntry& entry = head.path.back();
  turn.lineage = entry.lineage;
  turn.turn = ++entry.last_turn;
  turn.name = std::move(commit.name);
  turn.time = commit.time;
  if (commit.waiting) {
    const WaitingTurn& read = waits->second.begin()->second;
    if (read.turn != turn.turn) {
      return Status(Code::kCorruption,
                    "session " + name + " stands at turn " + std::to_string(turn.turn - 1) +
                        ", and the first turn to read again is number " + std::to_string(read.turn),
                    "run `eidetic memory verify`, and restore the archive from a backup");
    }
    turn.name = read.name;
    turn.time = read.time;
    turn.forgotten = read.forgotten;
    turn.first = read.first;
  }
  turn.token_begin = entry.tokens;
  turn.token_end = entry.tokens + commit.content.tokens.size();
  turn.blocks = lineage->position();
  turn.block_count = lineage->blocks_appended();
  turn.window_begin = commit.window_begin;
  turn.sinks = commit.sinks;
  turn.replayable = commit.replayable;
  turn.snapshot_chunks = ChunksOf(commit.state);
  EID_RETURN_IF_ERROR(CheckPlaces(turn));
  entry.tokens = turn.token_end;
  entry.blocks = turn.blocks;

  RecordBatch batch;
  if (commit.waiting) {
    batch.Delete(Family::kSessions, format::WaitingKey(name, turn.turn));
  }
  Put(
      format::ContentKey(turn.lineage, turn.turn),
      [&](const std::string& key) { return format::EncodeContent(key, commit.content); }, &batch);
  EID_RETURN_IF_ERROR(PutBlob(*records_, Family::kSessions,
                              format::SnapshotPrefix(turn.lineage, turn.turn), commit.state,
                              &batch));
  std::string().swap(commit.state);
  PutTurn(turn, &batch);
  // With the snapshot of the turn before stand the rows of its window; without it, none may be
  // left.
  bool follows = false;
  if (turn.turn > 1) {
    EID_ASSIGN_OR_RETURN(const TurnHeader* last, catalog->Find(head, turn.turn - 1));
    follows = last->has_snapshot();
  }
  EID_RETURN_IF_ERROR(
      PutPieces(*catalog, head, turn, follows ? turn.token_begin : 0, commit.rows, &batch));
  Put(
      format::HeadKey(name), [&](const std::string& key) { return format::EncodeHead(key, head); },
      &batch);
  // The record of before there were turns: its state is that of this first one's beginning.
  const std::string saved = format::SessionPrefix(name);
  if (head.turns() == 1 && records_->Get(Family::kSessions, format::BlobKey(saved, 0)).ok()) {
    batch.DeleteRange(Family::kSessions, saved, format::PrefixEnd(saved));
  }

  // The catalog as it will be; what it was before is needed only when the write fails.
  const LineageId root = RootOf(head);
  const auto old_head = catalog->heads.find(name);
  const bool is_new = old_head == catalog->heads.end();
  const SessionHead before = is_new ? SessionHead() : old_head->second;
  catalog->heads[name] = head;
  catalog->turns[turn.lineage][turn.turn] = turn;
  std::vector<TurnHeader> dropped;
  if (catalog->damage.ok()) {
    const auto present = RowsOfSnapshots(*catalog, root, PresentSnapshots(*catalog, root));
    dropped = DropSnapshots(*catalog, root, present, &batch);
  }
  receipt.bytes = batch.bytes();
  const Status written = lineage->Commit(std::move(batch));
  if (!written.ok()) {
    if (is_new) {
      catalog->heads.erase(name);
    } else {
      catalog->heads[name] = before;
    }
    catalog->turns[turn.lineage].erase(turn.turn);
    if (catalog->turns[turn.lineage].empty()) catalog->turns.erase(turn.lineage);
    return written;
  }
  for (TurnHeader& one : dropped) catalog->turns[one.lineage][one.turn] = std::move(one);
  if (commit.waiting) {
    waits->second.erase(turn.turn);
    if (waits->second.empty()) catalog->waiting.erase(waits);
  }
  return receipt;
}

Status SessionStore::PutSnapshot(const std::string& name, const std::string& state,
                                 const RowsOf& rows) {
  EID_RETURN_IF_ERROR(CheckWritable());
  if (state.empty()) return Status(Code::kInvalidArgument, "a turn's state is empty");
  std::lock_guard lock(mutex_);
  EID_ASSIGN_OR_RETURN(SessionCatalog * catalog, Current());
  EID_ASSIGN_OR_RETURN(const SessionHead head, FindHead(*catalog, name));
  EID_ASSIGN_OR_RETURN(const TurnHeader* found, catalog->Find(head, head.turns()));
  if (found->has_snapshot()) return {};
  TurnHeader turn = *found;
  turn.snapshot_chunks = ChunksOf(state);
  RecordBatch batch;
  EID_RETURN_IF_ERROR(PutBlob(*records_, Family::kSessions,
                              format::SnapshotPrefix(turn.lineage, turn.turn), state, &batch));
  PutTurn(turn, &batch);
  EID_RETURN_IF_ERROR(PutPieces(*catalog, head, turn, 0, rows, &batch));
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  catalog->turns[turn.lineage][turn.turn] = turn;
  return {};
}

}  // namespace eidetic::memory
