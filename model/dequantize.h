// The blocks of GGUF tensors, turned into fp32.
#ifndef EIDETIC_MODEL_DEQUANTIZE_H_
#define EIDETIC_MODEL_DEQUANTIZE_H_

#include <cstdint>

#include "model/gguf.h"

namespace eidetic::model {

// `blocks` * SizeOf(type).values values. Splits the work over OpenMP's threads; every block gives
// the same bits whatever their number. `data` needs no alignment.
void Dequantize(GgmlType type, const uint8_t* data, uint64_t blocks, float* values);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_DEQUANTIZE_H_
