#include "memory/span_choice.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace eidetic::memory {
namespace {

constexpr const char* kPolicyNames[] = {"attention", "words", "both"};

template <typename T>
auto PlaceOf(const T& one) {
  return std::tuple(one.source, one.block.lineage, one.block.position);
}

template <typename T>
bool Before(const T& a, const T& b) {
  return PlaceOf(a) < PlaceOf(b);
}

}  // namespace

const char* RecallPolicyName(RecallPolicy policy) {
  return kPolicyNames[static_cast<size_t>(policy)];
}

bool ParseRecallPolicy(std::string_view name, RecallPolicy* policy) {
  for (size_t i = 0; i < std::size(kPolicyNames); ++i) {
    if (name != kPolicyNames[i]) continue;
    *policy = static_cast<RecallPolicy>(i);
    return true;
  }
  return false;
}

bool PinnedBlock::operator==(const PinnedBlock& other) const {
  return PlaceOf(*this) == PlaceOf(other) && block.id == other.block.id && score == other.score;
}

std::vector<PinnedBlock> PinPlaces(std::vector<FoundPlace> places, const WordShare& share) {
  std::stable_sort(places.begin(), places.end(),
                   [](const FoundPlace& a, const FoundPlace& b) { return a.score > b.score; });
  if (places.size() > static_cast<size_t>(share.places)) {
    places.resize(static_cast<size_t>(share.places));
  }
  std::vector<PinnedBlock> pinned;
  for (const FoundPlace& place : places) {
    if (place.score < share.place_threshold * places.front().score) break;
    for (const IndexedBlock& block : place.blocks) {
      pinned.push_back({place.source, block, place.score});
    }
  }
  // A block of two places has the better one's score: it comes first.
  std::stable_sort(pinned.begin(), pinned.end(), Before<PinnedBlock>);
  pinned.erase(std::unique(pinned.begin(), pinned.end(),
                           [](const PinnedBlock& a, const PinnedBlock& b) {
                             return PlaceOf(a) == PlaceOf(b);
                           }),
               pinned.end());
  return pinned;
}

void MergePinned(const std::vector<PinnedBlock>& pinned, const WordShare& share,
                 std::vector<ChosenBlock>* chosen) {
  if (pinned.empty()) return;
  double most = 0;
  for (const ChosenBlock& block : *chosen) most = std::max(most, block.mass);
  std::vector<ChosenBlock> merged;
  for (const PinnedBlock& pin : pinned) {
    ChosenBlock block{pin.source, pin.block, 0};
    block.by_attention = false;
    block.by_words = true;
    block.word_score = pin.score;
    merged.push_back(block);
  }
  for (const ChosenBlock& block : *chosen) {
    const auto pin = std::lower_bound(merged.begin(), merged.begin() + pinned.size(), block,
                                      Before<ChosenBlock>);
    if (pin != merged.begin() + pinned.size() && PlaceOf(*pin) == PlaceOf(block)) {
      pin->by_attention = true;
      pin->mass = block.mass;
    } else if (std::max(block.weight(), block.bringer_weight) >= share.attention_threshold * most) {
      merged.push_back(block);
    }
  }
  std::sort(merged.begin(), merged.end(), Before<ChosenBlock>);
  *chosen = std::move(merged);
}

}  // namespace eidetic::memory
