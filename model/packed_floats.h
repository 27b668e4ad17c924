// Bytes of saved states in fewer bytes, to the last bit. Numbers of a matrix are of much the same
// size, so that their exponents take two and a half bits instead of eight; signs and mantissas look
// like noise and are stored as they are. In a matrix that is roughly a sum of few products of a
// column and a row, only what the sum does not tell is stored. The layout: docs/formats/session.md.
#ifndef EIDETIC_MODEL_PACKED_FLOATS_H_
#define EIDETIC_MODEL_PACKED_FLOATS_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace eidetic::model {

inline constexpr char kPackedMagic[8] = {'E', 'I', 'D', 'P', 'A', 'C', 'K', '2'};
// Of packed numbers as they were written at first, which are read on.
inline constexpr char kPackedMagicBefore[8] = {'E', 'I', 'D', 'P', 'A', 'C', 'K', '1'};
inline constexpr uint32_t kMostPackedRows = 1024;
inline constexpr uint32_t kMostPackedColumns = 65536;

// How numbers stand in bytes. Any shape does; another one than theirs packs worse.
struct PackedShape {
  uint32_t rows = 32, columns = 64;  // of a matrix, both 1 to the limits above
  size_t begin = 0;                  // of the first number; what stands before is stored as it is
  size_t terms = 0;                  // most products that a matrix may be taken as the sum of
};

// `plain` ends with fp32 numbers, one matrix after the other. Bytes that would not become fewer
// come back as they are.
std::string PackFloats(const std::string& plain, const PackedShape& shape);

// What PackFloats was given. Bytes that it did not pack come back as they are. Throws Error
// kCorruption for packed ones that are cut off, or none that it writes.
std::string UnpackFloats(std::string bytes);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PACKED_FLOATS_H_
