// Writing a span's pages where attention reads them.
#ifndef EIDETIC_MODEL_SPAN_PAGES_H_
#define EIDETIC_MODEL_SPAN_PAGES_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

#include "kernels/span_view.h"

namespace eidetic::model {

// Decodes the pages `stale` (ascending numbers of pages; not empty) and writes their keys, rotated,
// and their values. keys, values: the slots of the whole span, [kv_heads, span.tokens, d]; angles
// [span.tokens, dims / 2, 2] on the same device. On a device whatever lies between the first and
// the last of them is written too: one transfer and few kernels cost less than many small ones.
// What is written depends on the page and its angles alone, bit for bit (rule 9).
void WritePages(const kernels::SpanView& span, const std::vector<int>& stale,
                const at::Tensor& angles, const at::Tensor& keys, const at::Tensor& values);

// Keys and values of pages first .. last - 1, decoded: fp32 [2, kv_heads, tokens, d] on `device`, a
// permuted view. Pages of equal shape in int8 travel as they are coded, a quarter of the bytes, and
// are decoded there, to the same bits as kernels::DecodeRows.
at::Tensor DecodePages(const kernels::SpanView& span, int first, int last, c10::Device device);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SPAN_PAGES_H_
