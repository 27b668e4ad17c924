#include "model/byte_pair_encoder.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace eidetic::model {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kEmpty = std::numeric_limits<uint64_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t Spread(uint64_t key) {
  return (key * 0x9e3779b97f4a7c15u) >> 20;
}

}  // namespace

BytePairEncoder::BytePairEncoder(const std::array<int32_t, 256>& byte_tokens,
                                 const std::vector<Merge>& merges)
    : byte_tokens_(byte_tokens),
      slots_(std::bit_ceil(2 * merges.size() + 2), Slot{kEmpty, kNone, -1}) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t key = PairKey(merges[rank].left, merges[rank].right);
    uint64_t at = Spread(key) & (slots_.size() - 1);
    while (slots_[at].pair != kEmpty) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {key, static_cast<uint32_t>(rank), merges[rank].merged};
  }
}

const BytePairEncoder::Slot& BytePairEncoder::Find(int32_t left, int32_t right) const {
  const uint64_t key = PairKey(left, right);
  uint64_t at = Spread(key) & (slots_.size() - 1);
  while (slots_[at].pair != key && slots_[at].pair != kEmpty) at = (at + 1) & (slots_.size() - 1);
  return slots_[at];
}

// The pair that symbol `at` begins goes into the queue, lowest (rank, position) first.
void BytePairEncoder::Enqueue(uint32_t at, Workspace* workspace) const {
  auto& symbol = workspace->symbols[at];
  symbol.rank = kNone;
  if (symbol.next == kNone) return;
  symbol.rank = Find(symbol.token, workspace->symbols[symbol.next].token).rank;
  if (symbol.rank == kNone) return;
  workspace->queue.push_back(static_cast<uint64_t>(symbol.rank) << 32 | at);
  std::push_heap(workspace->queue.begin(), workspace->queue.end(), std::greater<>());
}

void BytePairEncoder::Encode(std::string_view word, Workspace* workspace,
                             std::vector<int32_t>* tokens, std::vector<uint32_t>* begins) const {
  auto& symbols = workspace->symbols;
  auto& queue = workspace->queue;
  symbols.clear();
  queue.clear();
  for (uint32_t i = 0; i < word.size(); ++i) {
    const int32_t token = byte_tokens_[static_cast<uint8_t>(word[i])];
    if (token < 0) continue;
    const auto count = static_cast<uint32_t>(symbols.size());
    symbols.push_back({token, i, count - 1, count + 1, kNone});
  }
  if (symbols.empty()) return;
  symbols.back().next = kNone;
  for (uint32_t i = 0; i < symbols.size(); ++i) Enqueue(i, workspace);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(queue.back() >> 32);
    const auto at = static_cast<uint32_t>(queue.back());
    queue.pop_back();
    auto& left = symbols[at];
    if (left.rank != rank) continue;  // the pair is gone: a neighbour was merged meanwhile
    auto& right = symbols[left.next];
    left.token = Find(left.token, right.token).merged;
    right.rank = kNone;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = at;
    Enqueue(at, workspace);
    if (at != 0) Enqueue(left.previous, workspace);
  }
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) {
    tokens->push_back(symbols[i].token);
    begins->push_back(symbols[i].begin);
  }
}

}  // namespace eidetic::model
