// A model's weights and tokenizer, loaded once and shared by sessions.
#ifndef EIDETIC_SDK_ENGINE_H_
#define EIDETIC_SDK_ENGINE_H_

#include <memory>
#include <string>
#include <vector>

#include "memory/layout.h"
#include "memory/status.h"
#include "model/hybrid_model.h"
#include "model/tokenizer.h"
#include "sdk/file_hash.h"
#include "sdk/kept_beginnings.h"
#include "sdk/retrieval_profile.h"

namespace eidetic::sdk {

struct EngineOptions {
  std::string model_path;    // a GGUF file, or a folder with safetensors
  std::string adapter_path;  // a folder as PEFT saves adapters; empty: none
  std::string device = "cpu";
  std::string cache_dir;  // of hashes of weights (file_hash.h); empty: they are not remembered
  int threads = 0;        // 0: OMP_NUM_THREADS, or one per core
  // The retrieval profile's file; empty: the one beside the adapter, else the model, when it is
  // there; "none": none.
  std::string profile_path;
  // As ParseRotaryScaling takes it; empty: what the adapter was trained with, else what the model's
  // file says. Another than the adapter's is kInvalidArgument.
  std::string rope_scaling;
};

// Files that are being read, as they were before their first byte was: what is hashed in the end is
// then what was loaded.
struct ReadFiles {
  std::vector<std::string> paths;
  std::vector<FileIdentity> identities;
};

// Thread-safe; immutable but for the beginnings that it keeps.
class Engine {
 public:
  static memory::Result<std::shared_ptr<const Engine>> Create(const EngineOptions& options);
  // `base` with an adapter: the engine that Create gives with the same model and adapter, to the
  // bit, and of the same fingerprint. Weights that the adapter leaves alone are the base's, in
  // memory once however many adapters there are (docs/decisions/090). `profile_path` as in
  // EngineOptions. kInvalidArgument for a base with an adapter of its own; kIoError when the
  // model's files changed since it was loaded; otherwise as Create.
  static memory::Result<std::shared_ptr<const Engine>> WithAdapter(const Engine& base,
                                                                   const std::string& adapter_path,
                                                                   const std::string& profile_path);
  // The fingerprint that the engine would have. No weights are loaded; files are read whose hash is
  // not remembered. Errors as of Create.
  static memory::Result<std::string> FingerprintOf(const EngineOptions& options);

  const model::HybridModel& model() const { return *model_; }
  const model::Tokenizer& tokenizer() const { return *tokenizer_; }
  std::shared_ptr<const model::Tokenizer> shared_tokenizer() const { return tokenizer_; }
  const std::string& fingerprint() const { return fingerprint_; }
  const std::string& adapter_path() const { return options_.adapter_path; }  // as it was given
  const RetrievalProfile& profile() const { return profile_; }
  int threads() const { return threads_; }
  KeptBeginnings& beginnings() const { return *beginnings_; }

  // The layout of memory that stores `layers` of this model (empty: all its attention layers).
  memory::Layout LayoutOf(std::vector<int> layers, kernels::Codec codec) const;

 private:
  EngineOptions options_;
  ReadFiles base_files_;   // without an adapter's
  std::string base_hash_;  // of them
  std::shared_ptr<const model::HybridModel> model_;
  std::shared_ptr<const model::Tokenizer> tokenizer_;
  std::string fingerprint_;
  RetrievalProfile profile_;
  int threads_ = 0;
  std::shared_ptr<KeptBeginnings> beginnings_ = std::make_shared<KeptBeginnings>();  // of model_
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_ENGINE_H_
