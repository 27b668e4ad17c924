// Pieces of what was forgotten, and the search for them in bytes.
#ifndef EIDETIC_MEMORY_FORGOTTEN_BYTES_H_
#define EIDETIC_MEMORY_FORGOTTEN_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace eidetic::memory {

// Samples of two lengths: what is shorter than the first gets one of the second, and what is
// shorter than that none. Pieces that say nothing (runs of one byte, zeros) are no samples.
class ForgottenBytes {
 public:
  static constexpr size_t kLong = 16;
  static constexpr size_t kShort = 8;
  static constexpr size_t kMostSamples = 1u << 16;

  // Takes samples that stand `stride` bytes apart, so that any run of stride + kLong - 1 bytes of
  // it holds one.
  void Add(std::string_view forgotten, size_t stride = kShort);
  size_t size() const { return samples_.size(); }
  bool empty() const { return samples_.empty(); }

  // Calls `visit` for every sample in `bytes`, with its place, until it returns false.
  void Search(std::string_view bytes,
              const std::function<bool(size_t at, const std::string& sample)>& visit) const;
  // Takes samples out; gives how many there were.
  size_t Remove(const std::vector<std::string>& samples);

 private:
  void Put(std::string_view piece);
  bool SearchLength(size_t length, std::string_view bytes,
                    const std::function<bool(size_t, const std::string&)>& visit) const;

  std::unordered_map<std::string, bool> samples_;
  // By rolling hash, and a filter of its low bits before it: nearly every place is ruled out there.
  std::unordered_multimap<uint64_t, const std::string*> by_hash_;
  std::vector<uint64_t> filter_ = std::vector<uint64_t>(1u << 14);
  bool has_short_ = false;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_FORGOTTEN_BYTES_H_
