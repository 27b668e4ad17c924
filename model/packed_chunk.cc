#include "model/packed_chunk.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "model/bit_stream.h"
#include "model/prefix_code.h"

namespace eidetic::model {
namespace {

constexpr uint32_t kMantissaBits = 23;
constexpr uint32_t kMantissaMask = (1u << kMantissaBits) - 1;
// Symbols 0..14 are differences of -10..4 from what was expected: numbers far below the others are
// more frequent than numbers far above. Symbol 15: the byte stands apart.
constexpr uint8_t kBelow = 10, kApart = 15;
constexpr size_t kCodeLengthBytes = kCodeSymbols / 2;
// A sum of terms tells more of a number than the levels do when it is that many octaves above what
// is left.
constexpr int kOctavesAbove = 2;

// Differences count modulo 256, so that any byte can follow from any other.
uint8_t SymbolOf(uint8_t byte, uint8_t expected) {
  const auto above = static_cast<uint8_t>(byte - expected + kBelow);
  return above < kApart ? above : kApart;
}

uint8_t ExponentOf(uint32_t bits) {
  return static_cast<uint8_t>(bits >> kMantissaBits);
}

// Whole numbers in the order of the numbers that have these bits; its own inverse.
uint32_t OrderOf(uint32_t bits) {
  return bits ^ (0u - (bits >> 31)) >> 1;
}

// Small differences of either sign as small numbers: 0, -1, 1, -2, ...
uint32_t Folded(uint32_t difference) {
  return difference << 1 ^ (0u - (difference >> 31));
}
uint32_t Unfolded(uint32_t folded) {
  return folded >> 1 ^ (0u - (folded & 1));
}

// The highest bit that is set, and how many bits there are up to it: std::bit_floor and
// std::bit_width by a float's exponent, which compilers do for several numbers at once. The bit
// below the highest is left out, so that nothing is rounded up.
struct FirstBit {
  uint32_t value, length;
};
FirstBit FirstBitOf(uint32_t bits) {
  const uint32_t half = bits >> 1;  // no sign
  const auto rounded = static_cast<float>(static_cast<int32_t>(half & ~(half >> 1)));
  const uint32_t power = std::bit_cast<uint32_t>(rounded) & ~kMantissaMask;
  const auto of_half = static_cast<uint32_t>(static_cast<int32_t>(std::bit_cast<float>(power)));
  const uint32_t is_one = bits == 1 ? 1 : 0;
  const uint32_t length = (power >> kMantissaBits) - 125;
  return {2 * of_half | is_one, half > 0 ? length : is_one};
}

// A difference has as many bits as what is left has above the sum's last place, and two for sign
// and rounding up.
uint8_t ExpectedLength(uint8_t level, uint8_t sum_exponent) {
  return static_cast<uint8_t>(kMantissaBits + 2 + level - sum_exponent);
}

// Signs and mantissas of numbers, 24 bits.
uint32_t SignedMantissa(uint32_t bits) {
  return (bits & kMantissaMask) | bits >> 31 << kMantissaBits;
}
uint32_t Number(uint8_t exponent, uint32_t signed_mantissa) {
  return signed_mantissa >> kMantissaBits << 31 | static_cast<uint32_t>(exponent) << kMantissaBits |
         (signed_mantissa & kMantissaMask);
}

void SplitMantissas(const uint32_t* __restrict numbers, size_t count, uint16_t* __restrict low,
                    uint8_t* __restrict high) {
  for (size_t i = 0; i < count; ++i) low[i] = static_cast<uint16_t>(numbers[i]);
  for (size_t i = 0; i < count; ++i) {
    high[i] = static_cast<uint8_t>((numbers[i] >> 24 & 0x80) | (numbers[i] >> 16 & 0x7f));
  }
}

std::array<uint32_t, kCodeSymbols> CountsOf(const std::vector<uint8_t>& symbols) {
  // Four tables: one would wait for its own last addition.
  std::array<std::array<uint32_t, kCodeSymbols>, 4> counts{};
  for (size_t i = 0; i < symbols.size(); ++i) ++counts[i % 4][symbols[i]];
  for (size_t i = 0; i < kCodeSymbols; ++i) {
    counts[0][i] += counts[1][i] + counts[2][i] + counts[3][i];
  }
  return counts[0];
}

void Append(const void* data, size_t size, std::string* bytes) {
  bytes->append(static_cast<const char*>(data), size);
}

}  // namespace

// --- packing ------------------------------------------------------------------------------------

// The levels of the exponents of what is left: of each column their mean, of each row the mean of
// what they are above their columns. An exponent is expected at the sum of both.
void ChunkPacker::TakeLevels(size_t rows, size_t columns) {
  bytes_.resize(rows * columns);
  uint8_t* const exponents = bytes_.data();
  for (size_t i = 0; i < rows * columns; ++i) {
    exponents[i] = ExponentOf(std::bit_cast<uint32_t>(rest_[i]));
  }
  std::vector<uint32_t> sums(columns);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < columns; ++i) sums[i] += exponents[row * columns + i];
  }
  column_levels_.resize(columns);
  int64_t all = 0;
  for (size_t i = 0; i < columns; ++i) {
    column_levels_[i] = static_cast<uint8_t>((sums[i] + rows / 2) / rows);
    all += column_levels_[i];
  }
  row_levels_.resize(rows);
  const auto count = static_cast<int64_t>(columns);
  for (size_t row = 0; row < rows; ++row) {
    uint32_t sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += exponents[row * columns + i];
    // Rounded down, below zero too.
    row_levels_[row] = static_cast<uint8_t>((sum - all + count / 2 + 256 * count) / count);
  }
}

