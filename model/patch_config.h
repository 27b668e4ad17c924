// What a patch folder's config.json says, checked against the base it is meant for.
#ifndef EIDETIC_MODEL_PATCH_CONFIG_H_
#define EIDETIC_MODEL_PATCH_CONFIG_H_

#include <string>

#include "model/config.h"

namespace eidetic::model {

// Reads a granitemoehybrid configuration whose attention layers, feed-forward layers and embeddings
// are the base's. Throws Error: kMismatch naming the key and both values when they are not, and
// kUnsupported or kCorruption for what cannot be merged.
ModelConfig ReadPatchConfig(const std::string& path, const ModelConfig& base);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PATCH_CONFIG_H_
