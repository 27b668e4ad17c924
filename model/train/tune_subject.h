// What a run of training works on: a model with its adapter on a device, and texts as tokens.
#ifndef EIDETIC_MODEL_TRAIN_TUNE_SUBJECT_H_
#define EIDETIC_MODEL_TRAIN_TUNE_SUBJECT_H_

#include <c10/core/Device.h>

#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/device.h"
#include "model/tokenizer.h"
#include "model/train/adamw.h"
#include "model/train/adapter.h"
#include "model/train/differentiable_model.h"
#include "model/train/text_record.h"
#include "model/train/token_cache.h"
#include "model/train/train_step.h"
#include "model/train/tune_options.h"

namespace eidetic::model {

class TuneSubject {
 public:
  // The adapter: with `resumed` one of these options, whose numbers are to be imported; else that
  // of options.adapter, or a new one. Throws Error as OpenDevice, DifferentiableModel, LoadAdapter,
  // Adapter and CheckTeacher do.
  TuneSubject(const TuneOptions& options, const Checkpoint& checkpoint,
              const AdapterOptions* resumed);

  c10::Device device() const { return device_; }
  const DifferentiableModel& model() const { return model_; }
  const DifferentiableModel* teacher() const { return teacher_.get(); }  // null: there is none
  Adapter& adapter() { return *adapter_; }
  // As TrainStepOptions has it.
  SequenceLoss LossFor(TuneObjective objective) const;

 private:
  c10::Device device_;
  Tf32Scope tf32_;  // what bf16 is good enough for, TF32 is
  double text_share_;
  DifferentiableModel model_;
  std::unique_ptr<const DifferentiableModel> teacher_;
  std::unique_ptr<Adapter> adapter_;  // goes before its model
};

struct TuneData {
  std::unique_ptr<const TokenCache> train, held_out;  // the second may be null
  TokenCacheReport train_report, held_out_report;
  TuneTexts texts;                        // that they were made of
  std::vector<int64_t> held_out_windows;  // first tokens of what an evaluation reads
  int64_t held_out_length = 0;
};

// Tokenises what options name into `folder`, or finds it there. Throws Error as BuildTokenCache
// and CheckHeldOutIsApart do, and kInvalidArgument when there is not one sequence of options.length
// tokens to train on, or nothing to predict in what was held out.
TuneData ReadTuneData(const TuneOptions& options, const Tokenizer& tokenizer,
                      const std::string& folder, const TokenCacheProgress& progress);

// Throws the exception that is being handled, or OutOfMemoryError in its place.
[[noreturn]] void RethrowWithMemoryAdvice(const TuneOptions& options, const std::string& what);

AdamWOptions AdamWOptionsOf(const TuneOptions& options);
// Floating-point operations of a step's sequence of so many tokens (train_flops.h), those of a
// teacher's forward pass among them.
double FlopsOf(const TuneOptions& options, const TuneSubject& subject, TuneObjective objective,
               int64_t tokens);
// With the seed of the run: TrainStep makes others of it, and every evaluation has the same draws.
TrainForwardOptions ForwardOptionsOf(const TuneOptions& options);

// What `work` gives. Where memory ends in it, OutOfMemoryError with what to lower; `what` is for
// the message: "step 3".
template <typename Work>
auto WithMemoryAdvice(const TuneOptions& options, const std::string& what, const Work& work) {
  try {
    return work();
  } catch (...) {
    RethrowWithMemoryAdvice(options, what);
  }
}

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TUNE_SUBJECT_H_
