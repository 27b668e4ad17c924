// How a GGUF says which positions a model has: what ReadModelConfig (model/config.h) reads back.
#ifndef EIDETIC_MODEL_GGUF_ROTARY_H_
#define EIDETIC_MODEL_GGUF_ROTARY_H_

#include <string_view>

#include "model/config.h"
#include "model/gguf_writer.h"

namespace eidetic::model {

// The keys of base and scaling, behind "ARCHITECTURE.". "ntk" has none: it is the base that it
// makes of the model's, rounded to fp32 as every base of a file.
void AddRotary(const ModelConfig& config, GgufWriter* writer);

// Whether a key, whole, is one that AddRotary writes, or another name of one.
bool IsRotaryKey(std::string_view key, std::string_view architecture);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_GGUF_ROTARY_H_
