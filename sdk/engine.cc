#include "sdk/engine.h"

#include <utility>

#include "model/adapter_fit.h"
#include "model/checkpoint.h"
#include "model/compute_threads.h"
#include "sdk/error_wall.h"
#include "sdk/fingerprint.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

Result<RetrievalProfile> ProfileFor(const EngineOptions& options, const std::string& fingerprint,
                                    const model::ModelConfig& config) {
  if (options.profile_path == "none") return AssumedProfile(config);
  const bool named = !options.profile_path.empty();
  // An adapter makes another model, which has a profile of its own.
  const std::string& whose =
      options.adapter_path.empty() ? options.model_path : options.adapter_path;
  const std::string path = named ? options.profile_path : ProfilePathOf(whose);
  Result<RetrievalProfile> profile = ReadProfile(path, fingerprint, config);
  if (!named && !profile.ok() && profile.status().code() == Code::kNotFound) {
    return AssumedProfile(config);
  }
  return profile;
}

Result<ReadFiles> BeginToRead(std::vector<std::string> paths) {
  ReadFiles files;
  EID_ASSIGN_OR_RETURN(files.identities, IdentitiesOf(paths));
  files.paths = std::move(paths);
  return files;
}

Result<std::shared_ptr<const model::Checkpoint>> OpenBase(const std::string& path,
                                                          ReadFiles* files) {
  EID_ASSIGN_OR_RETURN(*files, BeginToRead(model::Checkpoint::FilesOf(path)));
  auto checkpoint = model::Checkpoint::Open(path);
  if (checkpoint->files() == files->paths) return checkpoint;
  return Status(Code::kIoError, path + ": files came or went while it was being read",
                "wait until the folder is complete, and load it again");
}

// An adapter that was trained with a scaling of rotary positions is one of the model so scaled.
Status CheckScaling(const EngineOptions& options, const model::ModelConfig& base,
                    const model::AdapterFile& adapter) {
  const auto& trained = adapter.config().rotary_scaling;
  if (options.rope_scaling.empty() || !trained) return Status();
  model::ModelConfig given = base, own = base;
  given.SetRotaryScaling(model::ParseRotaryScaling(options.rope_scaling));
  own.SetRotaryScaling(*trained);
  if (given.rotary_scaling == own.rotary_scaling) return Status();
  const std::string text = model::RotaryScalingText(*trained);
  return Status(Code::kInvalidArgument,
                "the rotary scaling is " + options.rope_scaling + ", but the adapter " +
                    adapter.path() + " was trained with " + text,
                "leave it out: the adapter brings its own");
}

// The base itself without an adapter.
Result<std::shared_ptr<const model::Checkpoint>> Adapted(
    std::shared_ptr<const model::Checkpoint> base, const EngineOptions& options, ReadFiles* files) {
  if (options.adapter_path.empty()) return base;
  EID_ASSIGN_OR_RETURN(*files, BeginToRead(model::AdapterFile::FilesOf(options.adapter_path)));
  auto adapter = model::AdapterFile::Open(options.adapter_path);
  EID_RETURN_IF_ERROR(CheckScaling(options, base->Config(), *adapter));
  return model::WithAdapter(std::move(base), std::move(adapter));
}

Result<std::string> HashOf(const ReadFiles& files, const std::string& cache_dir) {
  if (files.paths.empty()) return std::string();  // no adapter
  return CachedModelHash(files.identities, files.paths, cache_dir);
}

}  // namespace

Result<std::shared_ptr<const Engine>> Engine::Create(const EngineOptions& options) {
  return BehindWall([&]() -> Result<std::shared_ptr<const Engine>> {
    auto engine = std::make_shared<Engine>();
    ReadFiles adapter_files;
    EID_ASSIGN_OR_RETURN(std::shared_ptr<const model::Checkpoint> base,
                         OpenBase(options.model_path, &engine->base_files_));
    EID_ASSIGN_OR_RETURN(const std::shared_ptr<const model::Checkpoint> checkpoint,
                         Adapted(std::move(base), options, &adapter_files));
    engine->options_ = options;
    engine->tokenizer_ = checkpoint->ReadTokenizer();
    model::LoadOptions load;
    load.device = options.device;
    load.threads = options.threads;
    if (!options.rope_scaling.empty()) {
      load.rotary_scaling = model::ParseRotaryScaling(options.rope_scaling);
    }
    engine->model_ = model::HybridModel::Load(*checkpoint, load);
    engine->threads_ = model::ComputeThreads(options.threads);
    EID_ASSIGN_OR_RETURN(engine->base_hash_, HashOf(engine->base_files_, options.cache_dir));
    EID_ASSIGN_OR_RETURN(const std::string adapter, HashOf(adapter_files, options.cache_dir));
    engine->fingerprint_ = Fingerprint(engine->base_hash_, adapter, *engine->tokenizer_,
                                       engine->model_->FingerprintBytes());
    EID_ASSIGN_OR_RETURN(engine->profile_,
                         ProfileFor(options, engine->fingerprint_, engine->model_->config()));
    return std::shared_ptr<const Engine>(std::move(engine));
  });
}

