// What a student learns from a teacher beside the text itself: a hybrid from the model that it was
// made of (model/hybridize.h), whose layers, sizes and vocabulary are its own.
#ifndef EIDETIC_MODEL_TRAIN_DISTILL_H_
#define EIDETIC_MODEL_TRAIN_DISTILL_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/train/differentiable_model.h"

namespace eidetic::model {

// Throws Error kMismatch, which names what differs, for a teacher with another number of layers,
// hidden size, vocabulary, or with a mixer where the student has attention.
void CheckTeacher(const DifferentiableModel& teacher, const DifferentiableModel& student);

// Where the student has a mixer and the teacher attention.
std::vector<size_t> LearningLayers(const DifferentiableModel& teacher,
                                   const DifferentiableModel& student);

// How the teacher reads: all of the sequence, without an adapter's dropout.
TrainForwardOptions TeacherOptions(const TrainForwardOptions& options);

// Whether all that the teacher gives for this sequence is finite: what its attention or mixers make
// of what enters each layer, and its logits. Reads all of it once more: for when a loss is not.
bool TeacherIsFinite(const DifferentiableModel& teacher, const std::vector<int32_t>& tokens,
                     const TrainForwardOptions& options);

// The first stage. In each of LearningLayers the mixer reads what enters the teacher's layer and is
// to give what the teacher's attention gives: the squared distance over the square of the latter,
// both summed over a sequence, a mean over layers; times the sequence's targets. No layer waits for
// another to learn.
at::Tensor SumMixerLoss(const DifferentiableModel& teacher, const DifferentiableModel& student,
                        const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets,
                        const TrainForwardOptions& options);

// The second stage: the sum over rows with a target of KL(teacher's distribution || student's), in
// nats; of which `text_share` (0 .. 1) gives way to the cross entropy of the text, so that what the
// teacher cannot do is learned too. Logits exist of a few rows at a time.
at::Tensor SumTeacherDivergence(const DifferentiableModel& teacher,
                                const DifferentiableModel& student,
                                const std::vector<int32_t>& tokens,
                                const std::vector<int32_t>& targets, double text_share,
                                const TrainForwardOptions& options);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_DISTILL_H_
