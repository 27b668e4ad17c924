// What every block of one collection or session has in common.
#ifndef EIDETIC_MEMORY_LAYOUT_H_
#define EIDETIC_MEMORY_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/block_codec.h"
#include "memory/status.h"

namespace eidetic::memory {

struct Layout {
  std::string fingerprint;  // hex SHA-256 of the model's fingerprint (rule 4)
  std::vector<int> layers;  // model layers whose keys and values are stored, ascending
  int kv_heads = 0;
  int head_dim = 0;
  int block_tokens = 32;          // S
  int representative_tokens = 8;  // consecutive keys behind one mean
  kernels::Codec codec = kernels::Codec::kInt8;

  // Representatives of a block of `tokens` tokens, per layer and kv head: 1..block_tokens/8. The
  // last mean covers what is left.
  int RepresentativeCount(int tokens) const {
    return (tokens + representative_tokens - 1) / representative_tokens;
  }
  // Floats in one row of all kv heads.
  int RowWidth() const { return kv_heads * head_dim; }
  // Bytes of the keys and values of so many tokens, as they are stored; what stands around them
  // not counted.
  uint64_t PayloadBytes(uint64_t tokens) const;
  // Index in `layers`, or -1.
  int LayerIndex(int model_layer) const;
  // Ranges and order of every field; kInvalidArgument says which one is wrong.
  Status Validate() const;

  bool operator==(const Layout&) const = default;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_LAYOUT_H_
