// Keys and values of every attention layer of one stream: the sinks, the window, and room for a
// span before the window, so that one attention call sees them as one contiguous run of rows.
//
// A layer's buffer is a line of slots:
//
//     [ free | sinks, span | window | free ]
//              ^ prefix      ^ begin  ^ end
//
// The window moves right as tokens arrive and leave; when it meets the end of the buffer it is
// moved back to the front. The prefix is written by the attention layer, right before the window:
// its slots hold only tokens that have left. What of it stands where it is wanted already is
// remembered, and not written again (docs/decisions/056-pages-that-stay.md).
#ifndef EIDETIC_MODEL_KEY_VALUE_WINDOW_H_
#define EIDETIC_MODEL_KEY_VALUE_WINDOW_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/span_view.h"

namespace eidetic::model {

// What a slot holds of a token.
enum class Plane : int { kKey = 0, kValue = 1, kRotatedKey = 2 };

struct WindowShape {
  int layers = 0;  // attention layers
  int kv_heads = 0;
  int head_dim = 0;
};

// Not thread-safe.
class KeyValueWindow {
 public:
  // `sinks`: how many first tokens are kept for good.
  KeyValueWindow(const WindowShape& shape, int sinks, c10::Device device);

  // The same sinks and window in memory of its own; nothing stands in its prefix.
  KeyValueWindow Copy() const;

  int64_t sink_count() const { return sink_count_; }  // sinks there are by now
  int64_t window_tokens() const { return end_ - begin_; }
  int64_t prefix_capacity() const { return prefix_capacity_; }
  const WindowShape& shape() const { return shape_; }
  uint64_t bytes() const;

  // Makes room for `tokens` more at the end and for a prefix of `prefix` tokens.
  void Reserve(int64_t prefix, int64_t tokens);
  // Slots relative to the window's first one (so the prefix has negative ones): [kv_heads, count,
  // d].
  at::Tensor Slots(int layer, Plane plane, int64_t first, int64_t count) const;
  // Keys (not rotated) and values together: [2, kv_heads, count, d].
  at::Tensor KeyAndValueSlots(int layer, int64_t first, int64_t count) const;
  // The same of the sinks.
  at::Tensor SinkKeys(int layer) const;  // [kv_heads, sink_count, d]
  at::Tensor SinkValues(int layer) const;

  // True when the sinks that stand in the layer's prefix were written for another place or number
  // of prefix tokens: the caller writes them then.
  bool SinksAreStale(int layer, int64_t prefix) const;
  void MarkSinksWritten(int layer, int64_t prefix);
  // The pages of `span` that do not stand in the layer's prefix yet, ascending. A page stands there
  // when it was marked as written in the same epoch of its source (model/seams.h) at the same
  // distance from the window, and the window begins where it did.
  std::vector<int> StalePages(int layer, const kernels::SpanView& span,
                              const std::shared_ptr<const void>& epoch) const;
  // The pages of `span`, and no others, stand in the layer's prefix.
  void MarkPagesWritten(int layer, const kernels::SpanView& span,
                        const std::shared_ptr<const void>& epoch);

  // The `tokens` rows written behind the window become part of it; the first ones ever become
  // sinks.
  void Advance(int64_t tokens);
  // The window's first `tokens` rows leave.
  void Drop(int64_t tokens);
  // Keys before rotation and values of the last `from_sinks` sinks followed by the window's rows
  // first .. first + count - 1, on the CPU: [layers, 2, from_sinks + count, kv_heads, d]. A copy of
  // its own, also of a window on the CPU: it outlives what happens to the window. One transfer from
  // the device.
  at::Tensor CopyOut(int64_t from_sinks, int64_t first, int64_t count) const;
  // For a restored stream: the sinks and the window, [layers, 2, kv_heads, tokens, d] each. The
  // rotated keys are the caller's to write.
  void Fill(const at::Tensor& sinks, const at::Tensor& window);
  at::Tensor SinkRows() const;    // [layers, 2, kv_heads, sink_count, d], a view
  at::Tensor WindowRows() const;  // [layers, 2, kv_heads, window_tokens, d], a view

 private:
  struct StandingPage {
    int source;
    uint64_t block;
    int64_t distance;  // of its first token from the window's first
  };
  // What a layer's prefix holds.
  struct PrefixStamp {
    int64_t begin = -1;   // the window's first slot when the sinks were written
    int64_t tokens = -1;  // of sinks and span together
    int64_t pages_begin = -1;
    std::shared_ptr<const void> epoch;
    std::vector<StandingPage> pages;
  };
  void ForgetPrefixes();
  void Reallocate(int64_t capacity, int64_t begin);
  void MoveTo(int64_t begin);

  WindowShape shape_;
  int64_t sinks_wanted_;
  c10::Device device_;
  at::Tensor rows_;                 // [layers, 3, kv_heads, capacity, d]
  std::vector<at::Tensor> planes_;  // [layers * 3] views of rows_: [kv_heads, capacity, d]
  at::Tensor sinks_;                // [layers, 2, kv_heads, sinks_wanted, d]
  int64_t sink_count_ = 0;
  int64_t prefix_capacity_ = 0;
  int64_t capacity_ = 0;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  std::vector<PrefixStamp> stamps_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_KEY_VALUE_WINDOW_H_
