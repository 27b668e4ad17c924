// Makes a hybrid model's GGUF out of a base GGUF and a patch folder: config.json (granitemoehybrid)
// and mixers.safetensors (the Mamba-2 mixers that replace attention layers; metadata names the base
// by SHA-256).
#ifndef EIDETIC_MODEL_MERGE_H_
#define EIDETIC_MODEL_MERGE_H_

#include <cstdint>
#include <functional>
#include <string>

namespace eidetic::model {

// Architecture `granitehybrid`, tensor names and conventions as llama.cpp has them. Tensors of the
// base are copied as they are; in_proj and out_proj are stored as Q8_0, the rest of a mixer as F32.
// Writes a temporary file, fsyncs and renames it. `sha256_of_file` hashes the base (hex);
// `progress` (may be empty) gets bytes done and total and returns false to cancel. Throws Error:
// kMismatch for another base, kCorruption, kNoSpace, kCancelled.
void MergeModel(const std::string& base_path, const std::string& patch_dir,
                const std::string& output_path,
                const std::function<std::string(const std::string& path)>& sha256_of_file,
                const std::function<bool(uint64_t done, uint64_t total)>& progress);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MERGE_H_
