#include "model/span_pages.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "model/rotary.h"

namespace eidetic::model {
namespace {

at::TensorOptions HostOptions(at::ScalarType type, c10::Device device) {
  return at::TensorOptions().dtype(type).pinned_memory(device.is_cuda());
}

int64_t TokensOf(const kernels::SpanView& span, int first, int last) {
  int64_t tokens = 0;
  for (int i = first; i < last; ++i) tokens += span.pages[i].tokens;
  return tokens;
}

// Whether the pages' payloads can be stacked and viewed as numbers followed by fp16 scales.
bool TravelCoded(const kernels::SpanView& span, int first, int last) {
  const kernels::SpanPage& one = span.pages[first];
  const bool even = one.tokens * span.kv_heads * span.head_dim % 2 == 0;
  return even && std::all_of(span.pages + first, span.pages + last, [&](const auto& page) {
           return page.codec == kernels::Codec::kInt8 && page.tokens == one.tokens;
         });
}

at::Tensor DecodeThere(const kernels::SpanView& span, int first, int last, c10::Device device) {
  const int64_t pages = last - first, tokens = span.pages[first].tokens;
  const int64_t heads = span.kv_heads, scales = tokens * heads, numbers = scales * span.head_dim;
  const int64_t bytes = numbers + 2 * scales;
  const at::Tensor host = at::empty({2, pages, bytes}, HostOptions(at::kByte, device));
  uint8_t* keys = host.mutable_data_ptr<uint8_t>();
  uint8_t* values = keys + pages * bytes;
  for (int64_t i = 0; i < pages; ++i) {
    const kernels::SpanPage& page = span.pages[first + i];
    std::memcpy(keys + i * bytes, page.keys, static_cast<size_t>(bytes));
    std::memcpy(values + i * bytes, page.values, static_cast<size_t>(bytes));
  }
  const at::Tensor coded = host.to(device, /*non_blocking=*/true);
  const at::Tensor rows = coded.narrow(2, 0, numbers)
                              .view(at::kChar)
                              .to(at::kFloat, false, false, at::MemoryFormat::Contiguous)
                              .view({2, pages * tokens, heads, span.head_dim});
  rows.mul_(coded.narrow(2, numbers, 2 * scales)
                .view(at::kHalf)
                .to(at::kFloat, false, false, at::MemoryFormat::Contiguous)
                .view({2, pages * tokens, heads, 1}));
  return rows.permute({0, 2, 1, 3});
}

at::Tensor DecodeHere(const kernels::SpanView& span, int first, int last, c10::Device device) {
  const int64_t tokens = TokensOf(span, first, last);
  const int64_t row = static_cast<int64_t>(span.kv_heads) * span.head_dim;
  const at::Tensor host =
      at::empty({2, tokens, span.kv_heads, span.head_dim}, HostOptions(at::kFloat, device));
  float* keys = host.mutable_data_ptr<float>();
  float* values = keys + tokens * row;
  for (int i = first; i < last; ++i) {
    const kernels::SpanPage& page = span.pages[i];
    kernels::DecodeRows(page.codec, page.keys, page.tokens, span.kv_heads, span.head_dim, keys);
    kernels::DecodeRows(page.codec, page.values, page.tokens, span.kv_heads, span.head_dim, values);
    keys += page.tokens * row;
    values += page.tokens * row;
  }
  return host.to(device, /*non_blocking=*/true).permute({0, 2, 1, 3});
}

// Page by page through rows that stay in the first cache.
void WritePagesOnCpu(const kernels::SpanView& span, const std::vector<int>& stale,
                     const at::Tensor& angles, const at::Tensor& keys, const at::Tensor& values) {
  const int64_t heads = span.kv_heads, d = span.head_dim, pairs = angles.size(1);
  const float* angle = angles.const_data_ptr<float>();
  float* key = keys.mutable_data_ptr<float>();
  float* value = values.mutable_data_ptr<float>();
  int most = 0;
  for (const int page : stale) most = std::max(most, span.pages[page].tokens);
  std::vector<float> rows(static_cast<size_t>(most * heads * d));
  int64_t token = 0;
  auto next = stale.begin();
  for (int i = 0; next != stale.end(); token += span.pages[i++].tokens) {
    if (*next != i) continue;
    ++next;
    const kernels::SpanPage& page = span.pages[i];
    kernels::DecodeRows(page.codec, page.keys, page.tokens, span.kv_heads, span.head_dim,
                        rows.data());
    for (int64_t t = 0; t < page.tokens; ++t) {
      for (int64_t head = 0; head < heads; ++head) {
        RotateRow(rows.data() + (t * heads + head) * d, angle + (token + t) * angles.stride(0),
                  pairs, d, key + head * keys.stride(0) + (token + t) * keys.stride(1));
      }
    }
    kernels::DecodeRows(page.codec, page.values, page.tokens, span.kv_heads, span.head_dim,
                        rows.data());
    for (int64_t t = 0; t < page.tokens; ++t) {
      for (int64_t head = 0; head < heads; ++head) {
        std::copy_n(rows.data() + (t * heads + head) * d, d,
                    value + head * values.stride(0) + (token + t) * values.stride(1));
      }
    }
  }
}

}  // namespace

at::Tensor DecodePages(const kernels::SpanView& span, int first, int last, c10::Device device) {
  return TravelCoded(span, first, last) ? DecodeThere(span, first, last, device)
                                        : DecodeHere(span, first, last, device);
}

void WritePages(const kernels::SpanView& span, const std::vector<int>& stale,
                const at::Tensor& angles, const at::Tensor& keys, const at::Tensor& values) {
  if (keys.is_cpu()) {
    WritePagesOnCpu(span, stale, angles, keys, values);
    return;
  }
  const int first = stale.front(), last = stale.back() + 1;
  const int64_t before = TokensOf(span, 0, first), count = TokensOf(span, first, last);
  const at::Tensor rows = DecodePages(span, first, last, keys.device());
  Rotate(rows[0], angles.narrow(0, before, count), keys.narrow(1, before, count));
  values.narrow(1, before, count).copy_(rows[1]);
}

}  // namespace eidetic::model
