#include "model/train/train_checkpoint.h"

#include <filesystem>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>

#include "model/adapter_file.h"
#include "model/atomic_file.h"
#include "model/error.h"
#include "model/json_file.h"
#include "model/safetensors.h"
#include "model/safetensors_writer.h"
#include "model/train/adapter_folder.h"
#include "model/train/atomic_folder.h"
#include "model/train/file_checksum.h"
#include "model/train/tune_options.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr char kStateFile[] = "training.json", kMomentsFile[] = "optimizer.safetensors";
constexpr char kWeightsFile[] = "adapter_model.safetensors";
constexpr char kRemedy[] =
    "begin the run anew in another folder, or bring this one back from a copy";

json StateJson(const TrainState& state) {
  json object = {{"step", state.step},           {"epoch", state.epoch},
                 {"window", state.window},       {"tokens", state.tokens},
                 {"seconds", state.seconds},     {"loss", state.loss},
                 {"evaluated", state.evaluated}, {"best_step", state.best_step}};
  if (state.evaluated >= 0) object["held_out_loss"] = state.held_out_loss;
  if (state.best_step >= 0) object["best_loss"] = state.best_loss;
  if (state.teacher_loss) object["teacher_loss"] = *state.teacher_loss;
  return object;
}

json AdapterJson(const AdapterOptions& adapter) {
  return {{"kind", AdapterKindName(adapter.kind)},
          {"rank", adapter.rank},
          {"alpha", adapter.alpha},
          {"dropout", adapter.dropout},
          {"targets", adapter.targets},
          {"target_pattern", adapter.target_pattern},
          {"rank_pattern", adapter.ranks},
          {"alpha_pattern", adapter.alphas},
          {"dropout_pattern", adapter.dropouts},
          {"rslora", adapter.rslora},
          {"seed", adapter.seed}};
}

json TextsJson(const std::vector<TextRecord>& records) {
  json list = json::array();
  for (const TextRecord& record : records) {
    list.push_back({{"path", record.path}, {"bytes", record.bytes}, {"xxh3_128", record.hash}});
  }
  return list;
}

// Of a mode as SequenceModeName has it: "paper-random" is asked for as "se-random".
std::string TrainingNameOf(const std::string& mode) {
  const auto known = FindSequenceMode(mode);
  return known ? TrainingModeName(*known) : mode;
}

void WriteMoments(const AdamW& optimizer, const std::string& path) {
  SafetensorsWriter writer;
  for (const auto& [name, tensor] : optimizer.Export()) {
    writer.Add(name, "F32", {tensor.shape.begin(), tensor.shape.end()}, tensor.values.data());
  }
  writer.Write(path);
}

// Checked look-ups: what is missing or of another kind is damage.
class StateReader {
 public:
  StateReader(const JsonFile& file, const char* part) : file_(file), part_(part) {
    const json* found = file.Find(part);
    if (found == nullptr || !found->is_object()) {
      file.Fail(ErrorCode::kCorruption, part, "is missing or no object");
    }
    object_ = found;
  }

  template <typename Value>
  void Read(const char* key, Value* value) const {
    const auto found = object_->find(key);
    try {
      if (found != object_->end()) return found->get_to(*value), void();
    } catch (const json::exception&) {
    }
    file_.Fail(ErrorCode::kCorruption, std::string(part_) + "." + key,
               "is missing or of another kind");
  }
  bool Has(const char* key) const { return object_->contains(key); }
  void ReadCount(const char* key, int64_t least, int64_t* value) const {
    Read(key, value);
    if (*value < least) {
      file_.Fail(ErrorCode::kCorruption, std::string(part_) + "." + key, "is too small");
    }
  }

 private:
  const JsonFile& file_;
  const char* part_;
  const json* object_ = nullptr;
};

void CheckFormat(const JsonFile& file) {
  if (file.Size("eidetic_training") == kFormat) return;
  file.Fail(ErrorCode::kUnsupported, "eidetic_training",
            "is of another version than this program reads");
}

