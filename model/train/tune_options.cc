#include "model/train/tune_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "model/error.h"
#include "model/train/adapter_targets.h"
#include "model/train/train_step.h"

namespace eidetic::model {
namespace {

constexpr std::array<std::pair<RateSchedule, std::string_view>, 2> kSchedules = {{
    {RateSchedule::kConstant, "constant"},
    {RateSchedule::kCosine, "cosine"},
}};

constexpr std::array<std::pair<AdapterKind, std::string_view>, 4> kKinds = {{
    {AdapterKind::kLora, "lora"},
    {AdapterKind::kLoraPlus, "lora+"},
    {AdapterKind::kHylora, "hylora"},
    {AdapterKind::kMixers, "mixers"},
}};

template <typename Names, typename Value>
std::string_view NameIn(const Names& names, Value value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  return "unknown";
}

template <typename Names>
auto ValueIn(const Names& names, std::string_view name) -> std::optional<decltype(names[0].first)> {
  for (const auto& [value, known] : names) {
    if (known == name) return value;
  }
  return std::nullopt;
}

// As short as it can be to be read back as the same number.
std::string Text(double number) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, number).ptr;
  return {text, end};
}

template <typename Numbers>
std::string Listed(const Numbers& values) {
  std::string text;
  for (const auto& value : values) {
    if (!text.empty()) text += ",";
    if constexpr (requires { std::to_string(value); }) {
      text += std::to_string(value);
    } else {
      text += value;
    }
  }
  return text;
}

template <typename Value>
std::string Listed(const std::map<std::string, Value>& values) {
  std::string text;
  for (const auto& [pattern, value] : values) {
    text += (text.empty() ? "" : ",") + pattern + "=" + Text(value);
  }
  return text;
}

[[noreturn]] void RefuseOption(const char* name, const std::string& value, const char* wanted) {
  throw Error(ErrorCode::kInvalidArgument, std::string("tune: ") + name + " is " + value,
              std::string("it must be ") + wanted);
}

void CheckCount(const char* name, int64_t value, int64_t least) {
  constexpr int64_t kMost = int64_t{1} << 40;
  if (value >= least && value <= kMost) return;
  RefuseOption(name, std::to_string(value),
               least == 0   ? "0 or more"
               : least == 1 ? "1 or more"
                            : "2 or more");
}

void CheckAmount(const char* name, double value) {
  if (value >= 0 && std::isfinite(value)) return;
  RefuseOption(name, Text(value), "a number of 0 or more");
}

// Steps of one objective: first .. end - 1.
struct StageBounds {
  int64_t first = 0, end = 0;
};

StageBounds BoundsOf(const TuneOptions& options, TuneObjective objective, int64_t steps) {
  if (objective == TuneObjective::kText) return {0, steps};
  const int64_t border = std::clamp<int64_t>(options.mixer_steps, 0, steps);
  return objective == TuneObjective::kMixers ? StageBounds{0, border} : StageBounds{border, steps};
}

int64_t WarmUpOf(const TuneOptions& options, TuneObjective objective, int64_t stage_steps) {
  const bool has_own = objective == TuneObjective::kMixers && options.mixer_warm_up >= 0;
  const int64_t given = has_own ? options.mixer_warm_up : options.warm_up;
  return given >= 0 ? given : std::clamp<int64_t>(stage_steps / 10, 1, 20);
}

// A rate that has not grown up before its stage ends is none that was asked for. One step of
// warm-up is none.
void CheckWarmUp(int64_t warm_up, int64_t stage_steps, const char* of_what) {
  if (warm_up <= 1 || warm_up < stage_steps || stage_steps == 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              "tune: warm-up is " + std::to_string(warm_up) + ", and there are but " +
                  std::to_string(stage_steps) + " steps " + of_what,
              "lower --warm-up, give more steps, or leave it out: then it is a tenth of them");
}

int64_t NumberIn(const TrainSettings& settings, const char* option, int64_t otherwise) {
  const auto found = settings.find(option);
  int64_t number = 0;
  const bool is_number =
      found != settings.end() &&
      std::from_chars(found->second.data(), found->second.data() + found->second.size(), number)
              .ec == std::errc();
  return is_number ? number : otherwise;
}

}  // namespace

std::string_view RateScheduleName(RateSchedule schedule) {
  return NameIn(kSchedules, schedule);
}

