// Grouped-query attention over [sinks | span | window | segment].
#ifndef EIDETIC_MODEL_ATTENTION_H_
#define EIDETIC_MODEL_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "kernels/span_view.h"
#include "model/config.h"
#include "model/hybrid_model.h"
#include "model/key_value_window.h"
#include "model/rotary.h"

namespace eidetic::model {

// What the attention layers of one forward pass share. The window has room for the segment
// (Reserve) before the pass.
//
// Positions: queries, window and segment are rotated at their position in the stream; sinks and
// span stand right before the window, at the positions that end where it begins. Rotation is
// relative, so this is [sinks | span | window | segment] numbered compactly, and window keys are
// rotated once.
class AttentionPass {
 public:
  AttentionPass(const ModelConfig& config, const AttentionOptions& options, KeyValueWindow* window,
                RotaryTable* rotary, int64_t position, int64_t tokens);

  // The span of span layers; null: none.
  SpanSource* span = nullptr;
  bool report_attention = false;

  // One layer: qkv [L, (H + 2 K) d] of the segment, q and k not rotated -> [L, H d]. Writes the
  // segment's keys and values behind the window. `layer`: of the model; `index`: among attention
  // layers.
  at::Tensor Attend(const at::Tensor& qkv, int layer, int index);
  // After the last layer: tells the span source what its pages were paid, when that was asked for.
  // On a device this waits once for all layers.
  void ReportAttention();

 private:
  // What one layer's queries paid to its span, not yet read from the device.
  struct Payment {
    int layer;
    std::vector<int> page_tokens;
    std::vector<at::Tensor> tokens;  // per query chunk: [span tokens] in double, summed over heads
  };
  // Fetches the layer's span for these queries; the view is empty when the layer has none.
  kernels::SpanView SelectSpan(const at::Tensor& query, int layer);
  void WritePrefix(int index, const kernels::SpanView& span);
  // Queries q0 .. q0 + query.size(2) - 1 of the segment; query, result [K, H / K, queries, d].
  at::Tensor AttendFused(const at::Tensor& query, int index, int64_t prefix, int64_t q0);
  // `payment` may be null.
  at::Tensor AttendExplicitly(const at::Tensor& query, int index, int64_t prefix, int64_t q0,
                              int64_t span_tokens, Payment* payment);
  // 0 where a query of the segment may look and -inf where it may not: [queries, columns], the last
  // `queries` columns being those of the queries themselves.
  const at::Tensor& CausalMask(int64_t queries, int64_t columns);

  const ModelConfig& config_;
  const AttentionOptions& options_;
  KeyValueWindow& window_;
  RotaryTable& rotary_;
  int64_t position_;  // of the segment's first token
  int64_t tokens_;    // L
  int64_t window_begin_;
  at::Tensor segment_angles_;  // [L, dims / 2, 2]
  at::Tensor query_angles_;    // [1, dims / 2, 2] of the scoring queries
  std::map<std::pair<int64_t, int64_t>, at::Tensor> masks_;
  std::vector<Payment> payments_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ATTENTION_H_
