#include "sdk/own_words.h"

#include <algorithm>
#include <utility>

namespace eidetic::sdk {

using memory::FoundPlace;
using memory::IndexedBlock;
using memory::Result;

Result<std::vector<FoundPlace>> OwnWords::Search(const memory::RepresentativeIndex& own,
                                                 const TextOf& text_of, std::string_view words,
                                                 size_t limit) {
  if (index_ == nullptr) {
    EID_ASSIGN_OR_RETURN(index_, memory::WordIndex::Open("", /*read_only=*/false));
  }
  const std::vector<int64_t>& blocks = own.live();
  for (; indexed_ < blocks.size(); ++indexed_) {
    const IndexedBlock& block = own.block(blocks[indexed_]);
    const uint64_t end = block.position + static_cast<uint64_t>(block.tokens);
    EID_RETURN_IF_ERROR(index_->Append(
        block.lineage, {block.position, block.tokens, text_of(block.position, end)}));
  }
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WordHit> hits, index_->Search(words, limit, {}));
  std::vector<FoundPlace> places;
  for (const memory::WordHit& hit : hits) {
    FoundPlace place;
    place.score = hit.score;
    auto at = std::lower_bound(
        blocks.begin(), blocks.end(), hit.position,
        [&](int64_t ordinal, uint64_t position) { return own.block(ordinal).position < position; });
    const uint64_t end = hit.position + static_cast<uint64_t>(hit.tokens);
    for (; at != blocks.end() && own.block(*at).position < end; ++at) {
      place.blocks.push_back(own.block(*at));
    }
    places.push_back(std::move(place));
  }
  return places;
}

}  // namespace eidetic::sdk
