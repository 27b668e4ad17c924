// The two seams between the model and whatever remembers for it: evicted keys and values go out
// through a BlockSink; scoring queries go in and a span comes back through a SpanSource. model/
// knows nothing of who stands behind them.
#ifndef EIDETIC_MODEL_SEAMS_H_
#define EIDETIC_MODEL_SEAMS_H_

#include <cstdint>
#include <memory>

#include "kernels/span_view.h"

namespace eidetic::model {

// Runs follow one another from position 0 without a gap: the sinks are handed over with the first
// run (when the window first overflows, or at a flush) and stay attended all the same.
//
// Consecutive tokens that leave the window (or, with ForwardOptions::hand_over_at_once, stay in it
// for a while), with the keys (before rotation) and values of every
// attention layer, in ascending order of layer. All pointers are valid, and what they point to does
// not change, while a copy of `storage` is held: who keeps the run copies this struct, not the
// rows.
struct EvictedRun {
  uint64_t position = 0;               // stream position of the first token
  int tokens = 0;                      // a multiple of the block size, except at a flush
  const int32_t* token_ids = nullptr;  // [tokens]
  int layers = 0;
  const int* layer_ids = nullptr;        // [layers] model layers
  const float* const* keys = nullptr;    // [layers] of fp32 [tokens, kv_heads, head_dim]
  const float* const* values = nullptr;  // likewise
  std::shared_ptr<const void> storage;
  uint64_t bytes = 0;  // of host memory that `storage` holds, about
};

class BlockSink {
 public:
  virtual ~BlockSink() = default;
  // May throw: Forward or Flush passes the exception on. After a Forward the state is unusable; a
  // Flush can be called again and goes on with the run that was refused.
  virtual void Accept(const EvictedRun& run) = 0;
};

// The queries of one span layer: fp32 [tokens, heads, head_dim], rotated as if `query_offset`
// tokens away from keys that were not rotated.
struct ScoringQueries {
  int layer = 0;
  const float* data = nullptr;
  int tokens = 0;
  int heads = 0;
  int head_dim = 0;
};

class SpanSource {
 public:
  virtual ~SpanSource() = default;
  // The span of this layer for these queries; empty when there is nothing to recall. The view is
  // valid until the next call.
  virtual kernels::SpanView Select(const ScoringQueries& queries) = 0;
  // What the queries paid to the pages of the span selected last for this layer: `mass`
  // [page_count], each the attention probability on the page's tokens, meaned over heads and summed
  // over `tokens` query tokens (rule 5). Called at the end of forward passes that asked for it,
  // once for each layer whose span was not empty, in order of layer.
  virtual void Attended(int layer, const double* mass, int page_count, int tokens) = 0;

  // Within an epoch a page that names its block (`source`, `block` not 0) brings the same bytes
  // whenever a layer gets it, so that what was made of them may be kept. No other epoch of any
  // source has the same pointer while somebody holds it.
  const std::shared_ptr<const void>& epoch() const { return epoch_; }

 protected:
  // The same names may stand for other bytes from now on.
  void BeginEpoch() { epoch_ = std::make_shared<const char>(); }

 private:
  std::shared_ptr<const void> epoch_ = std::make_shared<const char>();
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SEAMS_H_
