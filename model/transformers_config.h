// What a config.json of `transformers` says about the model.
#ifndef EIDETIC_MODEL_TRANSFORMERS_CONFIG_H_
#define EIDETIC_MODEL_TRANSFORMERS_CONFIG_H_

#include "model/config.h"
#include "model/json_file.h"

namespace eidetic::model {

// Reads configurations of LlamaForCausalLM and GraniteMoeHybridForCausalLM, in the spellings of
// versions 4 and 5 (docs/models.md). The architecture gets GGUF's name: the layers compute the
// same. Throws Error: kUnsupported for what this build cannot compute, kCorruption for keys that
// are missing, out of range or contradict each other.
ModelConfig ReadTransformersConfig(const JsonFile& file);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRANSFORMERS_CONFIG_H_
