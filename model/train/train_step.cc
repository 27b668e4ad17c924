#include "model/train/train_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "model/error.h"
#include "model/train/cross_entropy.h"
#include "model/train/train_group.h"

namespace eidetic::model {
namespace {

struct Targets {
  std::vector<std::vector<int32_t>> of_sequence;
  int64_t predicted = 0;
};

Targets AllTargets(const std::vector<TrainSequence>& sequences) {
  Targets targets;
  for (const TrainSequence& sequence : sequences) {
    targets.of_sequence.push_back(TargetsOf(sequence));
    for (const int32_t target : targets.of_sequence.back()) {
      targets.predicted += target == kNoTarget ? 0 : 1;
    }
  }
  if (targets.predicted == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "no token of " + std::to_string(sequences.size()) + " sequences is predicted",
                "Give a sequence of two tokens or more with a loss on one behind the first.");
  }
  return targets;
}

// Gradients that a failed pass left behind must not enter the next step.
class GradientsForgotten {
 public:
  explicit GradientsForgotten(AdamW* optimizer) : optimizer_(optimizer) {
    optimizer_->ForgetGradients();
  }
  ~GradientsForgotten() { optimizer_->ForgetGradients(); }
  GradientsForgotten(const GradientsForgotten&) = delete;
  GradientsForgotten& operator=(const GradientsForgotten&) = delete;

 private:
  AdamW* optimizer_;
};

// Of all processes: the loss, and the gradients. What none has a gradient for stays without one.
void AddUp(TrainGroup* group, const NamedTensors& trained, double* loss) {
  at::Tensor sums = at::empty({static_cast<int64_t>(trained.size()) + 1}, at::kDouble);
  double* const own = sums.mutable_data_ptr<double>();
  *own = *loss;
  for (size_t i = 0; i < trained.size(); ++i) {
    own[i + 1] = trained[i].second.grad().defined() ? 1 : 0;
  }
  const c10::Device device = trained.empty() ? sums.device() : trained.front().second.device();
  sums = sums.to(device);
  group->Sum({sums});
  sums = sums.to(at::kCPU);
  const double* const of_all = sums.const_data_ptr<double>();
  *loss = *of_all;
  std::vector<at::Tensor> gradients;
  for (size_t i = 0; i < trained.size(); ++i) {
    if (of_all[i + 1] == 0) continue;
    const at::Tensor& tensor = trained[i].second;
    if (!tensor.grad().defined()) tensor.mutable_grad() = at::zeros_like(tensor).detach();
    gradients.push_back(tensor.grad());
  }
  if (!gradients.empty()) group->Sum(gradients);
}

}  // namespace

std::vector<int32_t> TargetsOf(const TrainSequence& sequence) {
  const std::vector<int32_t>& tokens = sequence.tokens;
  if (!sequence.predicted.empty() && sequence.predicted.size() != tokens.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                "a sequence of " + std::to_string(tokens.size()) + " tokens says of " +
                    std::to_string(sequence.predicted.size()) + " whether they are predicted",
                "Say it of each token, or of none.");
  }
  std::vector<int32_t> targets(tokens.size(), kNoTarget);
  for (size_t i = 1; i < tokens.size(); ++i) {
    if (sequence.predicted.empty() || sequence.predicted[i]) targets[i - 1] = tokens[i];
  }
  return targets;
}

TrainStepResult TrainStep(const DifferentiableModel& model,
                          const std::vector<TrainSequence>& sequences,
                          const TrainStepOptions& options, AdamW* optimizer) {
  if (options.micro_batch < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "micro_batch is " + std::to_string(options.micro_batch), "Pass 1 or more.");
  }
  const Targets targets = AllTargets(sequences);
  const GradientsForgotten forgotten(optimizer);
  const auto step = static_cast<int>(optimizer->steps());
  TrainStepResult result;
  result.predicted_tokens = targets.predicted;
  const double share = 1 / static_cast<double>(targets.predicted);
  at::Tensor sum;  // of losses; read once, so that a device need not wait between sequences
  const SequenceLoss cross_entropy = [&](const auto& tokens, const auto& wanted,
                                         const TrainForwardOptions& forward) {
    return model.SumLoss(model.Hidden(tokens, forward), wanted);
  };
  const SequenceLoss& loss_of = options.loss ? options.loss : cross_entropy;
  const bool is_shared = options.group != nullptr;
  const size_t first = is_shared ? static_cast<size_t>(options.group->process()) : 0;
  const size_t stride = is_shared ? static_cast<size_t>(options.group->processes()) : 1;
  TrainForwardOptions forward = options.forward;
  forward.attention.seed = SeedOfLayer(options.forward.attention.seed, step);
  forward.dropout_seed.reset();
  if (options.dropout) forward.dropout_seed = SeedOfLayer(options.seed, step);
  for (size_t i = first; i < sequences.size();) {
    std::vector<int32_t> tokens, wanted;
    const size_t length = sequences[i].tokens.size();
    forward.sequences = 0;
    forward.numbers.clear();
    for (; i < sequences.size() && forward.sequences < options.micro_batch; i += stride) {
      if (sequences[i].tokens.size() != length) break;
      const auto append = [](const std::vector<int32_t>& more, std::vector<int32_t>* all) {
        all->insert(all->end(), more.begin(), more.end());
      };
      append(sequences[i].tokens, &tokens);
      append(targets.of_sequence[i], &wanted);
      forward.numbers.push_back(static_cast<int>(i));
      ++forward.sequences;
    }
    const at::Tensor loss = loss_of(tokens, wanted, forward).mul(share);
    if (!loss.requires_grad()) {
      throw Error(ErrorCode::kInvalidArgument, "nothing of the model is trained",
                  "Put an adapter on it, or unmerge the one there is.");
    }
    loss.backward();
    const at::Tensor told = loss.detach().to(at::kDouble);
    sum = sum.defined() ? sum.add(told) : told;
  }
  if (sum.defined()) result.loss = sum.item<double>();
  if (is_shared) AddUp(options.group, optimizer->trained(), &result.loss);
  result.gradient_norm = optimizer->ClipGradients(options.largest_norm);
  result.stepped = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (result.stepped) optimizer->Step(options.rate);
  return result;
}

double MeanLoss(const DifferentiableModel& model, const std::vector<TrainSequence>& sequences,
                const TrainForwardOptions& options) {
  const Targets targets = AllTargets(sequences);
  const at::NoGradGuard no_gradient;
  TrainForwardOptions forward = options;
  forward.dropout_seed.reset();
  double sum = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    sum += model.SumLoss(model.Hidden(sequences[i].tokens, forward), targets.of_sequence[i])
               .item<double>();
  }
  return sum / static_cast<double>(targets.predicted);
}

double RateOfStep(int64_t step, double rate, int64_t warm_up) {
  if (step >= warm_up) return rate;
  return rate * static_cast<double>(step + 1) / static_cast<double>(warm_up);
}

}  // namespace eidetic::model
