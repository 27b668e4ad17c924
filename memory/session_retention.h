// Which snapshots are kept, and what goes with the others.
#ifndef EIDETIC_MEMORY_SESSION_RETENTION_H_
#define EIDETIC_MEMORY_SESSION_RETENTION_H_

#include <set>
#include <utility>

#include "memory/session_catalog.h"

namespace eidetic::memory {

// Sessions that share a lineage share their first one, the root: no others need be looked at.
LineageId RootOf(const SessionHead& session);

// The snapshots that are there of the turns that sessions of a root see, and those to be kept
// (session_store.h says which).
std::set<TurnId> PresentSnapshots(const SessionCatalog& catalog, LineageId root);
std::set<TurnId> KeptSnapshots(const SessionCatalog& catalog, LineageId root);

// Adds to `batch` the removal of the snapshots that are not kept, and of the rows that `present`
// needed and what is kept does not. `present`: of the catalog before it was changed. Gives the
// headers of the turns that lost their snapshot.
std::vector<TurnHeader> DropSnapshots(const SessionCatalog& catalog, LineageId root,
                                      const std::map<LineageId, std::vector<RowRange>>& present,
                                      RecordBatch* batch);
// The rows that snapshots need, by lineage, ascending and apart.
std::map<LineageId, std::vector<RowRange>> RowsOfSnapshots(const SessionCatalog& catalog,
                                                           LineageId root,
                                                           const std::set<TurnId>& snapshots);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_SESSION_RETENTION_H_
