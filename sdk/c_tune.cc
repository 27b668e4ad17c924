// The C interface's function that trains.
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "model/adapter_file.h"
#include "model/checkpoint.h"
#include "model/rotary_scaling.h"
#include "model/train/tune_run.h"
#include "sdk/c_handles.h"
#include "sdk/file_hash.h"
#include "sdk/tune_report.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
namespace model = eidetic::model;
using memory::Code;
using memory::Status;

namespace {

// An option for which 0 means the default, and -1 nothing where that is a meaning.
template <typename Given, typename Option>
Status TakeNumber(const char* name, Given given, bool none_allowed, Option* option) {
  if (given == 0) return Status();
  if (given == Given{-1} && none_allowed) {
    *option = 0;
    return Status();
  }
  if (given > 0 && given <= static_cast<Given>(std::numeric_limits<Option>::max())) {
    *option = static_cast<Option>(given);
    return Status();
  }
  return Status(Code::kInvalidArgument,
                std::string(name) + " is " + std::to_string(given) + ", which is out of range",
                none_allowed ? "leave it 0 for the default, or set -1 for none"
                             : "correct it, or leave it 0 for the default");
}

Status TakeTexts(const char* name, const char* const* given, size_t count,
                 std::vector<std::string>* texts) {
  if (count == 0) return Status();
  EID_RETURN_IF_ERROR(sdk::RequireHandle(given, name));
  texts->clear();
  for (size_t i = 0; i < count; ++i) {
    EID_RETURN_IF_ERROR(sdk::RequireText(given[i], name));
    texts->emplace_back(given[i]);
  }
  return Status();
}

template <typename Value>
Status TakeModuleNumbers(const char* name, const eid_module_number* given, size_t count,
                         std::map<std::string, Value>* values) {
  if (count == 0) return Status();
  EID_RETURN_IF_ERROR(sdk::RequireHandle(given, name));
  for (size_t i = 0; i < count; ++i) {
    EID_RETURN_IF_ERROR(sdk::RequireText(given[i].pattern, name));
    const std::string pattern = given[i].pattern;
    const double number = given[i].number;
    const bool is_held = number >= -1e9 && number <= 1e9 && static_cast<Value>(number) == number;
    if (!is_held) {
      return Status(Code::kInvalidArgument,
                    std::string(name) + " of '" + pattern + "' is " + std::to_string(number),
                    std::is_integral_v<Value> ? "give a whole number" : "give a finite number");
    }
    if (!values->emplace(pattern, static_cast<Value>(number)).second) {
      return Status(Code::kInvalidArgument,
                    std::string(name) + " has the pattern '" + pattern + "' twice",
                    "leave one of them out");
    }
  }
  return Status();
}

template <typename Value, typename Find>
Status TakeName(const char* option, const char* given, Find find, const char* names, Value* value) {
  if (given == nullptr) return Status();
  const auto found = find(given);
  if (!found) {
    return Status(Code::kInvalidArgument, std::string(option) + " is '" + given + "'",
                  std::string("use one of ") + names);
  }
  *value = *found;
  return Status();
}

// se-stream has a window, a span and sinks of its own.
Status TakeStream(const eid_tune_options& given, int block, model::StreamReading* stream) {
  EID_RETURN_IF_ERROR(TakeNumber("segment", given.segment, false, &stream->segment));
  EID_RETURN_IF_ERROR(TakeNumber("window", given.window, false, &stream->window));
  EID_RETURN_IF_ERROR(TakeNumber("span_blocks", given.span_blocks, false, &stream->span_blocks));
  EID_RETURN_IF_ERROR(TakeNumber("candidates", given.candidates, false, &stream->candidates));
  stream->query_offset = stream->window;
  EID_RETURN_IF_ERROR(TakeNumber("query_offset", given.query_offset, true, &stream->query_offset));
  stream->sinks = (stream->sinks + block - 1) / block * block;  // whole blocks
  EID_RETURN_IF_ERROR(TakeNumber("sinks", given.sinks, true, &stream->sinks));
  if (given.span_layer_count == 0) return Status();
  EID_RETURN_IF_ERROR(sdk::RequireHandle(given.span_layers, "span_layers"));
  stream->span_layers.assign(given.span_layers, given.span_layers + given.span_layer_count);
  return Status();
}

// What the attention does not read would do nothing.
Status RefuseUnread(const eid_tune_options& given, model::SequenceMode mode) {
  const struct {
    const char* field;
    const char* option;
    bool is_set;
  } kOptions[] = {{"chunks", "chunk", given.chunk_count != 0},
                  {"block_tokens", "block", given.block_tokens != 0},
                  {"span_blocks", "span-blocks", given.span_blocks != 0},
                  {"groups", "groups", given.groups != 0},
                  {"window", "window", given.window != 0},
                  {"segment", "segment", given.segment != 0},
                  {"sinks", "sinks", given.sinks != 0},
                  {"candidates", "candidates", given.candidates != 0},
                  {"query_offset", "query-offset", given.query_offset != 0},
                  {"span_layers", "span-layers", given.span_layer_count != 0}};
  for (const auto& one : kOptions) {
    if (!one.is_set || model::ReadsOption(mode, one.option)) continue;
    std::string readers;
    for (const std::string& name : model::ModesThatRead(one.option)) {
      readers += (readers.empty() ? "" : ", ") + name;
    }
    return Status(Code::kInvalidArgument,
                  std::string(one.field) + " is given, and the attention " +
                      model::TrainingModeName(mode) + " does not read it",
                  "leave it out, or choose an attention that does: " + readers);
  }
  return Status();
}

Status TakeAttention(const eid_tune_options& given, model::SequenceAttentionOptions* attention) {
  EID_RETURN_IF_ERROR(TakeName("attention", given.attention, model::FindSequenceMode,
                               "se, se-no-memory, se-random, se-landmark, se-stream, window, s2, "
                               "full",
                               &attention->mode));
  EID_RETURN_IF_ERROR(RefuseUnread(given, attention->mode));
  attention->chunk_sizes = {2048, 4096};
  if (given.chunk_count > 0) {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(given.chunks, "chunks"));
    attention->chunk_sizes.assign(given.chunks, given.chunks + given.chunk_count);
  }
  EID_RETURN_IF_ERROR(
      TakeNumber("block_tokens", given.block_tokens, false, &attention->block_tokens));
  EID_RETURN_IF_ERROR(TakeNumber("groups", given.groups, false, &attention->groups));
  if (attention->mode == model::SequenceMode::kStream) {
    return TakeStream(given, attention->block_tokens, &attention->stream);
  }
  EID_RETURN_IF_ERROR(TakeNumber("span_blocks", given.span_blocks, false, &attention->span_blocks));
  return TakeNumber("window", given.window, false, &attention->window);
}

