// Byte-pair merging of one word: always the pair of lowest rank, the leftmost of equals.
#ifndef EIDETIC_MODEL_BYTE_PAIR_ENCODER_H_
#define EIDETIC_MODEL_BYTE_PAIR_ENCODER_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace eidetic::model {

// Immutable and thread-safe. Words of n bytes take O(n log n), whatever stands in them.
class BytePairEncoder {
 public:
  struct Merge {
    int32_t left, right, merged;  // token ids
  };
  // `byte_tokens`: the token of each byte, or -1: such a byte is dropped. Ranks are the order of
  // `merges`, which hold no pair twice.
  BytePairEncoder(const std::array<int32_t, 256>& byte_tokens, const std::vector<Merge>& merges);

  // Buffers that calls share; one per thread.
  struct Workspace {
    struct Symbol {
      int32_t token;
      uint32_t begin;  // byte in the word
      uint32_t previous, next;
      uint32_t rank;  // of the pair this symbol begins
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;
  };
  // Appends the word's tokens, and where in the word each begins. The word is shorter than 2^32
  // - 1.
  void Encode(std::string_view word, Workspace* workspace, std::vector<int32_t>* tokens,
              std::vector<uint32_t>* begins) const;

 private:
  struct Slot {
    uint64_t pair;
    uint32_t rank;
    int32_t merged;
  };
  const Slot& Find(int32_t left, int32_t right) const;  // an empty slot when there is none
  void Enqueue(uint32_t at, Workspace* workspace) const;

  std::array<int32_t, 256> byte_tokens_;
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_BYTE_PAIR_ENCODER_H_
