// The C interface's engine and model functions.
#include <functional>
#include <utility>

#include "model/adapter_merge.h"
#include "model/hybridize.h"
#include "model/merge.h"
#include "sdk/c_handles.h"
#include "sdk/file_hash.h"
#include "sdk/reports.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
namespace model = eidetic::model;
using memory::Code;
using memory::Status;

namespace {

std::string HashOf(const std::string& path) {
  const auto file = sdk::FileIdentity::Of(path);
  sdk::ThrowIfError(file.status());
  auto result = sdk::CachedFileHash(*file, sdk::DefaultCacheDir());
  sdk::ThrowIfError(result.status());
  return std::move(result).value();
}

// Tells the caller of bytes merged into `output_path`; false: stop.
std::function<bool(uint64_t, uint64_t)> MergeProgress(const char* output_path,
                                                      eid_progress_callback progress, void* user) {
  return [=](uint64_t done, uint64_t total) {
    if (progress == nullptr) return true;
    eid_progress told = {};
    told.struct_size = sizeof(told);
    told.stage = "merging";
    told.item = output_path;
    told.done = done;
    told.total = total;
    return progress(&told, user) == 0;
  };
}

memory::Result<sdk::EngineOptions> EngineOptionsOf(const eid_engine_options* options) {
  eid_engine_options given;
  EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_engine_options", &given));
  EID_RETURN_IF_ERROR(sdk::RequireText(given.model_path, "model_path"));
  sdk::EngineOptions wanted;
  wanted.model_path = given.model_path;
  if (given.device != nullptr) wanted.device = given.device;
  wanted.cache_dir = given.cache_dir != nullptr ? given.cache_dir : sdk::DefaultCacheDir();
  wanted.threads = given.threads;
  if (given.profile_path != nullptr) wanted.profile_path = given.profile_path;
  if (given.adapter_path != nullptr) wanted.adapter_path = given.adapter_path;
  if (given.rope_scaling != nullptr) wanted.rope_scaling = given.rope_scaling;
  return wanted;
}

}  // namespace

eid_status eid_engine_create(const eid_engine_options* options, eid_engine** out,
                             eid_error* error) {
  sdk::Clear(out);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(out, "out"));
    EID_ASSIGN_OR_RETURN(const sdk::EngineOptions wanted, EngineOptionsOf(options));
    EID_ASSIGN_OR_RETURN(auto engine, sdk::Engine::Create(wanted));
    *out = new eid_engine{std::move(engine)};
    return Status();
  });
}

eid_status eid_engine_add_adapter(const eid_engine* base, const eid_adapter_options* options,
                                  eid_engine** out, eid_error* error) {
  sdk::Clear(out);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(out, "out"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(base, "base"));
    eid_adapter_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_adapter_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireText(given.adapter_path, "adapter_path"));
    EID_ASSIGN_OR_RETURN(auto engine, sdk::Engine::WithAdapter(
                                          *base->engine, given.adapter_path,
                                          given.profile_path == nullptr ? "" : given.profile_path));
    *out = new eid_engine{std::move(engine)};
    return Status();
  });
}

eid_status eid_engine_fingerprint(const eid_engine_options* options, eid_string** fingerprint,
                                  eid_error* error) {
  sdk::Clear(fingerprint);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(fingerprint, "fingerprint"));
    EID_ASSIGN_OR_RETURN(const sdk::EngineOptions wanted, EngineOptionsOf(options));
    EID_ASSIGN_OR_RETURN(std::string text, sdk::Engine::FingerprintOf(wanted));
    *fingerprint = sdk::NewString(std::move(text));
    return Status();
  });
}

void eid_engine_free(eid_engine* engine) {
  delete engine;
}

eid_status eid_engine_info(const eid_engine* engine, eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    *json = sdk::NewString(sdk::EngineJson(*engine->engine));
    return Status();
  });
}

eid_status eid_engine_tokenize(const eid_engine* engine, const char* text, size_t length,
                               int special, int32_t* tokens, size_t capacity, size_t* count,
                               eid_error* error) {
  sdk::Clear(count);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(count, "count"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    if (capacity > 0) EID_RETURN_IF_ERROR(sdk::RequireHandle(tokens, "tokens"));
    if (length > 0) EID_RETURN_IF_ERROR(sdk::RequireHandle(text, "text"));
    const std::vector<int32_t> ids =
        engine->engine->tokenizer().Encode(sdk::View(text, length), special != 0);
    std::copy_n(ids.begin(), std::min(capacity, ids.size()), tokens);
    *count = ids.size();
    return Status();
  });
}

eid_status eid_engine_detokenize(const eid_engine* engine, const int32_t* tokens, size_t count,
                                 eid_string** text, eid_error* error) {
  sdk::Clear(text);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(text, "text"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    if (count > 0) EID_RETURN_IF_ERROR(sdk::RequireHandle(tokens, "tokens"));
    *text = sdk::NewString(
        engine->engine->tokenizer().Decode(std::vector<int32_t>(tokens, tokens + count)));
    return Status();
  });
}

eid_status eid_model_info(const char* path, eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireText(path, "path"));
    *json = sdk::NewString(sdk::ModelFileJson(path));
    return Status();
  });
}

eid_status eid_model_merge(const char* base_path, const char* patch_dir, const char* output_path,
                           eid_progress_callback progress, void* user, eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireText(base_path, "base_path"));
    EID_RETURN_IF_ERROR(sdk::RequireText(patch_dir, "patch_dir"));
    EID_RETURN_IF_ERROR(sdk::RequireText(output_path, "output_path"));
    model::MergeModel(base_path, patch_dir, output_path, HashOf,
                      MergeProgress(output_path, progress, user));
    return sdk::BringProfile(patch_dir, output_path);
  });
}

eid_status eid_model_hybridize(const char* base_path, const eid_hybridize_options* options,
                               const char* patch_dir, eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireText(base_path, "base_path"));
    EID_RETURN_IF_ERROR(sdk::RequireText(patch_dir, "patch_dir"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(options, "options"));
    eid_hybridize_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_hybridize_options", &given));
    if (given.attention_layer_count > 0) {
      EID_RETURN_IF_ERROR(sdk::RequireHandle(given.attention_layers, "attention_layers"));
    }
    model::HybridizeOptions wanted;
    wanted.attention_layers.assign(given.attention_layers,
                                   given.attention_layers + given.attention_layer_count);
    if (given.conv_width != 0) wanted.conv_width = given.conv_width;
    wanted.seed = given.seed;
    model::Hybridize(base_path, wanted, patch_dir, HashOf);
    return Status();
  });
}

eid_status eid_adapter_info(const char* path, eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireText(path, "path"));
    *json = sdk::NewString(sdk::AdapterJson(path, HashOf));
    return Status();
  });
}

eid_status eid_adapter_merge(const char* base_path, const char* adapter_path,
                             const char* output_path, const char* type,
                             eid_progress_callback progress, void* user, eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireText(base_path, "base_path"));
    EID_RETURN_IF_ERROR(sdk::RequireText(adapter_path, "adapter_path"));
    EID_RETURN_IF_ERROR(sdk::RequireText(output_path, "output_path"));
    const std::string name = type == nullptr ? "f32" : type;
    if (name != "f32" && name != "f16") {
      return Status(Code::kInvalidArgument, "type is '" + name + "'", "pass \"f32\" or \"f16\"");
    }
    model::MergeAdapter(base_path, adapter_path, output_path,
                        name == "f16" ? model::GgmlType::kF16 : model::GgmlType::kF32, HashOf,
                        MergeProgress(output_path, progress, user));
    return Status();
  });
}
