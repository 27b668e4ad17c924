#include "memory/collection_view.h"

#include <algorithm>

#include "memory/hash.h"

namespace eidetic::memory {

CollectionView ViewOf(const std::string& collection, const std::vector<LineageId>& lineages) {
  CollectionView view;
  view.collection = collection;
  view.lineages = lineages.size();
  view.last = lineages.empty() ? 0 : lineages.back();
  view.digest = RecordChecksum(collection, {reinterpret_cast<const char*>(lineages.data()),
                                            lineages.size() * sizeof(LineageId)});
  return view;
}

Result<std::vector<LineageId>> LineagesOfView(const CollectionView& view,
                                              const std::vector<LineageId>& now) {
  // A document whose ingest began before and ended after the view has a smaller id than its last
  // one: then the digest differs, and the view counts as lost.
  std::vector<LineageId> lineages(now.begin(), std::upper_bound(now.begin(), now.end(), view.last));
  if (ViewOf(view.collection, lineages) == view) return lineages;
  return Status(Code::kNotFound,
                "collection " + view.collection + " no longer holds the " +
                    std::to_string(view.lineages) +
                    " documents that were recalled from: some were removed or replaced since",
                "go to a turn that has a snapshot: `eidetic sessions show` marks them");
}

}  // namespace eidetic::memory