Result<std::shared_ptr<const Engine>> Engine::WithAdapter(const Engine& base,
                                                          const std::string& adapter_path,
                                                          const std::string& profile_path) {
  return BehindWall([&]() -> Result<std::shared_ptr<const Engine>> {
    if (!base.options_.adapter_path.empty()) {
      return Status(
          Code::kInvalidArgument,
          "the engine has the adapter " + base.options_.adapter_path + ": no other goes beside it",
          "load the model without an adapter, and put both beside that");
    }
    if (adapter_path.empty()) {
      return Status(Code::kInvalidArgument, "no adapter was named", "name its folder");
    }
    auto engine = std::make_shared<Engine>(base);
    engine->options_.adapter_path = adapter_path;
    engine->options_.profile_path = profile_path;
    ReadFiles base_files, files;
    EID_ASSIGN_OR_RETURN(std::shared_ptr<const model::Checkpoint> unchanged,
                         OpenBase(base.options_.model_path, &base_files));
    if (base_files.identities != base.base_files_.identities) {
      return Status(Code::kIoError,
                    base.options_.model_path + " is not what it was when it was loaded",
                    "load the model again, and then its adapters");
    }
    EID_ASSIGN_OR_RETURN(const std::shared_ptr<const model::Checkpoint> checkpoint,
                         Adapted(std::move(unchanged), engine->options_, &files));
    engine->model_ = base.model_->LoadAdapted(*checkpoint);
    engine->beginnings_ = std::make_shared<KeptBeginnings>();  // the base's are another model's
    EID_ASSIGN_OR_RETURN(const std::string adapter, HashOf(files, base.options_.cache_dir));
    engine->fingerprint_ = Fingerprint(engine->base_hash_, adapter, *engine->tokenizer_,
                                       engine->model_->FingerprintBytes());
    EID_ASSIGN_OR_RETURN(engine->profile_, ProfileFor(engine->options_, engine->fingerprint_,
                                                      engine->model_->config()));
    return std::shared_ptr<const Engine>(std::move(engine));
  });
}

Result<std::string> Engine::FingerprintOf(const EngineOptions& options) {
  return BehindWall([&]() -> Result<std::string> {
    ReadFiles base_files, adapter_files;
    EID_ASSIGN_OR_RETURN(std::shared_ptr<const model::Checkpoint> base,
                         OpenBase(options.model_path, &base_files));
    EID_ASSIGN_OR_RETURN(const std::shared_ptr<const model::Checkpoint> checkpoint,
                         Adapted(std::move(base), options, &adapter_files));
    const auto tokenizer = checkpoint->ReadTokenizer();
    model::ModelConfig config = checkpoint->Config();
    if (!options.rope_scaling.empty()) {
      config.SetRotaryScaling(model::ParseRotaryScaling(options.rope_scaling));
    }
    const std::string graph = model::GraphFingerprint(config);
    EID_ASSIGN_OR_RETURN(const std::string weights, HashOf(base_files, options.cache_dir));
    EID_ASSIGN_OR_RETURN(const std::string adapter, HashOf(adapter_files, options.cache_dir));
    return Fingerprint(weights, adapter, *tokenizer, graph);
  });
}

memory::Layout Engine::LayoutOf(std::vector<int> layers, kernels::Codec codec) const {
  const model::ModelConfig& config = model_->config();
  memory::Layout layout;
  layout.fingerprint = fingerprint_;
  layout.layers = layers.empty() ? config.AttentionLayers() : std::move(layers);
  layout.kv_heads = config.kv_heads;
  layout.head_dim = config.head_dim;
  layout.codec = codec;
  return layout;
}

}  // namespace eidetic::sdk