// Makes bytes_ those of the numbers, and is_difference_, out of the levels and the sums.
void ChunkPacker::TakeBytes(size_t rows, size_t columns) {
  expected_.resize(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    uint8_t* const line = expected_.data() + row * columns;
    const uint8_t level = row_levels_[row];
    for (size_t i = 0; i < columns; ++i) line[i] = static_cast<uint8_t>(column_levels_[i] + level);
  }
  if (terms_.empty()) return;
  is_difference_.resize(rows * columns);
  const uint32_t* __restrict const sums = sums_.data();
  uint8_t* __restrict const expected = expected_.data();
  uint8_t* __restrict const is_difference = is_difference_.data();
  for (size_t i = 0; i < rows * columns; ++i) {
    const uint8_t level = expected[i], sum_exponent = ExponentOf(sums[i]);
    const bool tells = sum_exponent >= level + kOctavesAbove;
    is_difference[i] = static_cast<uint8_t>(tells);
    expected[i] = tells ? ExpectedLength(level, sum_exponent) : level;
  }
}

// What is stored of each number beside its byte, and makes bytes_ those of the numbers, where there
// are terms.
void ChunkPacker::TakeParts() {
  const size_t count = numbers_.size();
  parts_.resize(count);
  widths_.resize(count);
  const uint32_t* __restrict const numbers = numbers_.data();
  const uint32_t* __restrict const sums = sums_.data();
  const uint8_t* __restrict const is_difference = is_difference_.data();
  uint32_t* __restrict const parts = parts_.data();
  uint8_t* __restrict const widths = widths_.data();
  uint8_t* __restrict const bytes = bytes_.data();
  for (size_t i = 0; i < count; ++i) {
    const uint32_t folded = Folded(OrderOf(numbers[i]) - OrderOf(sums[i]));
    const FirstBit first = FirstBitOf(folded);
    // Masks, where a branch could not be foretold; no first bit where there is none.
    const uint32_t difference = 0u - is_difference[i], other = ~difference;
    const uint32_t width = first.length - (first.length > 0 ? 1 : 0);
    parts[i] = ((folded ^ first.value) & difference) | (SignedMantissa(numbers[i]) & other);
    widths[i] = static_cast<uint8_t>((width & difference) | ((kMantissaBits + 1) & other));
    bytes[i] = static_cast<uint8_t>((first.length & difference) | (ExponentOf(numbers[i]) & other));
  }
}

