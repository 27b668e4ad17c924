#include "model/train/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr char kFirst[] = ".first_moment", kSecond[] = ".second_moment";

void CheckWithin(const char* name, double value, double below) {
  if (value >= 0 && value < below) return;
  throw Error(ErrorCode::kInvalidArgument,
              std::string("AdamW: ") + name + " is " + std::to_string(value) +
                  "; it must be 0 or more and below " + std::to_string(below));
}

}  // namespace

AdamW::AdamW(NamedTensors trained, const AdamWOptions& options)
    : trained_(std::move(trained)), options_(options) {
  CheckWithin("beta1", options.beta1, 1);
  CheckWithin("beta2", options.beta2, 1);
  CheckWithin("epsilon", options.epsilon, 1);
  CheckWithin("weight_decay", options.weight_decay, INFINITY);
  for (const auto& [name, tensor] : trained_) {
    first_.push_back(at::zeros_like(tensor).detach());
    second_.push_back(at::zeros_like(tensor).detach());
  }
}

// In one operation for all tensors of a type: on a GPU many small ones wait for each other.
void AdamW::Step(double rate) {
  const at::NoGradGuard no_gradient;
  ++steps_;
  struct Lists {
    std::vector<at::Tensor> tensors, gradients, first, second, counts;
  };
  std::map<at::ScalarType, Lists> by_type;
  for (size_t i = 0; i < trained_.size(); ++i) {
    const at::Tensor& tensor = trained_[i].second;
    at::Tensor gradient = tensor.grad();
    if (!gradient.defined()) continue;
    if (gradient.strides() != tensor.strides()) gradient = at::empty_like(tensor).copy_(gradient);
    Lists& lists = by_type[tensor.scalar_type()];
    lists.tensors.push_back(tensor);
    lists.gradients.push_back(gradient);
    lists.first.push_back(first_[i]);
    lists.second.push_back(second_[i]);
  }
  for (auto& [type, lists] : by_type) {
    const at::Tensor count = at::full({}, static_cast<double>(steps_ - restarted_),
                                      lists.tensors[0].options().dtype(at::kFloat));
    lists.counts.assign(lists.tensors.size(), count);
    at::_fused_adamw_(lists.tensors, lists.gradients, lists.first, lists.second,
                      /*max_exp_avg_sqs=*/{}, lists.counts, rate, options_.beta1, options_.beta2,
                      options_.weight_decay, options_.epsilon, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

void AdamW::ForgetGradients() {
  for (const auto& [name, tensor] : trained_) tensor.mutable_grad() = at::Tensor();
}

double AdamW::ClipGradients(double largest) {
  const at::NoGradGuard no_gradient;
  std::vector<at::Tensor> gradients;
  for (const auto& [name, tensor] : trained_) {
    if (tensor.grad().defined()) gradients.push_back(tensor.grad());
  }
  if (gradients.empty()) return 0;
  const std::vector<at::Tensor> norms = at::_foreach_norm(gradients, 2, at::kDouble);
  const double norm = at::linalg_vector_norm(at::stack(norms), 2).item<double>();
  if (largest > 0 && norm > largest) at::_foreach_mul_(gradients, largest / norm);
  return norm;
}

HostTensors AdamW::Export() const {
  HostTensors moments;
  for (size_t i = 0; i < trained_.size(); ++i) {
    moments[trained_[i].first + kFirst] = ToHost(first_[i]);
    moments[trained_[i].first + kSecond] = ToHost(second_[i]);
  }
  return moments;
}

void AdamW::Restart() {
  for (const auto* moments : {&first_, &second_}) {
    for (const at::Tensor& moment : *moments) moment.zero_();
  }
  restarted_ = steps_;
}

void AdamW::Import(const HostTensors& moments, int64_t steps, int64_t restarted) {
  if (steps < 0 || restarted < 0 || restarted > steps) {
    throw Error(ErrorCode::kInvalidArgument, "AdamW: steps is " + std::to_string(steps) + ", " +
                                                 std::to_string(restarted) +
                                                 " before a restart; they must be 0 or more");
  }
  const auto read = [&](const std::string& name, const at::Tensor& like) {
    const auto found = moments.find(name);
    if (found == moments.end()) {
      throw Error(ErrorCode::kInvalidArgument, "AdamW: there is no moment '" + name + "'",
                  "Use the state that was saved with this adapter.");
    }
    at::Tensor tensor = at::empty_like(like).detach();
    FromHost(found->second, name, tensor);
    return tensor;
  };
  std::vector<at::Tensor> first, second;
  for (size_t i = 0; i < trained_.size(); ++i) {
    first.push_back(read(trained_[i].first + kFirst, first_[i]));
    second.push_back(read(trained_[i].first + kSecond, second_[i]));
  }
  first_ = std::move(first);
  second_ = std::move(second);
  steps_ = steps;
  restarted_ = restarted;
}

}  // namespace eidetic::model
