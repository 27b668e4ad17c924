#include "model/train/cross_entropy.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>
#include <string>

#include "model/error.h"

namespace eidetic::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LossOfRows {
  at::Tensor sum;    // of the rows' losses, in double
  at::Tensor slope;  // its gradient by the logits: [n, V], in their type
};
// Of logits [n, V] of rows first .. first + n - 1, which it may overwrite.
using RowLoss = std::function<LossOfRows(int64_t first, const at::Tensor& logits)>;

at::ScalarType TypeOfLoss(const at::Tensor& numbers) {
  return numbers.scalar_type() == at::kBFloat16 ? at::kFloat : numbers.scalar_type();
}

at::Tensor Scaled(at::Tensor numbers, double divisor) {
  return divisor == 1 ? numbers : numbers.to(TypeOfLoss(numbers)).div_(divisor);
}

// hidden [n, D]
struct LogitLoss : torch::autograd::Function<LogitLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& weight, const RowLoss& loss, double divisor,
                            int64_t rows, bool of_hidden, bool of_weight) {
    const at::Tensor head = weight.to(hidden.scalar_type());
    at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
    at::Tensor hidden_gradient, weight_gradient;
    if (of_hidden) hidden_gradient = at::empty_like(hidden);
    if (of_weight) weight_gradient = at::zeros_like(weight);
    for (int64_t first = 0; first < hidden.size(0); first += rows) {
      const int64_t count = std::min(rows, hidden.size(0) - first);
      const at::Tensor input = hidden.narrow(0, first, count);
      LossOfRows of = loss(first, Scaled(at::mm(input, head.t()), divisor));
      sum.add_(of.sum);
      if (!of_hidden && !of_weight) continue;
      const at::Tensor slope = Scaled(of.slope, divisor).to(hidden.scalar_type());
      if (of_hidden) hidden_gradient.narrow(0, first, count).copy_(at::mm(slope, head));
      if (!of_weight) continue;
      if (weight.scalar_type() == hidden.scalar_type()) {
        weight_gradient.addmm_(slope.t(), input);
      } else {
        weight_gradient.add_(at::mm(slope.t(), input));
      }
    }
    context->save_for_backward({hidden_gradient, weight_gradient});
    return sum.to(TypeOfLoss(hidden));
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    variable_list result(7);
    for (size_t i = 0; i < saved.size(); ++i) {
      if (saved[i].defined()) result[i] = saved[i].mul(gradients[0]);
    }
    return result;
  }
};

at::Tensor LogSoftmax(const at::Tensor& logits) {
  return at::log_softmax(logits.to(TypeOfLoss(logits)), 1);
}

// The loss of one token each: target int64 [all, 1].
RowLoss LossOfTokens(const at::Tensor& target) {
  return [target](int64_t first, const at::Tensor& logits) -> LossOfRows {
    const at::Tensor correct = target.narrow(0, first, logits.size(0));
    at::Tensor logarithms = LogSoftmax(logits);
    const at::Tensor of_correct = logarithms.gather(1, correct);
    // d loss / d logits = softmax - 1 at the target. A 1 is taken away before bf16 rounds.
    at::Tensor slope = logits;
    at::exp_out(slope, logarithms);
    slope.scatter_(1, correct, of_correct.exp().sub_(1).to(slope.scalar_type()));
    return {of_correct.sum(at::kDouble).neg_(), slope};
  };
}

