// Bytes of saved states in fewer bytes, to the last bit: neighbours in a column of fp32 numbers are
// of much the same size, so that their exponents take three bits instead of eight. Signs and
// mantissas look like noise and are stored as they are. The layout: docs/formats/session.md.
#ifndef EIDETIC_MODEL_PACKED_FLOATS_H_
#define EIDETIC_MODEL_PACKED_FLOATS_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace eidetic::model {

inline constexpr char kPackedMagic[8] = {'E', 'I', 'D', 'P', 'A', 'C', 'K', '1'};
inline constexpr uint32_t kMostPackedRows = 1024;  // whose exponents are told from one largest
inline constexpr uint32_t kMostPackedColumns = 65536;

// `plain` ends with fp32 numbers, taken as rows of `columns` and cut into chunks of `rows` (both 1
// to the limits above; any others do, and pack worse). Bytes that would not become fewer come back
// as they are.
std::string PackFloats(const std::string& plain, uint32_t rows, uint32_t columns);

// What PackFloats was given. Bytes that it did not pack come back as they are. Throws Error
// kCorruption for packed ones that are cut off, or none that it writes.
std::string UnpackFloats(std::string bytes);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PACKED_FLOATS_H_
