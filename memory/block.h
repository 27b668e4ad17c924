// A memory block: up to S consecutive tokens that left the window, with what is needed to attend
// to them again and to say where they came from.
#ifndef EIDETIC_MEMORY_BLOCK_H_
#define EIDETIC_MEMORY_BLOCK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "memory/layout.h"

namespace eidetic::memory {

// An append-only run of blocks in one store; never reused.
using LineageId = uint64_t;
// Monotonic in one store; never reused; 0 is no block.
using BlockId = uint64_t;

// All of a block but its keys and values (one record of the `embeddings` family).
struct BlockHeader {
  BlockId id = 0;
  LineageId lineage = 0;
  uint64_t position = 0;        // stream position of the first token, the record's key
  std::vector<int32_t> tokens;  // 1..S ids
  uint64_t text_begin = 0;      // byte range of these tokens in the document's or session's text
  uint64_t text_end = 0;

  int token_count() const { return static_cast<int>(tokens.size()); }
};

// Owner of a whole block. Payloads are coded by Layout::codec, one per stored layer in the
// layout's order; representatives are fp16 [layers, kv_heads, RepresentativeCount, head_dim].
struct Block {
  BlockHeader header;
  std::vector<std::string> keys;
  std::vector<std::string> values;
  std::vector<uint16_t> representatives;
};

// Codes one block from fp32 rows; `keys[i]` and `values[i]` are [tokens, kv_heads, head_dim] of the
// layout's i-th layer. `header.id` and `.lineage` are the writer's to fill. kInvalidArgument when a
// number is not finite (names layer and row).
Result<Block> EncodeBlock(const Layout& layout, BlockHeader header, const float* const* keys,
                          const float* const* values);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_BLOCK_H_
