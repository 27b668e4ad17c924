#include "model/train/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace eidetic::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Part = std::function<at::Tensor(const at::Tensor&)>;

struct PartHolder : torch::CustomClassHolder {
  explicit PartHolder(Part p) : part(std::move(p)) {}
  Part part;
};

struct RecomputedPart : torch::autograd::Function<RecomputedPart> {
  // tensors: the input, then the parameters. A TensorList, as the tensors of a vector would not be
  // seen.
  static at::Tensor forward(AutogradContext* context, at::TensorList tensors,
                            const c10::intrusive_ptr<PartHolder>& holder) {
    context->save_for_backward(tensors.vec());
    context->saved_data["part"] = c10::IValue::make_capsule(holder);
    return holder->part(tensors[0]);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list tensors = context->get_saved_variables();
    const auto holder = context->saved_data["part"].toCapsule();
    const Part& part = static_cast<const PartHolder&>(*holder).part;

    const at::AutoGradMode with_gradients(true);
    const at::Tensor input = tensors[0].detach().set_requires_grad(tensors[0].requires_grad());
    variable_list wanted;
    if (input.requires_grad()) wanted.push_back(input);
    for (size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i].requires_grad()) wanted.push_back(tensors[i]);
    }
    const variable_list found =
        torch::autograd::grad({part(input)}, wanted, gradients, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result;
    size_t next = 0;
    for (const at::Tensor& tensor : tensors) {
      result.push_back(tensor.requires_grad() ? found[next++] : at::Tensor());
    }
    result.emplace_back();  // of the holder
    return result;
  }
};

}  // namespace

at::Tensor Recomputed(const Part& part, const at::Tensor& input,
                      const std::vector<at::Tensor>& parameters) {
  variable_list tensors = {input};
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  return RecomputedPart::apply(at::TensorList(tensors), c10::make_intrusive<PartHolder>(part));
}

}  // namespace eidetic::model
