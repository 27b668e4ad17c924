// Sessions that are kept turn by turn: what each read, what its model's state was, and which
// lineages of blocks it sees. Forks and rewinds copy nothing; docs/formats/archive-v1.md has the
// bytes, docs/decisions/062 the reasons.
//
// A session is a path: lineages, each up to one of its turns. It writes to the last one, as long as
// nobody else has left it in the middle; a fork and a rewound session begin a new one with their
// next turn. A lineage's blocks, turns and window rows never change; they go when no session sees
// them any more.
//
// What a model needs to go on after a turn is its snapshot: an opaque state, and the keys and
// values of the tokens in its window, which are written once, with the turn that read them, in the
// window's own precision. Snapshots are kept of every session's last kSnapshotsKept turns, of named
// turns, of turns at which a session was left or ends, and of turns that cannot be replayed. Other
// turns are reached by reading their tokens again from the nearest snapshot before them.
//
// When a turn is forgotten, every session that saw it goes back to the turn before it, and the
// later ones become *waiting* turns: only what they read is kept, until the session is opened and
// reads them again, without the one that is gone (docs/decisions/070).
#ifndef EIDETIC_MEMORY_SESSION_STORE_H_
#define EIDETIC_MEMORY_SESSION_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "memory/block_store.h"
#include "memory/collection_view.h"

namespace eidetic::memory {

using TurnNumber = uint64_t;  // 1, 2, ... along a session; 0 is before the first
using TurnId = std::pair<LineageId, TurnNumber>;

inline constexpr TurnNumber kSnapshotsKept = 8;
// Window rows are stored in pieces that end where a turn ends and at multiples of this position.
inline constexpr uint64_t kRowTokens = 32;

// The turns of one lineage that a session sees: after the entry before, up to `last_turn`.
struct PathEntry {
  LineageId lineage = 0;
  TurnNumber last_turn = 0;
  uint64_t tokens = 0;  // the session's position after that turn
  uint64_t blocks = 0;  // the position up to which the lineage's blocks are seen
  bool operator==(const PathEntry&) const = default;
};

struct SessionHead {
  std::string name;
  int64_t created = 0;      // milliseconds since 1970, UTC
  int64_t changed = 0;      // likewise: the last turn, fork or rewind
  std::string forked_from;  // that session's name at the time; empty: begun on its own
  LineageId writes = 0;  // the path's last lineage while the next turn goes on in it; 0: a new one
  std::vector<PathEntry> path;  // empty: no turn yet
  std::string settings;         // the caller's, the same for all turns and forks

  TurnNumber turns() const { return path.empty() ? 0 : path.back().last_turn; }
  uint64_t tokens() const { return path.empty() ? 0 : path.back().tokens; }
};

struct TurnHeader {
  LineageId lineage = 0;
  TurnNumber turn = 0;
  std::string name;                         // may be empty
  int64_t time = 0;                         // milliseconds since 1970, UTC
  uint64_t token_begin = 0, token_end = 0;  // positions in the session
  uint64_t blocks = 0;                      // where the lineage's blocks ended
  uint64_t block_count = 0;                 // how many there were in this lineage
  // A snapshot needs the rows of tokens 0..sinks and window_begin..token_end.
  uint64_t window_begin = 0, sinks = 0;
  bool replayable = true;
  uint32_t snapshot_chunks = 0;  // 0: there is no snapshot
  bool forgotten = false;        // it keeps its number and its time, and holds nothing
  // The turn as it was first read: forks that read it again each have one of their own.
  TurnId first = {};  // {}: this one