Status TakeType(const char* given, bool* bf16) {
  const std::string name = given != nullptr ? given : "fp32";
  if (name != "fp32" && name != "bf16") {
    return Status(Code::kInvalidArgument, "dtype is '" + name + "'", "use fp32 or bf16");
  }
  *bf16 = name == "bf16";
  return Status();
}

// The first option that is set of those which low-rank matrices have; null: none.
const char* NameOfMatrices(const eid_tune_options& given) {
  return given.rank != 0                   ? "rank"
         : given.alpha != 0                ? "alpha"
         : given.dropout != 0              ? "dropout"
         : given.target_count != 0         ? "targets"
         : given.target_pattern != nullptr ? "target_pattern"
         : given.rank_for_count != 0       ? "rank_for"
         : given.alpha_for_count != 0      ? "alpha_for"
         : given.dropout_for_count != 0    ? "dropout_for"
                                           : nullptr;
}

// Mixers are trained as a whole: what is of low-rank matrices would do nothing.
Status RefuseOfMatrices(const eid_tune_options& given) {
  const char* const set = NameOfMatrices(given);
  if (set == nullptr) return Status();
  return Status(Code::kInvalidArgument,
                std::string(set) +
                    " is given for low-rank matrices, of which an adapter of kind mixers has none",
                "leave it out, or choose the kind lora, lora+ or hylora");
}

