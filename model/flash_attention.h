// The fused causal attentions of CUDA in which queries may be fewer than keys, without a mask: in
// sixteen bits, where heads that share a key head share it without a copy (Dao, "FlashAttention-2",
// 2023), and in float (Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021), as
// LibTorch carries them.
#ifndef EIDETIC_MODEL_FLASH_ATTENTION_H_
#define EIDETIC_MODEL_FLASH_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace eidetic::model {

// Whether tensors like this one can go there; what cannot is for scaled_dot_product_attention.
bool HasFlashAttention(const at::Tensor& query);

// query [B, n, H, d], key and value [B, T, K, d] with T >= n -> [B, n, H, d]. The queries are the
// last n of T tokens; each sees the keys up to its own place, the last `window` of them (0: all).
// Differentiable by all three.
at::Tensor FlashAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          double scale, int64_t window);

// Pieces that do not see each other, one behind the other: query [sum of n_i, H, d], key and value
// [sum of T_i, K, d] with T_i >= n_i > 0, contiguous in d -> [sum of n_i, H, d], each piece as
// FlashAttention of it alone. One call of the kernel, and one in backward. Differentiable by all
// three.
at::Tensor FlashAttentionOfPieces(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value,
                                  const std::vector<int64_t>& query_lengths,
                                  const std::vector<int64_t>& key_lengths, double scale);

// The same question for the kernel in float.
bool HasEfficientAttention(const at::Tensor& query);

// In float: query [B, H, n, d], key and value [B, H, T, d] with T >= n, contiguous in d ->
// [B, H, n, d]. The queries are the last n of T tokens; each sees the keys up to its own place. Has
// no derivative.
at::Tensor EfficientAttention(const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value, double scale);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_FLASH_ATTENTION_H_
