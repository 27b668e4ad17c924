#include "sdk/engine.h"

#include <utility>

#include "model/adapter_fit.h"
#include "model/checkpoint.h"
#include "model/compute_threads.h"
#include "sdk/error_wall.h"
#include "sdk/file_hash.h"
#include "sdk/fingerprint.h"

namespace eidetic::sdk {

using memory::Result;

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
  if (!named && !profile.ok() && profile.status().code() == memory::Code::kNotFound) {
    return AssumedProfile(config);
  }
  return profile;
}

}  // namespace

Result<std::shared_ptr<const Engine>> Engine::Create(const EngineOptions& options) {
  return BehindWall([&]() -> Result<std::shared_ptr<const Engine>> {
    // Before the first byte is read: what is hashed in the end is then what was loaded.
    const std::vector<std::string> paths = model::Checkpoint::FilesOf(options.model_path);
    EID_ASSIGN_OR_RETURN(const std::vector<FileIdentity> identities, IdentitiesOf(paths));
    std::vector<std::string> adapter_paths;
    if (!options.adapter_path.empty()) {
      adapter_paths = model::AdapterFile::FilesOf(options.adapter_path);
    }
    EID_ASSIGN_OR_RETURN(const std::vector<FileIdentity> adapter_identities,
                         IdentitiesOf(adapter_paths));
    auto checkpoint = model::Checkpoint::Open(options.model_path);
    if (checkpoint->files() != paths) {
      return memory::Status(memory::Code::kIoError,
                            options.model_path + ": files came or went while it was being read",
                            "wait until the folder is complete, and load it again");
    }
    if (!adapter_paths.empty()) {
      checkpoint =
          model::WithAdapter(std::move(checkpoint), model::AdapterFile::Open(options.adapter_path));
    }
    auto engine = std::make_shared<Engine>();
    engine->adapter_path_ = options.adapter_path;
    engine->tokenizer_ = checkpoint->ReadTokenizer();
    model::LoadOptions load;
    load.device = options.device;
    load.threads = options.threads;
    if (!options.rope_scaling.empty()) {
      load.rotary_scaling = model::ParseRotaryScaling(options.rope_scaling);
    }
    engine->model_ = model::HybridModel::Load(*checkpoint, load);
    engine->threads_ = model::ComputeThreads(options.threads);
    EID_ASSIGN_OR_RETURN(std::string weights,
                         CachedModelHash(identities, paths, options.cache_dir));
    std::string adapter;
    if (!adapter_paths.empty()) {
      EID_ASSIGN_OR_RETURN(adapter,
                           CachedModelHash(adapter_identities, adapter_paths, options.cache_dir));
    }
    engine->fingerprint_ = Fingerprint(weights, adapter, *engine->tokenizer_, *engine->model_);
    EID_ASSIGN_OR_RETURN(engine->profile_,
                         ProfileFor(options, engine->fingerprint_, engine->model_->config()));
    return std::shared_ptr<const Engine>(std::move(engine));
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