void ChunkPacker::TakeSymbols(size_t rows, size_t columns) {
  symbols_.resize(columns + rows + rows * columns);
  uint8_t* symbol = symbols_.data();
  uint8_t before = 0;
  for (const uint8_t level : column_levels_) {
    *symbol++ = SymbolOf(level, before);
    before = level;
  }
  for (const uint8_t level : row_levels_) *symbol++ = SymbolOf(level, 0);
  const uint8_t* __restrict const bytes = bytes_.data();
  const uint8_t* __restrict const expected = expected_.data();
  uint8_t* __restrict const out = symbol;
  for (size_t i = 0; i < rows * columns; ++i) out[i] = SymbolOf(bytes[i], expected[i]);
}

void ChunkPacker::PutCodes(std::string* bytes) const {
  const PrefixEncoder encoder(CountsOf(symbols_));
  const CodeLengths& lengths = encoder.lengths();
  for (size_t i = 0; i < kCodeSymbols; i += 2) {
    bytes->push_back(static_cast<char>(lengths[i] | lengths[i + 1] << 4));
  }
  const size_t begin = bytes->size();
  bytes->resize(begin + encoder.bytes());
  encoder.Write(symbols_.data(), symbols_.size(), reinterpret_cast<uint8_t*>(&(*bytes)[begin]));
  if (lengths[kApart] == 0) return;
  const uint8_t* symbol = symbols_.data();
  for (const std::vector<uint8_t>* part : {&column_levels_, &row_levels_, &bytes_}) {
    for (const uint8_t byte : *part) {
      if (*symbol++ == kApart) bytes->push_back(static_cast<char>(byte));
    }
  }
}

void ChunkPacker::PutMantissas(std::string* bytes) {
  const size_t count = numbers_.size();
  if (terms_.empty()) {
    low_.resize(count);
    high_.resize(count);
    SplitMantissas(numbers_.data(), count, low_.data(), high_.data());
    Append(low_.data(), 2 * count, bytes);
    Append(high_.data(), count, bytes);
    return;
  }
  const size_t begin = bytes->size();
  bytes->resize(begin + count * sizeof(uint32_t) + sizeof(uint64_t));
  BitWriter writer(reinterpret_cast<uint8_t*>(&(*bytes)[begin]));
  for (size_t i = 0; i < count; ++i) writer.Put(parts_[i], widths_[i]);
  bytes->resize(begin + writer.bytes());
}

void ChunkPacker::Pack(size_t rows, size_t columns, size_t terms, std::string* bytes) {
  const size_t count = rows * columns;
  rest_.resize(count);
  std::memcpy(rest_.data(), numbers_.data(), count * sizeof(float));
  terms_ = TermsOf(rows, columns, std::min(terms, kMostTerms), &rest_);
  bytes->push_back(static_cast<char>(terms_.size()));
  for (const MatrixTerm& term : terms_) {
    Append(&term.scale, sizeof term.scale, bytes);
    Append(term.rows.data(), rows, bytes);
    Append(term.columns.data(), columns, bytes);
  }
  TakeLevels(rows, columns);
  if (!terms_.empty()) SumTerms(terms_, rows, columns, &sums_);
  TakeBytes(rows, columns);
  if (!terms_.empty()) TakeParts();
  TakeSymbols(rows, columns);
  PutCodes(bytes);
  PutMantissas(bytes);
}

// --- reading ------------------------------------------------------------------------------------

namespace {

// Bytes out of their symbols, one after the other.
class SymbolReader {
 public:
  SymbolReader(const uint8_t* symbols, std::string_view bytes, size_t* at)
      : symbol_(symbols), bytes_(bytes), at_(at) {}

  uint8_t Next(uint8_t expected) {
    const uint8_t symbol = *symbol_++;
    if (symbol != kApart) return static_cast<uint8_t>(expected + symbol - kBelow);
    good_ = good_ && *at_ < bytes_.size();
    if (!good_) return 0;
    const auto apart = static_cast<uint8_t>(bytes_[(*at_)++]);
    good_ = SymbolOf(apart, expected) == kApart;  // it would have had a symbol of its own
    return apart;
  }
  bool good() const { return good_; }

