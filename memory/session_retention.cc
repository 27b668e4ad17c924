#include "memory/session_retention.h"

#include <algorithm>

#include "memory/format.h"
#include "memory/session_format.h"

namespace eidetic::memory {
namespace {

using RangesByLineage = std::map<LineageId, std::vector<RowRange>>;

// Calls `visit` for the sessions of a root.
template <typename Visit>
void ForEachSession(const SessionCatalog& catalog, LineageId root, Visit visit) {
  for (const auto& [name, head] : catalog.heads) {
    if (RootOf(head) == root) visit(head);
  }
}

void Merge(std::vector<RowRange>* ranges) {
  std::sort(ranges->begin(), ranges->end(),
            [](const RowRange& a, const RowRange& b) { return a.begin < b.begin; });
  std::vector<RowRange> merged;
  for (const RowRange& range : *ranges) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  *ranges = std::move(merged);
}

// What is in `from` and not in `kept`; both ascending and apart.
std::vector<RowRange> Without(const std::vector<RowRange>& from,
                              const std::vector<RowRange>& kept) {
  std::vector<RowRange> left;
  for (RowRange range : from) {
    for (const RowRange& keep : kept) {
      if (keep.end <= range.begin || keep.begin >= range.end) continue;
      if (keep.begin > range.begin) left.push_back({range.begin, keep.begin});
      range.begin = std::min(keep.end, range.end);
    }
    if (range.begin < range.end) left.push_back(range);
  }
  return left;
}

}  // namespace

LineageId RootOf(const SessionHead& session) {
  return session.path.empty() ? 0 : session.path.front().lineage;
}

std::set<TurnId> PresentSnapshots(const SessionCatalog& catalog, LineageId root) {
  std::set<TurnId> present;
  ForEachSession(catalog, root, [&](const SessionHead& head) {
    for (const PathEntry& entry : head.path) {
      const auto of = catalog.turns.find(entry.lineage);
      if (of == catalog.turns.end()) continue;
      for (const auto& [number, turn] : of->second) {
        if (number <= entry.last_turn && turn.has_snapshot()) {
          present.insert({entry.lineage, number});
        }
      }
    }
  });
  return present;
}

std::set<TurnId> KeptSnapshots(const SessionCatalog& catalog, LineageId root) {
  std::set<TurnId> wanted;
  ForEachSession(catalog, root, [&](const SessionHead& head) {
    for (const PathEntry& entry : head.path) wanted.insert({entry.lineage, entry.last_turn});
    const TurnNumber first = head.turns() > kSnapshotsKept ? head.turns() - kSnapshotsKept + 1 : 1;
    for (TurnNumber turn = first; turn <= head.turns(); ++turn) {
      wanted.insert({LineageOfTurn(head.path, turn), turn});
    }
  });
  std::set<TurnId> kept;
  for (const TurnId& id : PresentSnapshots(catalog, root)) {
    const TurnHeader& turn = *catalog.Find(id.first, id.second);
    if (wanted.contains(id) || !turn.name.empty() || !turn.replayable) kept.insert(id);
  }
  return kept;
}

RangesByLineage RowsOfSnapshots(const SessionCatalog& catalog, LineageId root,
                                const std::set<TurnId>& snapshots) {
  // What comes before a lineage is the same for every session that sees it.
  std::map<LineageId, const std::vector<PathEntry>*> paths;
  ForEachSession(catalog, root, [&](const SessionHead& head) {
    for (const PathEntry& entry : head.path) paths.emplace(entry.lineage, &head.path);
  });
  RangesByLineage rows;
  for (const TurnId& id : snapshots) {
    for (const auto& [lineage, ranges] :
         RowsOfSnapshot(*paths.at(id.first), *catalog.Find(id.first, id.second))) {
      rows[lineage].insert(rows[lineage].end(), ranges.begin(), ranges.end());
    }
  }
  for (auto& [lineage, ranges] : rows) Merge(&ranges);
  return rows;
}

std::vector<TurnHeader> DropSnapshots(const SessionCatalog& catalog, LineageId root,
                                      const RangesByLineage& present, RecordBatch* batch) {
  const std::set<TurnId> kept = KeptSnapshots(catalog, root);
  std::vector<TurnHeader> changed;
  for (const TurnId& id : PresentSnapshots(catalog, root)) {
    if (kept.contains(id)) continue;
    TurnHeader turn = *catalog.Find(id.first, id.second);
    const std::string prefix = format::SnapshotPrefix(id.first, id.second);
    for (uint32_t chunk = 0; chunk <= turn.snapshot_chunks; ++chunk) {
      batch->Delete(Family::kSessions, format::BlobKey(prefix, chunk));
    }
    turn.snapshot_chunks = 0;
    const std::string key = format::TurnKey(id.first, id.second);
    batch->Put(Family::kSessions, key, format::EncodeTurn(key, turn));
    changed.push_back(std::move(turn));
  }
  const RangesByLineage needed = RowsOfSnapshots(catalog, root, kept);
  for (const auto& [lineage, ranges] : present) {
    const auto still = needed.find(lineage);
    for (const RowRange& gone :
         Without(ranges, still == needed.end() ? std::vector<RowRange>() : still->second)) {
      for (const RowRange& piece : PiecesOf(catalog, lineage, gone)) {
        batch->Delete(Family::kSessions, format::RowsKey(lineage, piece.begin));
      }
    }
  }
  return changed;
}

}  // namespace eidetic::memory
