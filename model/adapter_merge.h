// A base GGUF with an adapter becomes one GGUF (`eidetic adapter merge`; docs/decisions/083).
#ifndef EIDETIC_MODEL_ADAPTER_MERGE_H_
#define EIDETIC_MODEL_ADAPTER_MERGE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "model/gguf.h"

namespace eidetic::model {

// Metadata and tensors that the adapter does not change are the base's, byte for byte. Changed
// matrices are stored as `type`, kF32 or kF16, changed vectors, convolutions and norms as F32: with
// kF32 the model gives the logits of base and adapter, to the bit. Equal inputs give equal bytes.
//
// `sha256_of_file` hashes base and adapter (hex), which the output names; `progress` and what is
// left after an error as in MergeModel (merge.h). Throws Error: kNotFound, kMismatch when the
// adapter does not fit (adapter_fit.h), kUnsupported, also for a base that is a folder,
// kCorruption, kNoSpace, kIo, kInvalidArgument, kCancelled.
void MergeAdapter(const std::string& base_path, const std::string& adapter_dir,
                  const std::string& output_path, GgmlType type,
                  const std::function<std::string(const std::string& path)>& sha256_of_file,
                  const std::function<bool(uint64_t done, uint64_t total)>& progress);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ADAPTER_MERGE_H_
