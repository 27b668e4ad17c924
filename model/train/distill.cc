#include "model/train/distill.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string>

#include "model/error.h"

namespace eidetic::model {

std::vector<size_t> LearningLayers(const DifferentiableModel& teacher,
                                   const DifferentiableModel& student) {
  std::vector<size_t> layers;
  for (size_t layer = 0; layer < student.config().layers.size(); ++layer) {
    if (student.config().layers[layer] == LayerKind::kMamba2 &&
        teacher.config().layers[layer] == LayerKind::kAttention) {
      layers.push_back(layer);
    }
  }
  return layers;
}

TrainForwardOptions TeacherOptions(const TrainForwardOptions& options) {
  TrainForwardOptions teacher = options;
  teacher.attention.mode = SequenceMode::kFull;
  teacher.recompute = false;
  teacher.dropout_seed.reset();
  return teacher;
}

void CheckTeacher(const DifferentiableModel& teacher, const DifferentiableModel& student) {
  const ModelConfig& theirs = teacher.config();
  const ModelConfig& own = student.config();
  const auto require = [](const char* what, auto of_teacher, auto of_student) {
    if (of_teacher == of_student) return;
    throw Error(ErrorCode::kMismatch,
                "the teacher has " + std::to_string(of_teacher) + " " + what + ", the student " +
                    std::to_string(of_student),
                "distil from the model that the student was made of");
  };
  require("layers", theirs.layers.size(), own.layers.size());
  require("numbers in a hidden state", theirs.hidden, own.hidden);
  require("tokens in its vocabulary", theirs.vocabulary, own.vocabulary);
  for (size_t layer = 0; layer < own.layers.size(); ++layer) {
    if (own.layers[layer] == LayerKind::kAttention && theirs.layers[layer] == LayerKind::kMamba2) {
      throw Error(ErrorCode::kMismatch,
                  "layer " + std::to_string(layer) +
                      " is a mixer in the teacher and attention in the student",
                  "distil from the model that the student was made of");
    }
  }
  if (!LearningLayers(teacher, student).empty()) return;
  throw Error(ErrorCode::kMismatch, "no layer of the student is a mixer in place of attention",
              "make the student with eidetic model hybridize");
}

bool TeacherIsFinite(const DifferentiableModel& teacher, const std::vector<int32_t>& tokens,
                     const TrainForwardOptions& options) {
  constexpr int64_t kRows = 256;  // of logits at a time
  const at::NoGradGuard no_gradient;
  bool finite = true;
  const auto look = [&](const at::Tensor& numbers) {
    finite = finite && numbers.isfinite().all().item<bool>();
  };
  TrainForwardOptions observed = TeacherOptions(options);
  observed.observe = [&](size_t, const at::Tensor&, const at::Tensor& mixed) { look(mixed); };
  for (const at::Tensor& rows : teacher.Hidden(tokens, observed).split(kRows)) {
    look(teacher.Logits(rows));
  }
  return finite;
}

at::Tensor SumMixerLoss(const DifferentiableModel& teacher, const DifferentiableModel& student,
                        const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets,
                        const TrainForwardOptions& options) {
  at::Tensor sum;
  const std::vector<size_t> layers = LearningLayers(teacher, student);
  TrainForwardOptions observed = TeacherOptions(options);
  observed.observe = [&](size_t layer, const at::Tensor& hidden, const at::Tensor& mixed) {
    if (!std::binary_search(layers.begin(), layers.end(), layer)) return;
    const at::AutoGradMode with_gradient(true);
    const at::Tensor wanted = mixed.to(hidden.scalar_type());
    const at::Tensor given = student.Mixed(layer, hidden, options).to(hidden.scalar_type());
    const auto squares = [&](const at::Tensor& numbers) {  // of each sequence
      return numbers.square().reshape({options.sequences, -1}).sum(1);
    };
    const at::Tensor loss = squares(given.sub(wanted)).div(squares(wanted));
    sum = sum.defined() ? sum.add(loss) : loss;
  };
  {
    const at::NoGradGuard no_gradient;
    teacher.Hidden(tokens, observed);
  }
  const auto length = static_cast<ptrdiff_t>(targets.size()) / options.sequences;
  at::Tensor loss;
  for (int64_t i = 0; i < options.sequences; ++i) {
    const auto first = targets.begin() + i * length;
    const auto count = length - std::count(first, first + length, kNoTarget);
    const at::Tensor own =
        sum[i].mul(static_cast<double>(count) / static_cast<double>(layers.size()));
    loss = loss.defined() ? loss.add(own) : own;
  }
  return loss;
}

at::Tensor SumTeacherDivergence(const DifferentiableModel& teacher,
                                const DifferentiableModel& student,
                                const std::vector<int32_t>& tokens,
                                const std::vector<int32_t>& targets, double text_share,
                                const TrainForwardOptions& options) {
  at::Tensor of_teacher;
  {
    const at::NoGradGuard no_gradient;
    of_teacher = teacher.Hidden(tokens, TeacherOptions(options));
  }
  const at::Tensor hidden = student.Hidden(tokens, options);
  const auto wanted = [&](const at::Tensor& rows) {
    return teacher.Logits(of_teacher.index_select(0, rows));
  };
  return student.SumDivergenceFrom(wanted, hidden, targets, text_share);
}

}  // namespace eidetic::model
