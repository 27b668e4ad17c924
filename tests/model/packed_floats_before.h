// Writes packed numbers as they were written at first (EIDPACK1, docs/formats/session.md), slowly
// and plainly: for tests that what was stored then is read on.
#ifndef EIDETIC_TESTS_MODEL_PACKED_FLOATS_BEFORE_H_
#define EIDETIC_TESTS_MODEL_PACKED_FLOATS_BEFORE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace eidetic::model {

// A chunk: the largest exponent of each column, codes of three bits, mantissas, exponents apart.
inline std::string PackChunkBefore(const std::vector<uint32_t>& numbers, size_t columns) {
  const auto exponent = [&](size_t i) { return numbers[i] >> 23 & 255; };
  std::vector<uint32_t> largest(columns);
  for (size_t i = 0; i < numbers.size(); ++i) {
    largest[i % columns] = std::max(largest[i % columns], exponent(i));
  }
  std::string codes((3 * numbers.size() + 7) / 8, '\0'), low, high, apart;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint32_t code = std::min(largest[i % columns] - exponent(i), 7u);
    for (size_t bit = 0; bit < 3; ++bit) {
      const size_t at = 3 * i + bit;
      codes[at / 8] = static_cast<char>(codes[at / 8] | (code >> bit & 1) << at % 8);
    }
    low.push_back(static_cast<char>(numbers[i]));
    low.push_back(static_cast<char>(numbers[i] >> 8));
    high.push_back(static_cast<char>((numbers[i] >> 24 & 0x80) | (numbers[i] >> 16 & 0x7f)));
    if (code == 7) apart.push_back(static_cast<char>(exponent(i)));
  }
  return std::string(largest.begin(), largest.end()) + codes + low + high + apart;
}

inline std::string PackFloatsBefore(const std::string& plain, uint32_t rows, uint32_t columns) {
  const uint64_t size = plain.size();
  std::string bytes = "EIDPACK1";
  bytes.append(reinterpret_cast<const char*>(&rows), 4);
  bytes.append(reinterpret_cast<const char*>(&columns), 4);
  bytes.append(reinterpret_cast<const char*>(&size), 8);
  size_t at = size % 4;
  bytes.append(plain, 0, at);
  for (size_t left = (size - at) / 4 / columns; left > 0;) {
    const size_t count = std::min<size_t>(rows, left);
    std::vector<uint32_t> numbers(count * columns);
    std::memcpy(numbers.data(), plain.data() + at, numbers.size() * 4);
    at += numbers.size() * 4;
    left -= count;
    bytes += PackChunkBefore(numbers, columns);
  }
  return bytes + plain.substr(at);
}

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_PACKED_FLOATS_BEFORE_H_
