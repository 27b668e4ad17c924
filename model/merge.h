// Makes a hybrid model's GGUF out of a base GGUF and a patch folder: config.json (granitemoehybrid)
// and mixers.safetensors (the Mamba-2 mixers that replace attention layers; metadata names the base
// by SHA-256).
#ifndef EIDETIC_MODEL_MERGE_H_
#define EIDETIC_MODEL_MERGE_H_

#include <cstdint>
#include <functional>
#include <string>

namespace eidetic::model {

// Architecture `granitehybrid`, tensor names and conventions as llama.cpp has them
// (docs/formats/gguf-hybrid.md). Tensors of the base are copied byte for byte; those of the mixers
// are F32: the patch's int8 rows times their fp32 scales have no smaller GGUF type that keeps the
// logits within 1e-3 (docs/decisions/031). Equal inputs give equal bytes.
//
// Writes a temporary file beside the output, fsyncs and renames it; on any error, and when
// cancelled, nothing is left. `sha256_of_file` hashes the base and the mixers (hex); `progress`
// (may be empty) gets bytes done and total and returns false to cancel. Throws Error: kNotFound,
// kMismatch (another base, or a config.json that contradicts it), kCorruption, kUnsupported,
// kNoSpace, kIo, kInvalidArgument (the output is an input), kCancelled.
void MergeModel(const std::string& base_path, const std::string& patch_dir,
                const std::string& output_path,
                const std::function<std::string(const std::string& path)>& sha256_of_file,
                const std::function<bool(uint64_t done, uint64_t total)>& progress);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MERGE_H_
