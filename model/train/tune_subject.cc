#include "model/train/tune_subject.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "model/adapter_file.h"
#include "model/device.h"
#include "model/error.h"
#include "model/resource_errors.h"
#include "model/train/adapter_folder.h"
#include "model/train/distill.h"
#include "model/train/train_flops.h"

namespace eidetic::model {
namespace {

c10::Device DeviceFor(const TuneOptions& options) {
  SetComputeThreads(options.threads);
  if (options.processes == 1 || options.device != "cuda") return OpenDevice(options.device);
  const c10::Device device = OpenDevice("cuda:" + std::to_string(options.process));
  // So that nothing of this process comes to lie on the first GPU.
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  return device;
}

bool TrainsMixers(const TuneOptions& options, const AdapterOptions* resumed) {
  if (resumed != nullptr) return resumed->kind == AdapterKind::kMixers;
  if (!options.adapter.empty()) return AdapterFile::Open(options.adapter)->Kind() == "mixers";
  return options.trained.kind == AdapterKind::kMixers;
}

at::ScalarType TypeOf(const TuneOptions& options) {
  return options.bf16 ? at::kBFloat16 : at::kFloat;
}

std::unique_ptr<const DifferentiableModel> TeacherFor(const TuneOptions& options,
                                                      c10::Device device,
                                                      const DifferentiableModel& student,
                                                      bool is_scaled) {
  if (options.teacher.empty()) return nullptr;
  const auto checkpoint = Checkpoint::Open(options.teacher);
  // A scaling that the student's file does not have is of how positions are read: the teacher is to
  // read them so too, where the two count them alike.
  const ModelConfig theirs = checkpoint->Config();
  const bool counts_alike = theirs.rotary_base == student.config().rotary_base &&
                            theirs.rotary_dims == student.config().rotary_dims;
  auto teacher = std::make_unique<const DifferentiableModel>(
      *checkpoint, device, TypeOf(options),
      is_scaled && counts_alike ? std::optional(student.config().rotary_scaling) : std::nullopt);
  CheckTeacher(*teacher, student);
  return teacher;
}

std::unique_ptr<Adapter> AdapterFor(const TuneOptions& options, const AdapterOptions* resumed,
                                    DifferentiableModel* model) {
  if (resumed != nullptr) return std::make_unique<Adapter>(*resumed, model);
  if (!options.adapter.empty()) return LoadAdapter(*AdapterFile::Open(options.adapter), model);
  AdapterOptions fresh = options.trained;
  fresh.seed = options.seed;
  return std::make_unique<Adapter>(fresh, model);
}

// Given, else that of the adapter to go on from.
std::optional<RotaryScaling> ScalingFor(const TuneOptions& options, const AdapterOptions* resumed) {
  if (options.rotary_scaling || resumed != nullptr || options.adapter.empty()) {
    return options.rotary_scaling;
  }
  return AdapterFile::Open(options.adapter)->config().rotary_scaling;
}

// A span in a layer without attention is none, and the run would tell nobody.
void CheckSpanLayers(const TuneOptions& options, const ModelConfig& config) {
  const std::vector<int> attention = config.AttentionLayers();
  for (const int layer : options.attention.stream.span_layers) {
    if (std::binary_search(attention.begin(), attention.end(), layer)) continue;
    throw Error(
        ErrorCode::kInvalidArgument,
        "span layer " + std::to_string(layer) + " is no attention layer of " + options.model,
        "eidetic model info tells which are");
  }
}

void CheckMixersAreTrained(const TuneOptions& options, const Adapter& adapter) {
  if (options.teacher.empty() || options.mixer_steps <= 0) return;
  for (const auto& [name, tensor] : adapter.trained()) {
    if (name.find(".mamba.") != std::string::npos) return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "the first " + std::to_string(options.mixer_steps) +
                  " steps teach mixers, and an adapter of kind " +
                  std::string(AdapterKindName(adapter.config().kind)) + " trains nothing of them",
              "use --kind mixers, or --mixer-steps -1");
}

// Windows one behind another, without those that predict nothing; at most `most` of them, spread
// evenly (0: all).
std::vector<int64_t> HeldOutWindows(const TokenCache& cache, int64_t length, int64_t most) {
  std::vector<int64_t> all;
  for (int64_t first = 0; first + length <= cache.tokens(); first += length) {
    if (cache.PredictedTokens(first, length) > 0) all.push_back(first);
  }
  if (all.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "nothing of what was held out is to be predicted",
                "name other files with --held-out, or none");
  }
  const auto there = static_cast<int64_t>(all.size());
  if (most == 0 || there <= most) return all;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < most; ++i) chosen.push_back(all[static_cast<size_t>(i * there / most)]);
  return chosen;
}

}  // namespace

