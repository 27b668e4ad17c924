#include "memory/forgotten_bytes.h"

#include <array>

namespace eidetic::memory {
namespace {

constexpr uint64_t kBase = 0x9e3779b97f4a7c15ull | 1;
constexpr int kFewestValues = 5;  // different bytes in a sample

uint64_t HashOf(std::string_view piece) {
  uint64_t hash = 0;
  for (const char byte : piece) hash = hash * kBase + static_cast<uint8_t>(byte) + 1;
  return hash;
}

// The place in the filter: high bits, since low ones of such a hash depend on few bytes.
size_t Bit(uint64_t hash) {
  return hash >> 44;  // 20 bits
}

bool SaysSomething(std::string_view piece) {
  std::array<bool, 256> seen{};
  int values = 0;
  for (const char byte : piece) {
    bool& there = seen[static_cast<uint8_t>(byte)];
    values += there ? 0 : 1;
    there = true;
  }
  return values >= kFewestValues;
}

}  // namespace

void ForgottenBytes::Put(std::string_view piece) {
  if (samples_.size() >= kMostSamples || !SaysSomething(piece)) return;
  const auto [at, is_new] = samples_.emplace(std::string(piece), true);
  if (!is_new) return;
  const uint64_t hash = HashOf(piece);
  by_hash_.emplace(hash, &at->first);
  filter_[Bit(hash) / 64] |= uint64_t{1} << (Bit(hash) % 64);
  has_short_ |= piece.size() == kShort;
}

void ForgottenBytes::Add(std::string_view forgotten, size_t stride) {
  if (forgotten.size() < kShort) return;
  if (forgotten.size() < kLong) return Put(forgotten.substr(0, kShort));
  for (size_t at = 0; at + kLong <= forgotten.size(); at += stride) {
    Put(forgotten.substr(at, kLong));
  }
  Put(forgotten.substr(forgotten.size() - kLong));
}

bool ForgottenBytes::SearchLength(
    size_t length, std::string_view bytes,
    const std::function<bool(size_t, const std::string&)>& visit) const {
  if (bytes.size() < length) return true;
  uint64_t first_factor = 1;  // of the byte that leaves
  for (size_t i = 1; i < length; ++i) first_factor *= kBase;
  uint64_t hash = HashOf(bytes.substr(0, length));
  for (size_t at = 0;; ++at) {
    if (filter_[Bit(hash) / 64] >> (Bit(hash) % 64) & 1) {
      const auto [begin, end] = by_hash_.equal_range(hash);
      for (auto sample = begin; sample != end; ++sample) {
        if (bytes.substr(at, length) == *sample->second && !visit(at, *sample->second)) {
          return false;
        }
      }
    }
    if (at + length >= bytes.size()) return true;
    hash = (hash - (static_cast<uint8_t>(bytes[at]) + uint64_t{1}) * first_factor) * kBase +
           static_cast<uint8_t>(bytes[at + length]) + 1;
  }
}

void ForgottenBytes::Search(std::string_view bytes,
                            const std::function<bool(size_t, const std::string&)>& visit) const {
  if (samples_.empty() || !SearchLength(kLong, bytes, visit)) return;
  if (has_short_) SearchLength(kShort, bytes, visit);
}

size_t ForgottenBytes::Remove(const std::vector<std::string>& samples) {
  size_t removed = 0;
  for (const std::string& sample : samples) {
    const auto found = samples_.find(sample);
    if (found == samples_.end()) continue;
    const auto [begin, end] = by_hash_.equal_range(HashOf(sample));
    for (auto at = begin; at != end; ++at) {
      if (at->second != &found->first) continue;
      by_hash_.erase(at);
      break;
    }
    samples_.erase(found);
    ++removed;
  }
  return removed;
}

}  // namespace eidetic::memory