  bool has_snapshot() const { return snapshot_chunks > 0; }
  TurnId origin() const { return first == TurnId() ? TurnId(lineage, turn) : first; }
};

// What could be recalled while tokens were read.
struct RecallView {
  std::vector<CollectionView> collections;  // attached, in order
  std::string choice;                       // the caller's: who chose, and what was pinned
  bool operator==(const RecallView&) const = default;
};

// Forward passes of `tokens` tokens each, `times` in a row.
struct PassRun {
  uint32_t tokens = 0;
  uint32_t times = 0;
  bool use_span = false;
  uint16_t view = 0;  // in TurnContent::views
  bool operator==(const PassRun&) const = default;
};

// A message, a text, or an answer.
struct TurnPart {
  std::string role;  // "user", "system", "assistant", or empty: plain text
  bool generated = false;
  uint32_t tokens = 0;
  std::string text;  // as given or answered, without the template around it
  bool operator==(const TurnPart&) const = default;
};

// All that reading a turn again takes, and what stands beside it.
struct TurnContent {
  std::vector<int32_t> tokens;
  std::vector<PassRun> passes;  // together all tokens
  std::vector<RecallView> views;
  std::vector<TurnPart> parts;  // together all tokens
  std::string resume;           // the caller's: small state after the turn
};

// A turn that is to be read again.
struct WaitingTurn {
  TurnNumber turn = 0;
  std::string name;
  int64_t time = 0;
  bool forgotten = false;  // then its content is empty
  TurnId first = {};       // {}: a forgotten one
  TurnContent content;
};

// Keys and values of tokens begin..end, opaque.
using RowsOf = std::function<Result<std::string>(uint64_t begin, uint64_t end)>;
struct WindowRows {
  uint64_t begin = 0, end = 0;
  std::string bytes;
};

struct Snapshot {
  std::string state;
  std::vector<WindowRows> rows;  // the sinks and the window, ascending
};

struct TurnCommit {
  std::string settings;  // kept with the session's first turn
  std::string name;      // at most 255 bytes, no NUL; may be empty
  int64_t time = 0;
  TurnContent content;
  uint64_t window_begin = 0;  // a multiple of kRowTokens, or the session's length
  uint64_t sinks = 0;         // likewise
  bool replayable = true;
  // The first of the session's waiting turns: its name and time are those that it had.
  bool waiting = false;
  std::string state;  // of the snapshot; not empty
  // Asked for what the snapshot needs of this turn's tokens; of all, when the turn before has none.
  RowsOf rows;
};

struct TurnReceipt {
  TurnHeader turn;
  uint64_t bytes = 0;  // of records written by this commit, blocks written ahead not counted
};

struct SessionCatalog;
class ForgottenBytes;
struct ForgetRequest;
struct ForgetReceipt;

// Thread-safe. One thread at a time commits turns of one session, and nobody has it open while it
// is rewound or removed: the caller sees to that.
class SessionStore {
 public:
  // `removal` gives a lock that is held while anything is removed. `documents` gives the lineages
  // of a collection's complete documents, ascending.
  using RemovalLock = std::function<Result<std::unique_lock<std::shared_mutex>>()>;
  using DocumentLineages =
      std::function<Result<std::vector<LineageId>>(const std::string& collection)>;
  SessionStore(std::shared_ptr<RecordStore> records, BlockStore* blocks, bool read_only,
               RemovalLock removal, DocumentLineages documents);
  ~SessionStore();

  // By name.
  Result<std::vector<SessionHead>> List() const;
  // kNotFound when there is none of that name.
  Result<SessionHead> Find(const std::string& name) const;
  // All turns that the session sees, from the first.
  Result<std::vector<TurnHeader>> Turns(const std::string& name) const;
  // `turn` as Turns() gave it. kNotFound when it was forgotten or removed since, likewise below.
  Result<TurnContent> Content(const TurnHeader& turn) const;
  // Turns that wait to be read again, after the last one of Turns().
  Result<std::vector<WaitingTurn>> Waiting(const std::string& name) const;
  // How many turns of each session wait, those forgotten left out; sessions without any are not in
  // it.
  Result<std::map<std::string, uint64_t>> CountWaiting() const;
  // Of a turn that has one, in `session`'s path. kCorruption names what is missing; kNotFound when
  // the snapshot was given up since.
  Result<Snapshot> ReadSnapshot(const SessionHead& session, const TurnHeader& turn) const;

  // The session's next turn: everything in one atomic, durable batch with the blocks that
  // `lineage` was given, and with the removal of the snapshot that is no longer kept. `lineage` is
  // SessionHead::writes, or a new one that begins where the path's blocks end. A session that is
  // not there begins with it; the record of the same name, as Archive::CommitSession wrote it,
  // goes. While turns wait to be read again, the next one is the first of them
  // (kInvalidArgument otherwise).
  Result<TurnReceipt> CommitTurn(const std::string& name, LineageWriter* lineage,
                                 TurnCommit commit);
  // Puts back the snapshot of a session's last turn, which was replayed; `rows`: all that it needs.
  Status PutSnapshot(const std::string& name, const std::string& state, const RowsOf& rows);

  // A new session that sees `from` up to `turn`. kAlreadyExists when the name is taken, kNotFound
  // when there is no such turn, or when it can no longer be reached: it has no snapshot, and a
  // collection that it recalled from has lost documents since.
  Status Fork(const std::string& from, TurnNumber turn, const std::string& to, int64_t time);
  // The session ends with `turn` from now on; later turns that no other session sees go for good.
  // Errors as for Fork.
  Status Rewind(const std::string& name, TurnNumber turn, int64_t time);
  // Removes the session and everything of it that no other session sees.
  Status Remove(const std::string& name);
  // Forgets the turns that a request names, in every session that sees them. `batch` has what else
  // goes; all of it is one durable batch, which is written even when no turn is named. Nothing is
  // written for a dry run. The lock of `removal` is held by the caller. Adds to the receipt, and to
  // `samples` (may be null); gives the lineages that lost blocks.
  Result<std::vector<LineageId>> Forget(const ForgetRequest& request, RecordBatch batch,
                                        ForgetReceipt* receipt, ForgottenBytes* samples);
  // For every session the first turn that could recall one of these lineages of a collection.
  Result<std::vector<std::pair<std::string, TurnNumber>>> RecallersOf(
      const std::string& collection, const std::set<LineageId>& lineages) const;