Status TakeAdapter(const eid_tune_options& given, model::TuneOptions* options) {
  model::AdapterOptions& adapter = options->trained;
  if (!options->teacher.empty()) adapter.kind = model::AdapterKind::kMixers;
  if (given.adapter_path != nullptr) {
    options->adapter = given.adapter_path;
    if (given.kind == nullptr && NameOfMatrices(given) == nullptr) return Status();
    return Status(
        Code::kInvalidArgument,
        "an adapter to go on from has a kind, ranks, alphas, dropout and targets of its own",
        "leave these out, or leave adapter_path out");
  }
  EID_RETURN_IF_ERROR(TakeName("kind", given.kind, model::FindAdapterKind,
                               "lora, lora+, hylora, mixers", &adapter.kind));
  if (adapter.kind == model::AdapterKind::kMixers) return RefuseOfMatrices(given);
  EID_RETURN_IF_ERROR(TakeNumber("rank", given.rank, false, &adapter.rank));
  adapter.alpha = given.alpha != 0 ? given.alpha : 2.0 * adapter.rank;
  adapter.dropout = given.dropout;
  EID_RETURN_IF_ERROR(
      TakeModuleNumbers("rank_for", given.rank_for, given.rank_for_count, &adapter.ranks));
  EID_RETURN_IF_ERROR(
      TakeModuleNumbers("alpha_for", given.alpha_for, given.alpha_for_count, &adapter.alphas));
  EID_RETURN_IF_ERROR(TakeModuleNumbers("dropout_for", given.dropout_for, given.dropout_for_count,
                                        &adapter.dropouts));
  if (given.target_pattern == nullptr) {
    return TakeTexts("targets", given.targets, given.target_count, &adapter.targets);
  }
  if (given.target_count != 0) {
    return Status(Code::kInvalidArgument, "targets and target_pattern are both given",
                  "leave one of them out");
  }
  EID_RETURN_IF_ERROR(sdk::RequireText(given.target_pattern, "target_pattern"));
  adapter.targets.clear();
  adapter.target_pattern = given.target_pattern;
  return Status();
}

Status TakeSteps(const eid_tune_options& given, model::TuneOptions* options) {
  EID_RETURN_IF_ERROR(TakeNumber("length", given.length, false, &options->length));
  EID_RETURN_IF_ERROR(TakeNumber("batch", given.batch, false, &options->batch));
  EID_RETURN_IF_ERROR(TakeNumber("micro_batch", given.micro_batch, false, &options->micro_batch));
  EID_RETURN_IF_ERROR(TakeNumber("steps", given.steps, false, &options->steps));
  if (given.rate != 0) options->rate = given.rate;
  EID_RETURN_IF_ERROR(TakeNumber("warm_up", given.warm_up, true, &options->warm_up));
  EID_RETURN_IF_ERROR(TakeName("schedule", given.schedule, model::FindRateSchedule,
                               "constant, cosine", &options->schedule));
  options->text_share = given.text_share;
  if (given.mixer_rate != 0) options->mixer_rate = given.mixer_rate;
  if (given.mixer_steps != 0) {
    EID_RETURN_IF_ERROR(TakeNumber("mixer_steps", given.mixer_steps, true, &options->mixer_steps));
  }
  options->weight_decay = given.weight_decay;
  if (given.clip != 0) options->largest_norm = given.clip == -1 ? 0 : given.clip;
  options->seed = given.seed;
  EID_RETURN_IF_ERROR(
      TakeNumber("evaluate_every", given.evaluate_every, false, &options->evaluate_every));
  EID_RETURN_IF_ERROR(TakeNumber("held_out_sequences", given.held_out_sequences, true,
                                 &options->held_out_sequences));
  EID_RETURN_IF_ERROR(
      TakeNumber("checkpoint_every", given.checkpoint_every, false, &options->checkpoint_every));
  options->process = given.process;
  if (given.meeting != nullptr) options->meeting = given.meeting;
  return TakeNumber("processes", given.processes, false, &options->processes);
}

// Of the files of model, adapter and teacher, so that a run goes on with the same.
Status TakeDigests(const std::string& cache_dir, model::TuneOptions* options) {
  const auto hash = [&](const std::vector<std::string>& paths) -> memory::Result<std::string> {
    EID_ASSIGN_OR_RETURN(const std::vector<sdk::FileIdentity> files, sdk::IdentitiesOf(paths));
    return sdk::CachedModelHash(files, paths, cache_dir);
  };
  EID_ASSIGN_OR_RETURN(options->model_digest, hash(model::Checkpoint::FilesOf(options->model)));
  if (!options->adapter.empty()) {
    EID_ASSIGN_OR_RETURN(const std::string adapter,
                         hash(model::AdapterFile::FilesOf(options->adapter)));
    options->model_digest += " with " + adapter;
  }
  if (options->teacher.empty()) return Status();
  EID_ASSIGN_OR_RETURN(options->teacher_digest, hash(model::Checkpoint::FilesOf(options->teacher)));
  return Status();
}

