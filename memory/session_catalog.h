// All sessions and the headers of all their turns, as they stand in the store.
#ifndef EIDETIC_MEMORY_SESSION_CATALOG_H_
#define EIDETIC_MEMORY_SESSION_CATALOG_H_

#include <map>
#include <string>
#include <vector>

#include "memory/session_store.h"

namespace eidetic::memory {

struct SessionCatalog {
  std::map<std::string, SessionHead> heads;
  std::map<LineageId, std::map<TurnNumber, TurnHeader>> turns;
  // Turns that wait to be read again, by session, without what they read.
  std::map<std::string, std::map<TurnNumber, WaitingTurn>> waiting;
  // Of the first session whose record is damaged: what it sees is not known. Damaged turns are only
  // left out.
  Status damage;

  static Result<SessionCatalog> Load(const RecordStore& records);

  // Null when it is not there.
  const TurnHeader* Find(LineageId lineage, TurnNumber turn) const;
  // kNotFound when the session has no such turn, kCorruption when its record is missing.
  Result<const TurnHeader*> Find(const SessionHead& session, TurnNumber turn) const;
  // The last turn of each lineage that some session sees.
  std::map<LineageId, TurnNumber> SeenTurns() const;
};

// The lineage of a path that holds a turn of 1..the last one.
LineageId LineageOfTurn(const std::vector<PathEntry>& path, TurnNumber turn);

// Tokens begin..end of one lineage.
struct RowRange {
  uint64_t begin = 0, end = 0;
  bool operator==(const RowRange&) const = default;
};
// The rows that a turn's snapshot needs, by the lineages of its path that hold them, ascending and
// apart.
std::map<LineageId, std::vector<RowRange>> RowsOfSnapshot(const std::vector<PathEntry>& path,
                                                          const TurnHeader& turn);
// The pieces in which rows of a range are stored: cut at multiples of kRowTokens and where turns
// begin.
std::vector<RowRange> PiecesOf(const SessionCatalog& catalog, LineageId lineage,
                               const RowRange& range);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_SESSION_CATALOG_H_
