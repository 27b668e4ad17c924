// Which blocks the chunks of a sequence recall, in the published method and its variants: the
// choice alone, through which no gradient flows. Notation and formulas: model/sequence_attention.h.
#ifndef EIDETIC_MODEL_SEQUENCE_SPANS_H_
#define EIDETIC_MODEL_SEQUENCE_SPANS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/sequence_options.h"

namespace eidetic::model {

// The blocks that chunks recall.
struct Spans {
  std::vector<int64_t> counts;  // for each chunk; empty in modes that have no spans
  at::Tensor blocks;            // int64 [K, sum of counts], ascending within a chunk, on the
                                // device of the queries; undefined when counts are 0
};

// query [K, G, L, d], key and value [K, L, d], any strides with a last one of 1; chunks of `chunk`
// tokens. Of kPaper, kPaperRandom and kPaperLandmark; other modes have no spans. A few operations,
// however many chunks there are. Thread-safe.
Spans ChooseSpansOfChunks(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const SequenceAttentionOptions& options, double scale, int64_t chunk);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SEQUENCE_SPANS_H_