// (1 - text_share) KL(wanted || given) + text_share (the loss of one token), of logits that
// `wanted` has for rows of `places`, int64 [all]; target [all, 1].
RowLoss LossOfDistributions(const WantedLogits& wanted, const at::Tensor& places,
                            const at::Tensor& target, double text_share) {
  return [=](int64_t first, const at::Tensor& logits) -> LossOfRows {
    at::Tensor aim = LogSoftmax(wanted(places.narrow(0, first, logits.size(0))).detach());
    at::Tensor given = LogSoftmax(logits);
    const at::Tensor share = aim.exp();
    at::Tensor sum = share.mul(aim.sub_(given)).sum(at::kDouble);
    if (text_share == 0) return {sum, given.exp_().sub_(share)};
    const at::Tensor correct = target.narrow(0, first, logits.size(0));
    sum = sum.mul(1 - text_share).sub(given.gather(1, correct).sum(at::kDouble).mul(text_share));
    given.exp_().sub_(share, 1 - text_share);
    given.scatter_add_(1, correct, at::empty(correct.sizes(), given.options()).fill_(-text_share));
    return {sum, given};
  };
}

void CheckTargets(const std::vector<int32_t>& targets, int64_t rows, int64_t vocabulary) {
  if (static_cast<int64_t>(targets.size()) != rows) {
    throw Error(ErrorCode::kInvalidArgument,
                "cross entropy: there are " + std::to_string(targets.size()) + " targets for " +
                    std::to_string(rows) + " rows",
                "Give one target for each row, -1 where there is no loss.");
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] == kNoTarget || (targets[i] >= 0 && targets[i] < vocabulary)) continue;
    throw Error(ErrorCode::kInvalidArgument,
                "cross entropy: target " + std::to_string(i) + " is " + std::to_string(targets[i]) +
                    ", outside the vocabulary of " + std::to_string(vocabulary),
                "Encode the text with this model's tokenizer; -1 stands for no loss.");
  }
}

}  // namespace

namespace {

// Rows that have a target: where they stand, int64 [n], and which it is, [n].
struct RowsWithTargets {
  at::Tensor places, ids;
};

RowsWithTargets FindTargets(const at::Tensor& hidden, const at::Tensor& weight,
                            const std::vector<int32_t>& targets, int64_t rows) {
  CheckTargets(targets, hidden.size(0), weight.size(0));
  if (rows < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "cross entropy: rows is " + std::to_string(rows) + "; it must be 1 or more");
  }
  std::vector<int64_t> places, ids;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] == kNoTarget) continue;
    places.push_back(static_cast<int64_t>(i));
    ids.push_back(targets[i]);
  }
  const auto tensor_of = [&](const std::vector<int64_t>& numbers) {
    at::Tensor tensor = at::empty({static_cast<int64_t>(numbers.size())}, at::kLong);
    std::copy(numbers.begin(), numbers.end(), tensor.mutable_data_ptr<int64_t>());
    return tensor.to(hidden.device());
  };
  return {tensor_of(places), tensor_of(ids)};
}

at::Tensor SumLogitLoss(const at::Tensor& hidden, const at::Tensor& weight,
                        const at::Tensor& places, const RowLoss& loss, double divisor,
                        int64_t rows) {
  const at::Tensor with_loss =
      places.size(0) == hidden.size(0) ? hidden : hidden.index_select(0, places);
  const bool wanted = at::GradMode::is_enabled();
  return LogitLoss::apply(with_loss, weight, loss, divisor, rows,
                          wanted && with_loss.requires_grad(), wanted && weight.requires_grad());
}

}  // namespace

at::Tensor SumCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                           const std::vector<int32_t>& targets, double divisor, int64_t rows) {
  const RowsWithTargets found = FindTargets(hidden, weight, targets, rows);
  return SumLogitLoss(hidden, weight, found.places, LossOfTokens(found.ids.unsqueeze(1)), divisor,
                      rows);
}

at::Tensor SumDivergence(const at::Tensor& hidden, const at::Tensor& weight,
                         const std::vector<int32_t>& targets, const WantedLogits& wanted,
                         double text_share, double divisor, int64_t rows) {
  const RowsWithTargets found = FindTargets(hidden, weight, targets, rows);
  return SumLogitLoss(hidden, weight, found.places,
                      LossOfDistributions(wanted, found.places, found.ids.unsqueeze(1), text_share),
                      divisor, rows);
}

}  // namespace eidetic::model
