// The loss of a language model without its logits: a few rows of them at a time.
#ifndef EIDETIC_MODEL_TRAIN_CROSS_ENTROPY_H_
#define EIDETIC_MODEL_TRAIN_CROSS_ENTROPY_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace eidetic::model {

// The target of a row that has no loss.
inline constexpr int32_t kNoTarget = -1;

// The sum over rows i with a target of -ln softmax(hidden_i weight^T / divisor)[target_i]: a number
// of hidden's type (fp32 for bf16), summed in double.
//
// hidden [n, D], weight [V, D], targets [n]. Of a bf16 hidden products are bf16, the softmax and
// the gradient of an fp32 weight are fp32. Differentiable by both tensors, once. Logits exist of
// `rows` rows at a time, in forward alone: gradients are made there too, where they are wanted, and
// take [n, D] and, of a weight that requires one, [V, D]. `rows` changes rounding only. Throws
// kInvalidArgument for a target outside the vocabulary, or when there is not one target for each
// row.
at::Tensor SumCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                           const std::vector<int32_t>& targets, double divisor = 1,
                           int64_t rows = 256);

// Logits [n, V] for rows of these numbers, int64 [n].
using WantedLogits = std::function<at::Tensor(const at::Tensor& rows)>;

// The same with distributions in place of tokens: the sum over rows with a target of
// (1 - text_share) KL(softmax(wanted) || softmax(hidden weight^T / divisor)) + text_share times
// what SumCrossEntropy sums, in nats. No gradient reaches `wanted`, which is asked for a few rows
// at a time.
at::Tensor SumDivergence(const at::Tensor& hidden, const at::Tensor& weight,
                         const std::vector<int32_t>& targets, const WantedLogits& wanted,
                         double text_share = 0, double divisor = 1, int64_t rows = 256);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_CROSS_ENTROPY_H_