  // Lineages that some session sees, ascending. kCorruption when a session's record is damaged:
  // then it is not known.
  Result<std::vector<LineageId>> SeenLineages() const;
  // Adds the removal of all turns of a lineage that no session sees.
  static void RemoveTurns(LineageId lineage, RecordBatch* batch);

 private:
  // The catalog of now: kept by a writer, read anew by others. mutex_ is held.
  Result<SessionCatalog*> Current() const;
  Result<SessionHead> FindHead(const SessionCatalog& catalog, const std::string& name) const;
  Result<SessionHead> CutHead(const SessionCatalog& catalog, const std::string& name,
                              TurnNumber turn) const;
  // Whether a snapshot, or what replaying takes, is there for the session's last turn.
  Status CheckReachable(const SessionCatalog& catalog, const SessionHead& session) const;
  Status CheckWritable() const;
  // `damage`, the loss of something of a turn; kNotFound when the turn, or its snapshot, has gone.
  Status UnlessGone(const TurnHeader& turn, bool snapshot, Status damage) const;
  Status PutPieces(const SessionCatalog& catalog, const SessionHead& session,
                   const TurnHeader& turn, uint64_t from, const RowsOf& rows,
                   RecordBatch* batch) const;
  Status RemoveSaved(const std::string& name);
  Status AddSaved(const std::string& name, RecordBatch* batch,
                  std::vector<LineageId>* removed) const;
  bool IsSaved(const std::string& name) const;
  // Adds to `batch`, which makes the sessions of some roots those of `after`, the removal of what
  // no session sees any more. `shortened` gets the lineages that lose blocks.
  Status AddUnseen(const std::set<LineageId>& roots, SessionCatalog* after, RecordBatch* batch,
                   std::vector<LineageId>* shortened) const;
  // The same, written. `emptied` gets the ranges out of which so much went that their space is to
  // be given back.
  Status RemoveUnseen(LineageId root, SessionCatalog after, RecordBatch batch,
                      std::vector<KeyRange>* emptied);
  Status RewindAndTell(const std::string& name, TurnNumber turn, int64_t time,
                       std::vector<KeyRange>* emptied);
  Status RemoveAndTell(const std::string& name, std::vector<KeyRange>* emptied);
  // No lock is held: merging may take long.
  void Reclaim(const std::vector<KeyRange>& emptied) const;
  // kInvalidArgument while turns of the session wait to be read again.
  Status CheckNoneWaiting(const SessionCatalog& catalog, const std::string& name) const;

  // What the turns of a session read that wait to be read again.
  static void RemoveWaiting(const std::string& name, RecordBatch* batch);

  // session_forget.cc
  Result<std::set<TurnId>> TurnsToForget(const SessionCatalog& catalog,
                                         const ForgetRequest& request) const;
  Result<WaitingTurn> ReadWaiting(const std::string& name, TurnNumber turn) const;
  // The last turn up to `turn` that can be opened without what is forgotten; 0: only the beginning.
  Result<TurnNumber> LastReachable(const SessionCatalog& catalog, const SessionHead& head,
                                   TurnNumber turn) const;
  Status ForgetIn(const SessionHead& head, const std::set<TurnId>& turns, SessionCatalog* after,
                  RecordBatch* batch, ForgetReceipt* receipt) const;
  Status ForgetTurns(const ForgetRequest& request, SessionCatalog* after, RecordBatch* batch,
                     ForgetReceipt* receipt, ForgottenBytes* samples,
                     std::vector<LineageId>* shortened) const;
  Status ForgetSaved(const ForgetRequest& request, RecordBatch* batch, ForgetReceipt* receipt,
                     std::vector<LineageId>* removed) const;
  Status TellTurns(const SessionCatalog& catalog, const std::set<TurnId>& turns,
                   ForgetReceipt* receipt, ForgottenBytes* samples) const;
  Status TellBlocks(const SessionCatalog& before, const SessionCatalog& after,
                    const std::vector<LineageId>& shortened, ForgetReceipt* receipt) const;

  std::shared_ptr<RecordStore> records_;
  BlockStore* blocks_;
  bool read_only_;
  RemovalLock removal_;
  DocumentLineages documents_;
  mutable std::mutex mutex_;  // taken after the lock of removal_
  mutable std::unique_ptr<SessionCatalog> catalog_;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_SESSION_STORE_H_