std::optional<RateSchedule> FindRateSchedule(std::string_view name) {
  return ValueIn(kSchedules, name);
}

std::string_view AdapterKindName(AdapterKind kind) {
  return NameIn(kKinds, kind);
}

std::optional<AdapterKind> FindAdapterKind(std::string_view name) {
  return ValueIn(kKinds, name);
}

std::string_view TuneObjectiveName(TuneObjective objective) {
  switch (objective) {
    case TuneObjective::kText:
      return "text";
    case TuneObjective::kMixers:
      return "mixers";
    case TuneObjective::kTeacher:
      return "teacher";
  }
  return "unknown";
}

void CheckTuneOptions(const TuneOptions& options) {
  const auto need = [](bool there, const char* what, const char* remedy) {
    if (!there) throw Error(ErrorCode::kInvalidArgument, std::string("tune: ") + what, remedy);
  };
  need(!options.model.empty(), "no model was named", "name the model that is to be trained");
  need(!options.inputs.empty(), "there is nothing to train on",
       "name files of text, Markdown or JSONL");
  need(!options.folder.empty(), "no folder was named for the run", "name one that is to be made");
  CheckCount("length", options.length, 2);
  CheckCount("batch", options.batch, 1);
  CheckCount("micro-batch", options.micro_batch, 1);
  CheckCount("steps", options.steps, 0);
  if (options.warm_up != -1) CheckCount("warm-up", options.warm_up, 0);
  if (options.mixer_steps != -1) CheckCount("mixer-steps", options.mixer_steps, 0);
  CheckCount("eval-every", options.evaluate_every, 1);
  CheckCount("eval-sequences", options.held_out_sequences, 0);
  CheckCount("checkpoint-every", options.checkpoint_every, 1);
  CheckCount("gpus", options.processes, 1);
  need(options.process >= 0 && options.process < options.processes,
       "there is no process of that number", "they are counted from 0");
  if (options.batch % options.processes != 0) {
    RefuseOption("batch", std::to_string(options.batch),
                 "a multiple of the processes that share it out");
  }
  if (!(options.text_share >= 0 && options.text_share <= 1)) {
    RefuseOption("text-share", Text(options.text_share), "within 0 to 1");
  }
  CheckAmount("rate", options.rate);
  CheckAmount("mixer-rate", options.mixer_rate);
  CheckAmount("weight-decay", options.weight_decay);
  CheckAmount("clip", options.largest_norm);
  CheckSequenceOptions(options.attention);
  if (!options.adapter.empty()) return;
  CheckAdapterPatterns(options.trained);
  CheckAdapterOptions(options.trained);
}

void SettleStages(const TrainSettings* begun, TuneOptions* options) {
  if (options->mixer_steps < 0) {
    const int64_t eighth = options->steps / 8;
    options->mixer_steps = begun != nullptr ? NumberIn(*begun, "mixer-steps", eighth) : eighth;
  }
  const bool has_teacher = !options->teacher.empty();
  const TuneObjective last = has_teacher ? TuneObjective::kTeacher : TuneObjective::kText;
  const auto steps_of = [&](TuneObjective objective) {
    const StageBounds stage = BoundsOf(*options, objective, options->steps);
    return stage.end - stage.first;
  };
  if (begun != nullptr && options->warm_up < 0) {
    options->warm_up = NumberIn(*begun, "warm-up", -1);
    options->mixer_warm_up = NumberIn(*begun, "mixer-warm-up", -1);
  }
  if (begun == nullptr && options->warm_up >= 0) {
    if (has_teacher) {
      CheckWarmUp(options->warm_up, steps_of(TuneObjective::kMixers), "of mixers alone");
    }
    CheckWarmUp(options->warm_up, steps_of(last), has_teacher ? "of all together" : "of the run");
  }
  if (has_teacher) {
    options->mixer_warm_up =
        WarmUpOf(*options, TuneObjective::kMixers, steps_of(TuneObjective::kMixers));
  }
  options->warm_up = WarmUpOf(*options, last, steps_of(last));
}

