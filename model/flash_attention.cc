#include "model/flash_attention.h"

#include <ATen/ops/_flash_attention_forward.h>

#include <optional>
#include <tuple>

namespace eidetic::model {

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

}  // namespace eidetic::model
