// What a collection held when something was recalled from it, in a few bytes: lineages are never
// changed nor their ids reused, so the set of ids says it all.
#ifndef EIDETIC_MEMORY_COLLECTION_VIEW_H_
#define EIDETIC_MEMORY_COLLECTION_VIEW_H_

#include <cstdint>
#include <string>
#include <vector>

#include "memory/block.h"
#include "memory/status.h"

namespace eidetic::memory {

struct CollectionView {
  std::string collection;
  uint64_t lineages = 0;  // how many
  LineageId last = 0;     // the largest id
  uint64_t digest = 0;    // XXH3-64 of all ids, seeded with that of the name
  bool operator==(const CollectionView&) const = default;
};

// `lineages`: ascending.
CollectionView ViewOf(const std::string& collection, const std::vector<LineageId>& lineages);

// The lineages of a view among those that the collection has now, ascending: documents that came
// later are left out. kNotFound when one of them was removed or replaced.
Result<std::vector<LineageId>> LineagesOfView(const CollectionView& view,
                                              const std::vector<LineageId>& now);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_COLLECTION_VIEW_H_
