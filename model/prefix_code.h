// A prefix code of sixteen symbols: frequent ones take fewer bits (Huffman's code in its canonical
// form, as in RFC 1951, 3.2.2, but with the first bit of a code in the highest bit of a byte).
#ifndef EIDETIC_MODEL_PREFIX_CODE_H_
#define EIDETIC_MODEL_PREFIX_CODE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace eidetic::model {

inline constexpr size_t kCodeSymbols = 16;
// Bits of each symbol's code; 0: it has none. Sixteen symbols need 15 bits at most.
using CodeLengths = std::array<uint8_t, kCodeSymbols>;

class PrefixEncoder {
 public:
  // `counts`: how often Write will be given each symbol. At least two symbols get a code.
  explicit PrefixEncoder(const std::array<uint32_t, kCodeSymbols>& counts);

  const CodeLengths& lengths() const { return lengths_; }
  // Bytes that the codes of all symbols take, the last one filled with zeros.
  size_t bytes() const { return bytes_; }
  // The codes of `count` symbols (each below 16) to out [bytes()].
  void Write(const uint8_t* symbols, size_t count, uint8_t* out) const;

 private:
  CodeLengths lengths_{};
  size_t bytes_ = 0;
};

class PrefixDecoder {
 public:
  explicit PrefixDecoder(const CodeLengths& lengths);

  // Whether the lengths are a whole code: any bits begin with the code of one symbol.
  bool whole() const { return !table_.empty(); }
  // Reads `count` symbols from bytes[*at] on and moves *at behind their last byte. False when the
  // bytes end before, or the last one is not filled with zeros. Only of a whole code.
  bool Read(std::string_view bytes, size_t* at, size_t count, uint8_t* symbols) const;

 private:
  int longest_ = 0;
  std::vector<uint8_t> table_;  // by the next `longest_` bits: the symbol, and its length * 16
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_PREFIX_CODE_H_
