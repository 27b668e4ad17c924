// One matrix of fp32 numbers in fewer bytes, to the last bit: a chunk of packed numbers
// (packed_floats.h). The layout, EIDPACK2: docs/formats/session.md.
#ifndef EIDETIC_MODEL_PACKED_CHUNK_H_
#define EIDETIC_MODEL_PACKED_CHUNK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/matrix_terms.h"

namespace eidetic::model {

inline constexpr size_t kMostTerms = 8;

// Packs chunks and reads them; what it needs for one is kept for the next. One thread at a time.
class ChunkPacker {
 public:
  // Appends the chunk of numbers() [rows, columns] to `bytes`, with at most `terms` terms.
  void Pack(size_t rows, size_t columns, size_t terms, std::string* bytes);
  // Reads a chunk from bytes[*at] on to numbers(), and moves *at behind it. False when it is cut
  // off, or none that Pack writes.
  bool Unpack(std::string_view bytes, size_t* at, size_t rows, size_t columns);

  // Bits of the numbers.
  std::vector<uint32_t>& numbers() { return numbers_; }

 private:
  void TakeLevels(size_t rows, size_t columns);
  void TakeBytes(size_t rows, size_t columns);
  void TakeParts();
  void TakeSymbols(size_t rows, size_t columns);
  void PutCodes(std::string* bytes) const;
  void PutMantissas(std::string* bytes);
  bool ReadTerms(std::string_view bytes, size_t* at, size_t rows, size_t columns);
  bool ReadBytes(std::string_view bytes, size_t* at, size_t rows, size_t columns);
  bool ReadMantissas(std::string_view bytes, size_t* at);

  std::vector<uint32_t> numbers_;
  std::vector<MatrixTerm> terms_;
  std::vector<float> rest_;     // the numbers without their terms
  std::vector<uint32_t> sums_;  // of the terms, where there are any
  std::vector<uint8_t> column_levels_, row_levels_;
  std::vector<uint8_t> bytes_;     // of each number: its exponent, or the length of a difference
  std::vector<uint8_t> expected_;  // what bytes_ is expected to be
  std::vector<uint8_t> is_difference_;
  std::vector<uint32_t> parts_;  // stored beside bytes_, in widths_ bits
  std::vector<uint8_t> widths_;
  std::vector<uint8_t> symbols_;  // of column levels, row levels, bytes_
  std::vector<uint16_t> low_;
  std::vector<uint8_t> high_, codes_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PACKED_CHUNK_H_