 private:
  const uint8_t* symbol_;
  std::string_view bytes_;
  size_t* at_;  // of the next byte that stands apart
  bool good_ = true;
};

}  // namespace

bool ChunkPacker::ReadTerms(std::string_view bytes, size_t* at, size_t rows, size_t columns) {
  terms_.clear();
  if (*at == bytes.size()) return false;
  const auto count = static_cast<uint8_t>(bytes[(*at)++]);
  if (count > kMostTerms) return false;
  for (int i = 0; i < count; ++i) {
    if (bytes.size() - *at < sizeof(float) + rows + columns) return false;
    MatrixTerm term;
    std::memcpy(&term.scale, bytes.data() + *at, sizeof term.scale);
    if (!std::isnormal(term.scale)) return false;
    *at += sizeof term.scale;
    for (auto [part, size] : {std::pair(&term.rows, rows), std::pair(&term.columns, columns)}) {
      part->resize(size);
      std::memcpy(part->data(), bytes.data() + *at, size);
      *at += size;
    }
    terms_.push_back(std::move(term));
  }
  if (count > 0) SumTerms(terms_, rows, columns, &sums_);
  return true;
}

bool ChunkPacker::ReadBytes(std::string_view bytes, size_t* at, size_t rows, size_t columns) {
  if (bytes.size() - *at < kCodeLengthBytes) return false;
  CodeLengths lengths{};
  for (size_t i = 0; i < kCodeSymbols; ++i) {
    lengths[i] = static_cast<uint8_t>(bytes[*at + i / 2]) >> (i % 2 * 4) & 15;
  }
  *at += kCodeLengthBytes;
  const PrefixDecoder decoder(lengths);
  // A code has a bit at least.
  const size_t count = columns + rows + rows * columns;
  if (!decoder.whole() || count / 8 > bytes.size() - *at) return false;
  symbols_.resize(count);
  if (!decoder.Read(bytes, at, count, symbols_.data())) return false;
  SymbolReader reader(symbols_.data(), bytes, at);
  column_levels_.resize(columns);
  uint8_t before = 0;
  for (uint8_t& level : column_levels_) level = before = reader.Next(before);
  row_levels_.resize(rows);
  for (uint8_t& level : row_levels_) level = reader.Next(0);
  TakeBytes(rows, columns);
  bytes_.resize(rows * columns);
  for (size_t i = 0; i < rows * columns; ++i) bytes_[i] = reader.Next(expected_[i]);
  return reader.good();
}

bool ChunkPacker::ReadMantissas(std::string_view bytes, size_t* at) {
  const size_t count = numbers_.size();
  if (terms_.empty()) {
    if (bytes.size() - *at < 3 * count) return false;
    const auto* const lows = reinterpret_cast<const uint8_t*>(bytes.data() + *at);
    const uint8_t* const highs = lows + 2 * count;
    for (size_t i = 0; i < count; ++i) {
      uint16_t low = 0;
      std::memcpy(&low, lows + 2 * i, sizeof low);
      numbers_[i] = Number(bytes_[i], static_cast<uint32_t>(highs[i]) << 16 | low);
    }
    *at += 3 * count;
    return true;
  }
  BitReader reader(bytes, *at);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t difference = 0u - is_difference_[i];
    const uint32_t length = bytes_[i] & difference;
    if (length > 32) return false;
    const uint32_t width = length - (length > 0 ? 1 : 0);
    const uint32_t part = reader.Take((width & difference) | ((kMantissaBits + 1) & ~difference));
    const uint32_t first = (length > 0 ? 1u : 0u) << width;
    const uint32_t of_difference = OrderOf(OrderOf(sums_[i]) + Unfolded(first | part));
    numbers_[i] = (of_difference & difference) | (Number(bytes_[i], part) & ~difference);
  }
  *at = reader.at();
  return reader.good();
}

bool ChunkPacker::Unpack(std::string_view bytes, size_t* at, size_t rows, size_t columns) {
  numbers_.resize(rows * columns);
  return ReadTerms(bytes, at, rows, columns) && ReadBytes(bytes, at, rows, columns) &&
         ReadMantissas(bytes, at);
}

}  // namespace eidetic::model
