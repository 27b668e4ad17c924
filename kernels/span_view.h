// The expansion span as both sides see it: a page table over coded blocks. Plain data; it looks,
// it does not own.
#ifndef EIDETIC_KERNELS_SPAN_VIEW_H_
#define EIDETIC_KERNELS_SPAN_VIEW_H_

#include <cstdint>

#include "kernels/block_codec.h"

namespace eidetic::kernels {

// One chosen block of one layer: keys before rotation and values, coded as `block_codec.h` says.
struct SpanPage {
  uint64_t block = 0;             // the block's id, for reports (rule 5); 0: it has none
  int source = 0;                 // the searched set that the id is of
  int tokens = 0;                 // 1..S
  const uint8_t* keys = nullptr;  // payload of [tokens, kv_heads, head_dim]
  const uint8_t* values = nullptr;
  Codec codec = Codec::kInt8;
};

// The span of one layer, oldest block first. Valid until the next call on the source it came from.
struct SpanView {
  const SpanPage* pages = nullptr;
  int page_count = 0;
  int tokens = 0;  // sum over pages
  int kv_heads = 0;
  int head_dim = 0;
};

}  // namespace eidetic::kernels

#endif  // EIDETIC_KERNELS_SPAN_VIEW_H_