TuneSubject::TuneSubject(const TuneOptions& options, const Checkpoint& checkpoint,
                         const AdapterOptions* resumed)
    : device_(DeviceFor(options)),
      tf32_(options.bf16),
      text_share_(options.text_share),
      model_(checkpoint, device_, TypeOf(options), ScalingFor(options, resumed),
             TrainsMixers(options, resumed)),
      teacher_(TeacherFor(options, device_, model_, ScalingFor(options, resumed).has_value())),
      adapter_(AdapterFor(options, resumed, &model_)) {
  CheckSpanLayers(options, model_.config());
  CheckMixersAreTrained(options, *adapter_);
}

SequenceLoss TuneSubject::LossFor(TuneObjective objective) const {
  if (objective == TuneObjective::kText) return {};
  return [this, objective](const auto& tokens, const auto& targets, const auto& options) {
    return objective == TuneObjective::kMixers
               ? SumMixerLoss(*teacher_, model_, tokens, targets, options)
               : SumTeacherDivergence(*teacher_, model_, tokens, targets, text_share_, options);
  };
}

TuneData ReadTuneData(const TuneOptions& options, const Tokenizer& tokenizer,
                      const std::string& folder, const TokenCacheProgress& progress) {
  TokenCacheOptions building;
  building.skip_bad = options.skip_bad;
  building.threads = options.threads;
  const auto read = [&](const std::vector<std::string>& files, const char* name,
                        TokenCacheReport* report) {
    const std::string path = folder + "/" + name;
    *report = BuildTokenCache(files, tokenizer, path, building, progress);
    return std::make_unique<const TokenCache>(path);
  };
  TuneData data;
  data.texts.train = RecordTexts(options.inputs, progress);
  data.texts.held_out = RecordTexts(options.held_out, progress);
  CheckHeldOutIsApart(data.texts);
  data.train = read(options.inputs, "train.tokens", &data.train_report);
  if (data.train->tokens() < options.length) {
    throw Error(ErrorCode::kInvalidArgument,
                "there are " + std::to_string(data.train->tokens()) +
                    " tokens to train on, too few for one sequence of " +
                    std::to_string(options.length),
                "give more text, or lower --length");
  }
  if (options.held_out.empty()) return data;
  data.held_out = read(options.held_out, "held-out.tokens", &data.held_out_report);
  data.held_out_length = std::min(options.length, data.held_out->tokens());
  data.held_out_windows =
      HeldOutWindows(*data.held_out, data.held_out_length, options.held_out_sequences);
  return data;
}

namespace {

std::string RankText(const TuneOptions& options) {
  if (options.trained.kind == AdapterKind::kMixers) return "";
  int rank = options.trained.rank;
  for (const auto& [pattern, value] : options.trained.ranks) rank = std::max(rank, value);
  return " and rank " + std::to_string(rank);
}

}  // namespace

void RethrowWithMemoryAdvice(const TuneOptions& options, const std::string& what) {
  std::string reason;
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    reason = "there is no more";
  } catch (const std::exception& error) {
    reason = error.what();
    if (!IsOutOfMemory(reason)) throw;
    reason.resize(std::min(reason.find('\n'), reason.size()));  // a stack trace follows
  }
  throw OutOfMemoryError(what + " does not fit into the memory of " + options.device +
                             ", with sequences of " + std::to_string(options.length) + " tokens" +
                             RankText(options) + ": " + reason,
                         "lower --micro-batch or use --recompute, with which a run that was begun "
                         "goes on; or begin one "
                         "with a smaller --length, --chunk or --rank, --dtype bf16 or --kind lora; "
                         "--dry-run tells what "
                         "is needed");
}

TrainForwardOptions ForwardOptionsOf(const TuneOptions& options) {
  TrainForwardOptions result;
  result.attention = options.attention;
  result.attention.seed = options.seed;
  result.recompute = options.recompute;
  return result;
}

double FlopsOf(const TuneOptions& options, const TuneSubject& subject, TuneObjective objective,
               int64_t tokens) {
  if (objective == TuneObjective::kMixers) {
    return MixerFlops(*subject.teacher(), subject.model(), tokens);
  }
  const double own = TrainFlops(subject.model(), options.attention, tokens);
  if (objective == TuneObjective::kText) return own;
  return own + ForwardFlops(*subject.teacher(), TeacherOptions({}).attention, tokens);
}

AdamWOptions AdamWOptionsOf(const TuneOptions& options) {
  AdamWOptions result;
  result.weight_decay = options.weight_decay;
  return result;
}

}  // namespace eidetic::model