TrainState ReadState(const JsonFile& file) {
  const StateReader reader(file, "state");
  TrainState state;
  reader.ReadCount("step", 0, &state.step);
  reader.ReadCount("epoch", 0, &state.epoch);
  reader.ReadCount("window", 0, &state.window);
  reader.ReadCount("tokens", 0, &state.tokens);
  reader.Read("seconds", &state.seconds);
  reader.Read("loss", &state.loss);
  reader.ReadCount("evaluated", -1, &state.evaluated);
  reader.ReadCount("best_step", -1, &state.best_step);
  if (state.evaluated >= 0) reader.Read("held_out_loss", &state.held_out_loss);
  if (state.best_step >= 0) reader.Read("best_loss", &state.best_loss);
  if (reader.Has("teacher_loss")) reader.Read("teacher_loss", &state.teacher_loss.emplace());
  return state;
}

AdapterOptions ReadAdapterOptions(const JsonFile& file) {
  const StateReader reader(file, "adapter");
  AdapterOptions adapter;
  std::string kind;
  reader.Read("kind", &kind);
  const auto known = FindAdapterKind(kind);
  if (!known) file.Fail(ErrorCode::kUnsupported, "adapter.kind", "is '" + kind + "'");
  adapter.kind = *known;
  reader.Read("rank", &adapter.rank);
  reader.Read("alpha", &adapter.alpha);
  reader.Read("dropout", &adapter.dropout);
  reader.Read("targets", &adapter.targets);
  // Earlier builds had none of these.
  if (reader.Has("target_pattern")) reader.Read("target_pattern", &adapter.target_pattern);
  if (reader.Has("rank_pattern")) reader.Read("rank_pattern", &adapter.ranks);
  if (reader.Has("alpha_pattern")) reader.Read("alpha_pattern", &adapter.alphas);
  if (reader.Has("dropout_pattern")) reader.Read("dropout_pattern", &adapter.dropouts);
  if (reader.Has("rslora")) reader.Read("rslora", &adapter.rslora);
  reader.Read("seed", &adapter.seed);
  return adapter;
}

// Of a checkpoint of this version; one of an earlier version has none.
std::optional<TuneTexts> ReadTexts(const JsonFile& file) {
  if (file.Find("texts") == nullptr) return std::nullopt;
  const StateReader reader(file, "texts");
  const auto read = [&](const char* part) {
    json list;
    reader.Read(part, &list);
    std::vector<TextRecord> records;
    try {
      for (const json& one : list) {
        records.push_back({one.at("path").get<std::string>(), one.at("bytes").get<uint64_t>(),
                           one.at("xxh3_128").get<std::string>()});
      }
    } catch (const json::exception&) {
      file.Fail(ErrorCode::kCorruption, std::string("texts.") + part, "is no list of files");
    }
    return records;
  };
  return TuneTexts{read("train"), read("held_out")};
}

void CheckFiles(const JsonFile& file, const std::string& folder) {
  const StateReader reader(file, "files");
  for (const char* name : {kWeightsFile, kMomentsFile}) {
    std::string expected;
    reader.Read(name, &expected);
    if (FileChecksum(folder + "/" + name) == expected) continue;
    throw Error(ErrorCode::kCorruption, folder + "/" + name + " is not the file that was written",
                kRemedy);
  }
}

HostTensors ReadMoments(const std::string& path) {
  HostTensors moments;
  const auto file = SafetensorsFile::Open(path);
  for (const auto& [name, tensor] : file->tensors()) moments[name] = HostTensorOf(tensor);
  return moments;
}

}  // namespace

void SaveTrainCheckpoint(const std::string& folder, const Adapter& adapter,
                         const DifferentiableModel& model, const std::string& base_model,
                         const AdamW* optimizer, const TrainState& state,
                         const TrainSettings& settings, const TuneTexts& texts) {
  AtomicFolder output(folder);
  const std::string& path = output.temporary();
  SaveAdapter(adapter, model, base_model, path);
  json files = {{kWeightsFile, FileChecksum(path + "/" + kWeightsFile)}};
  if (optimizer != nullptr) {
    WriteMoments(*optimizer, path + "/" + kMomentsFile);
    files[kMomentsFile] = FileChecksum(path + "/" + kMomentsFile);
  }
  const json object = {
      {"eidetic_training", kFormat},
      {"state", StateJson(state)},
      {"settings", settings},
      {"texts", {{"train", TextsJson(texts.train)}, {"held_out", TextsJson(texts.held_out)}}},
      {"adapter", AdapterJson(adapter.config())},
      {"files", std::move(files)}};
  const std::string text = object.dump(2) + "\n";
  AtomicFile file(path + "/" + kStateFile);
  file.Write(text.data(), text.size());
  file.Commit();
  output.Commit();
}

