// How numbers were packed at first: sessions that were written then are read on. The layout,
// EIDPACK1: docs/formats/session.md.
#ifndef EIDETIC_MODEL_PACKED_FLOATS_BEFORE_H_
#define EIDETIC_MODEL_PACKED_FLOATS_BEFORE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace eidetic::model {

// Reads a chunk from bytes[*at] on to numbers [rows, columns], bits of fp32, and moves *at behind
// it. False when it is cut off, or none that was ever written.
bool UnpackChunkBefore(std::string_view bytes, size_t* at, size_t rows, size_t columns,
                       uint32_t* numbers);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PACKED_FLOATS_BEFORE_H_