TrainSettings SettingsOf(const TuneOptions& options) {
  const SequenceAttentionOptions& attention = options.attention;
  TrainSettings settings = {
      {"model", options.model_digest},
      {"attention", std::string(SequenceModeName(attention.mode))},
      {"chunk", Listed(attention.chunk_sizes)},
      {"block", std::to_string(attention.block_tokens)},
      {"span-blocks", std::to_string(attention.span_blocks)},
      {"one-choice", attention.one_choice_for_all_heads ? "yes" : "no"},
      {"groups", std::to_string(attention.groups)},
      {"window", std::to_string(attention.window)},
      {"rope-scaling", options.rotary_scaling ? RotaryScalingText(*options.rotary_scaling) : ""},
      {"dtype", options.bf16 ? "bf16" : "fp32"},
      {"length", std::to_string(options.length)},
      // Or `best` would be the better of losses on different texts.
      {"eval-sequences",
       options.held_out.empty() ? "" : std::to_string(options.held_out_sequences)},
      {"batch", std::to_string(options.batch)},
      {"rate", Text(options.rate)},
      {"warm-up", std::to_string(options.warm_up)},
      {"schedule", std::string(RateScheduleName(options.schedule))},
      {"weight-decay", Text(options.weight_decay)},
      {"clip", Text(options.largest_norm)},
      {"seed", std::to_string(options.seed)},
      {"skip-bad", options.skip_bad ? "yes" : "no"},
  };
  if (options.adapter.empty()) {  // else the adapter says it
    settings["kind"] = AdapterKindName(options.trained.kind);
    if (options.trained.kind != AdapterKind::kMixers) {
      settings["rank"] = std::to_string(options.trained.rank);
      settings["alpha"] = Text(options.trained.alpha);
      settings["dropout"] = Text(options.trained.dropout);
      settings["targets"] = Listed(options.trained.targets);
      settings["target-pattern"] = options.trained.target_pattern;
      settings["rank-for"] = Listed(options.trained.ranks);
      settings["alpha-for"] = Listed(options.trained.alphas);
      settings["dropout-for"] = Listed(options.trained.dropouts);
    }
  }
  if (!options.teacher.empty()) {
    settings["teacher"] = options.teacher_digest;
    settings["mixer-steps"] = std::to_string(options.mixer_steps);
    settings["mixer-rate"] = Text(options.mixer_rate);
    settings["mixer-warm-up"] = std::to_string(options.mixer_warm_up);
    settings["text-share"] = Text(options.text_share);
  }
  if (attention.mode == SequenceMode::kStream) {
    const StreamReading& stream = attention.stream;
    settings["segment"] = std::to_string(stream.segment);
    settings["window"] = std::to_string(stream.window);
    settings["sinks"] = std::to_string(stream.sinks);
    settings["query-offset"] = std::to_string(stream.query_offset);
    settings["candidates"] = std::to_string(stream.candidates);
    settings["span-blocks"] = std::to_string(stream.span_blocks);
    settings["successors"] = stream.successors < 0 ? "default" : std::to_string(stream.successors);
    settings["span-layers"] = Listed(stream.span_layers);
  }
  std::erase_if(settings, [&](const auto& one) { return !ReadsOption(attention.mode, one.first); });
  if (options.schedule != RateSchedule::kConstant) {
    settings["steps"] = std::to_string(options.steps);
  }
  return settings;
}

TuneObjective ObjectiveOf(const TuneOptions& options, int64_t step) {
  if (options.teacher.empty()) return TuneObjective::kText;
  return step < options.mixer_steps ? TuneObjective::kMixers : TuneObjective::kTeacher;
}

double RateOf(const TuneOptions& options, int64_t step, int64_t steps) {
  const TuneObjective objective = ObjectiveOf(options, step);
  const StageBounds stage = BoundsOf(options, objective, steps);
  const double rate = objective == TuneObjective::kMixers ? options.mixer_rate : options.rate;
  const int64_t warm_up = WarmUpOf(options, objective, stage.end - stage.first);
  const int64_t at = step - stage.first;
  if (at < warm_up || options.schedule == RateSchedule::kConstant) {
    return RateOfStep(at, rate, warm_up);
  }
  const auto behind = static_cast<double>(at - warm_up);
  const auto whole = static_cast<double>(std::max<int64_t>(stage.end - stage.first - warm_up, 1));
  constexpr double kPi = 3.14159265358979323846;
  return rate * 0.5 * (1 + std::cos(kPi * behind / whole));
}

}  // namespace eidetic::model