memory::Result<model::TuneOptions> ReadTuneOptions(const eid_tune_options* options) {
  eid_tune_options given;
  EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_tune_options", &given));
  EID_RETURN_IF_ERROR(sdk::RequireText(given.model_path, "model_path"));
  EID_RETURN_IF_ERROR(sdk::RequireText(given.folder, "folder"));
  model::TuneOptions result;
  result.model = given.model_path;
  result.folder = given.folder;
  EID_RETURN_IF_ERROR(TakeTexts("inputs", given.inputs, given.input_count, &result.inputs));
  EID_RETURN_IF_ERROR(
      TakeTexts("held_out", given.held_out, given.held_out_count, &result.held_out));
  result.skip_bad = given.skip_bad != 0;
  if (given.device != nullptr) result.device = given.device;
  result.threads = given.threads;
  const bool asks_teacher =
      given.mixer_steps != 0 || given.mixer_rate != 0 || given.text_share != 0;
  if (given.teacher_path == nullptr && asks_teacher) {
    return Status(Code::kInvalidArgument,
                  "mixer_steps, mixer_rate and text_share are of a teacher, and there is none",
                  "name one with teacher_path, or leave them 0");
  }
  if (given.mixer_steps == -1 && given.mixer_rate != 0) {
    return Status(Code::kInvalidArgument,
                  "mixer_rate is of the steps in which mixers learn alone, and there are none",
                  "leave it 0, or give mixer_steps");
  }
  if (given.teacher_path != nullptr) {
    result.teacher = given.teacher_path;
    result.attention.mode = model::SequenceMode::kFull;
  }
  EID_RETURN_IF_ERROR(TakeAdapter(given, &result));
  EID_RETURN_IF_ERROR(TakeAttention(given, &result.attention));
  if (given.rope_scaling != nullptr) {
    result.rotary_scaling = model::ParseRotaryScaling(given.rope_scaling);
  }
  EID_RETURN_IF_ERROR(TakeType(given.dtype, &result.bf16));
  result.recompute = given.recompute != 0;
  EID_RETURN_IF_ERROR(TakeSteps(given, &result));
  EID_RETURN_IF_ERROR(
      TakeDigests(given.cache_dir != nullptr ? given.cache_dir : sdk::DefaultCacheDir(), &result));
  return result;
}

const char* StageName(model::TuneStage stage) {
  switch (stage) {
    case model::TuneStage::kTokenizing:
      return "tokenizing";
    case model::TuneStage::kLoading:
      return "loading";
    case model::TuneStage::kTraining:
      return "training";
    case model::TuneStage::kEvaluating:
      return "evaluating";
    case model::TuneStage::kSaving:
      return "saving";
    case model::TuneStage::kMeasuring:
      return "measuring";
  }
  return "unknown";
}

model::TuneCallback CallbackOf(eid_tune_callback progress, void* user) {
  if (progress == nullptr) return {};
  return [=](const model::TuneProgress& at) {
    eid_tune_progress told = {};
    told.struct_size = sizeof(told);
    told.stage = StageName(at.stage);
    told.done = at.done;
    told.total = at.total;
    told.step = at.step;
    told.steps = at.steps;
    told.loss = at.loss;
    told.held_out_loss = at.held_out_loss;
    told.rate = at.rate;
    told.gradient_norm = at.gradient_norm;
    told.tokens = at.tokens;
    told.tokens_per_second = at.tokens_per_second;
    told.seconds = at.seconds;
    told.remaining_seconds = at.remaining_seconds;
    told.peak_share = at.peak_share;
    told.memory_bytes = at.memory_bytes;
    told.objective = model::TuneObjectiveName(at.objective).data();
    return progress(&told, user) == 0;
  };
}

}  // namespace

eid_status eid_tune(const eid_tune_options* options, eid_tune_callback progress, void* user,
                    eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_ASSIGN_OR_RETURN(const model::TuneOptions wanted, ReadTuneOptions(options));
    const model::TuneCallback callback = CallbackOf(progress, user);
    // Of a size that was checked, so that the field is read only where there is one.
    eid_tune_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_tune_options", &given));
    if (given.dry_run != 0) {
      const model::TuneEstimate estimate = model::EstimateTune(wanted, callback);
      *json = sdk::NewString(sdk::TuneEstimateJson(wanted, estimate));
    } else {
      *json = sdk::NewString(sdk::TuneJson(wanted, model::Tune(wanted, callback)));
    }
    return Status();
  });
}
