// Operations counted from the model against those that LibTorch is asked for.
#include "model/train/train_flops.h"

#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include "model/train/adapter.h"
#include "model/train/distill.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

// By the shapes of factors, on this thread.
thread_local double product_flops = 0;

std::unique_ptr<at::ObserverContext> CountProduct(const at::RecordFunction& call) {
  if (std::string(call.name()) != "aten::mm") return nullptr;
  const at::Tensor &left = call.inputs()[0].toTensor(), &right = call.inputs()[1].toTensor();
  product_flops += 2.0 * static_cast<double>(left.numel() * right.size(1));
  return nullptr;
}

// Of products of two matrices: those with weights.
double ProductFlopsOf(const std::function<void()>& work) {
  const at::CallbackHandle handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(CountProduct).needsInputs(true));
  product_flops = 0;
  work();
  at::removeCallback(handle);
  return product_flops;
}

// On the CPU, where backward is of this thread.
TEST(TrainFlopsTest, OfMixersThatLearnAloneAreThoseThatAreComputed) {
  constexpr int64_t kTokens = 40;
  const DifferentiableModel teacher(*TinyLlama(), at::kCPU, at::kFloat);
  const std::vector<int32_t> ids = RandomTokens(kTokens, teacher.config().vocabulary, 1);
  for (const AdapterKind kind :
       {AdapterKind::kMixers, AdapterKind::kHylora, AdapterKind::kLoraPlus}) {
    DifferentiableModel student(*TinyGranite(), at::kCPU, at::kFloat);
    const Adapter adapter({.kind = kind, .rank = 4, .targets = {"in_proj", "out_proj"}}, &student);
    const double products = ProductFlopsOf([&] {
      SumMixerLoss(teacher, student, ids, NextTokens(ids), TrainOptions(SequenceMode::kFull))
          .backward();
    });
    const ModelConfig& of_teacher = teacher.config();
    const MambaConfig& mamba = student.config().mamba;
    const double attention =
        4.0 * of_teacher.heads * of_teacher.head_dim * kTokens * (kTokens + 1) / 2;
    const double scan = 5.0 * mamba.Inner() * mamba.state * kTokens;
    EXPECT_DOUBLE_EQ(MixerFlops(teacher, student, kTokens), products + 2 * attention + 3 * scan)
        << static_cast<int>(kind);
    SequenceAttentionOptions full;
    full.mode = SequenceMode::kFull;
    EXPECT_LT(MixerFlops(teacher, student, kTokens),
              TrainFlops(student, full, kTokens) + ForwardFlops(teacher, full, kTokens));
  }
}

}  // namespace
}  // namespace eidetic::model
