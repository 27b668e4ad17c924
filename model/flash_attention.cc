#include "model/flash_attention.h"

#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>
#include <tuple>

namespace eidetic::model {
namespace {

// Where pieces begin and the last one ends, as the kernel wants it: int32 [2, pieces + 1], of
// queries and of keys, on `device`. The copy waits for nothing.
at::Tensor Borders(const std::vector<int64_t>& query_lengths,
                   const std::vector<int64_t>& key_lengths, c10::Device device) {
  at::Tensor borders =
      at::empty({2, static_cast<int64_t>(query_lengths.size()) + 1}, at::TensorOptions(at::kInt));
  int32_t* border = borders.mutable_data_ptr<int32_t>();
  for (const std::vector<int64_t>* lengths : {&query_lengths, &key_lengths}) {
    int32_t end = 0;
    *border++ = end;
    for (const int64_t length : *lengths) *border++ = end += static_cast<int32_t>(length);
  }
  return borders.to(device, /*non_blocking=*/true);
}

// The kernel's number for "the last query sees the last key".
constexpr int64_t kCausalFromBottomRight = 2;

}  // namespace

bool HasFlashAttention(const at::Tensor& query) {
  const int64_t width = query.size(-1);
  return query.is_cuda() &&
         (query.scalar_type() == at::kBFloat16 || query.scalar_type() == at::kHalf) &&
         width % 8 == 0 && width <= 256;
}

at::Tensor FlashAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          double scale, int64_t window) {
  std::optional<int64_t> left, right;
  if (window > 0) {
    left = window - 1;
    right = 0;
  }
  return std::get<0>(at::_flash_attention_forward(
      query, key, value, {}, {}, query.size(1), key.size(1), /*dropout_p=*/0.0, /*is_causal=*/true,
      /*return_debug_mask=*/false, scale, left, right));
}

at::Tensor FlashAttentionOfPieces(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value,
                                  const std::vector<int64_t>& query_lengths,
                                  const std::vector<int64_t>& key_lengths, double scale) {
  const at::Tensor borders = Borders(query_lengths, key_lengths, query.device());
  return std::get<0>(at::_flash_attention_forward(
      query, key, value, borders.select(0, 0), borders.select(0, 1),
      *std::max_element(query_lengths.begin(), query_lengths.end()),
      *std::max_element(key_lengths.begin(), key_lengths.end()), /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, scale, {}, {}));
}

bool HasEfficientAttention(const at::Tensor& query) {
  return query.is_cuda() && query.scalar_type() == at::kFloat && query.size(-1) % 8 == 0;
}

at::Tensor EfficientAttention(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value, double scale) {
  // The kernel wants tokens before heads.
  return std::get<0>(at::_efficient_attention_forward(
                         query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2),
                         /*bias=*/{}, {}, {}, {}, {}, /*dropout_p=*/0.0, kCausalFromBottomRight,
                         /*compute_log_sumexp=*/false, scale))
      .transpose(1, 2);
}

}  // namespace eidetic::model