std::optional<TrainState> ReadTrainState(const std::string& folder) {
  const std::string path = folder + "/" + kStateFile;
  if (!std::filesystem::exists(path)) return std::nullopt;
  const JsonFile file(path, kRemedy);
  if (!file.Has("eidetic_training")) return std::nullopt;  // another program's
  CheckFormat(file);
  return ReadState(file);
}

std::optional<TrainCheckpoint> ReadTrainCheckpoint(const std::string& folder) {
  AtomicFolder::Recover(folder);
  if (!std::filesystem::exists(folder)) return std::nullopt;
  const JsonFile file(folder + "/" + kStateFile, kRemedy);
  CheckFormat(file);
  CheckFiles(file, folder);
  TrainCheckpoint checkpoint;
  checkpoint.state = ReadState(file);
  checkpoint.adapter = ReadAdapterOptions(file);
  const json* settings = file.Find("settings");
  if (settings == nullptr || !settings->is_object()) {
    file.Fail(ErrorCode::kCorruption, "settings", "is missing or no object");
  }
  for (const auto& [option, value] : settings->items()) {
    checkpoint.settings[option] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  checkpoint.texts = ReadTexts(file);
  const auto trained = AdapterFile::Open(folder);
  checkpoint.rotary_scaling = trained->config().rotary_scaling;
  checkpoint.trained = TensorsOf(*trained);
  checkpoint.moments = ReadMoments(folder + "/" + kMomentsFile);
  return checkpoint;
}

namespace {

// Earlier builds left out what later ones compare, and told what changes no more than rounding,
// nothing of mixers, or is not read by the attention.
bool IsCompared(const std::string& option, const TrainSettings& was) {
  const auto is_one_of = [&](const auto&... names) { return ((option == names) || ...); };
  if (is_one_of("eval-sequences", "mixer-warm-up", "skip-bad")) return was.contains(option);
  if (option == "micro-batch") return false;
  const auto attention = was.find("attention");
  const auto mode = attention == was.end() ? std::nullopt : FindSequenceMode(attention->second);
  if (mode && !ReadsOption(*mode, option)) return false;
  const auto kind = was.find("kind");
  const bool of_mixers = kind != was.end() && kind->second == "mixers";
  return !(of_mixers && is_one_of("rank", "alpha", "dropout", "targets"));
}

// Of texts whose tokens differ.
std::string FileDifferences(const std::optional<TuneTexts>& were, const TuneTexts& are,
                            std::vector<TextRecord> TuneTexts::*files) {
  if (!were) {
    return " differs (the checkpoint is of an earlier version, which did not write down its files)";
  }
  const std::string differences = TextDifferences((*were).*files, are.*files);
  return " differs (" + (differences.empty() ? "the same files, as other tokens" : differences) +
         ")";
}

}  // namespace

std::string DifferencesOf(const TrainSettings& was, const std::optional<TuneTexts>& texts_were,
                          const TrainSettings& is, const TuneTexts& texts_are) {
  TrainSettings both = was;
  both.insert(is.begin(), is.end());
  const auto text = [](const TrainSettings& settings, const std::string& option) {
    const auto found = settings.find(option);
    if (found == settings.end() || found->second.empty()) return std::string("not given");
    return option == "attention" ? TrainingNameOf(found->second) : found->second;
  };
  std::string differences;
  for (const auto& [option, value] : both) {
    const std::string before = text(was, option), now = text(is, option);
    if (before == now || !IsCompared(option, was)) continue;
    differences += (differences.empty() ? "" : "; ") + option;
    if (option == kTrainTexts || option == kHeldOutTexts) {
      const auto files = option == kTrainTexts ? &TuneTexts::train : &TuneTexts::held_out;
      differences += FileDifferences(texts_were, texts_are, files);
    } else {
      differences += " was " + before + ", is " + now;
    }
  }
  return differences;
}

}  // namespace eidetic::model
