// Where a run of training stands, on disk: what a run that was stopped goes on from. A folder that
// `--adapter` and PEFT take, with what training needs besides (docs/formats/training-run.md).
#ifndef EIDETIC_MODEL_TRAIN_TRAIN_CHECKPOINT_H_
#define EIDETIC_MODEL_TRAIN_TRAIN_CHECKPOINT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "model/train/adamw.h"
#include "model/train/adapter.h"
#include "model/train/differentiable_model.h"
#include "model/train/text_record.h"
#include "model/train/train_state.h"
#include "model/train/tune_options.h"

namespace eidetic::model {

// `optimizer` null: of a result, that nobody goes on from. Puts the folder in place of what was
// there in one step; on any error what was there is kept. Throws Error: kNoSpace, kIo, kNotFound.
void SaveTrainCheckpoint(const std::string& folder, const Adapter& adapter,
                         const DifferentiableModel& model, const std::string& base_model,
                         const AdamW* optimizer, const TrainState& state,
                         const TrainSettings& settings, const TuneTexts& texts);

struct TrainCheckpoint {
  TrainState state;
  TrainSettings settings;
  std::optional<TuneTexts> texts;  // none: an earlier version wrote the checkpoint
  AdapterOptions adapter;
  std::optional<RotaryScaling> rotary_scaling;  // as the adapter says
  HostTensors trained;                          // as Adapter::Import takes them
  HostTensors moments;                          // as AdamW::Import takes them
};

// Nothing when there is no such folder. Throws Error: kCorruption when what is there is not what
// was written, kUnsupported for a newer format, kIo.
std::optional<TrainCheckpoint> ReadTrainCheckpoint(const std::string& folder);

// What the digests of the texts' tokens are called among the settings.
inline constexpr char kTrainTexts[] = "data", kHeldOutTexts[] = "held-out";

// "data differs (changed: b.txt); rank was 32, is 16"; empty when they are equal. Files are named
// where `texts_were` is there.
std::string DifferencesOf(const TrainSettings& was, const std::optional<TuneTexts>& texts_were,
                          const TrainSettings& is, const TuneTexts& texts_are);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAIN_CHECKPOINT_H_
