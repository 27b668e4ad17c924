#include "model/packed_floats.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <vector>

#include "model/error.h"

namespace eidetic::model {
namespace {

static_assert(std::endian::native == std::endian::little,
              "packed numbers are little-endian, as docs/formats/session.md says");

constexpr int kMantissaBits = 23;
constexpr uint32_t kExponentMask = 0x7f800000;
constexpr uint8_t kApart = 7;  // the code of an exponent that stands apart

uint8_t ExponentOf(uint32_t bits) {
  return static_cast<uint8_t>(bits >> kMantissaBits);
}

// Where the parts of a chunk of `count` numbers begin; exponents that stand apart follow `end`.
struct ChunkParts {
  ChunkParts(size_t columns, size_t count)
      : codes(columns),
        low(codes + (3 * count + 7) / 8),
        high(low + 2 * count),
        end(high + count) {}
  size_t codes, low, high, end;
};

// The largest exponent of each column, as it stands in a number: [columns].
void LargestOf(const uint32_t* __restrict numbers, size_t rows, size_t columns,
               uint32_t* __restrict largest) {
  for (size_t i = 0; i < columns; ++i) largest[i] = 0;
  for (size_t row = 0; row < rows; ++row) {
    const uint32_t* const line = numbers + row * columns;
    for (size_t i = 0; i < columns; ++i) {
      const uint32_t exponent = line[i] & kExponentMask;
      largest[i] = largest[i] < exponent ? exponent : largest[i];
    }
  }
}

// Codes [rows, columns], one a byte; true when any number stands apart.
bool CodesOf(const uint32_t* __restrict numbers, const uint32_t* __restrict largest, size_t rows,
             size_t columns, uint8_t* __restrict codes) {
  uint32_t apart = 0;
  for (size_t row = 0; row < rows; ++row) {
    const uint32_t* const line = numbers + row * columns;
    uint8_t* const code = codes + row * columns;
    for (size_t i = 0; i < columns; ++i) {
      const uint32_t below = (largest[i] - (line[i] & kExponentMask)) >> kMantissaBits;
      const uint32_t capped = below < kApart ? below : kApart;
      apart |= capped == kApart;
      code[i] = static_cast<uint8_t>(capped);
    }
  }
  return apart != 0;
}

// Eight codes to three bytes; behind `codes` [count] stand seven zeros, behind `out` five bytes.
void PackCodes(const uint8_t* __restrict codes, size_t count, uint8_t* __restrict out) {
  for (size_t i = 0; i < count; i += 8, out += 3) {
    uint64_t eight = 0;
    std::memcpy(&eight, codes + i, 8);
    // Pairs, fours, all: three bits of each byte move together.
    eight = (eight & 0x0007000700070007) | (eight & 0x0700070007000700) >> 5;
    eight = (eight & 0x0000003f0000003f) | (eight & 0x003f0000003f0000) >> 10;
    eight = (eight & 0xfff) | (eight & 0xfff00000000) >> 20;
    const auto three = static_cast<uint32_t>(eight);
    std::memcpy(out, &three, 4);
  }
}

void SplitMantissas(const uint32_t* __restrict numbers, size_t count, uint16_t* __restrict low,
                    uint8_t* __restrict high) {
  for (size_t i = 0; i < count; ++i) low[i] = static_cast<uint16_t>(numbers[i]);
  for (size_t i = 0; i < count; ++i) {
    high[i] = static_cast<uint8_t>((numbers[i] >> 24 & 0x80) | (numbers[i] >> 16 & 0x7f));
  }
}

// What chunks share; its parts grow to the largest chunk.
struct Workspace {
  std::vector<uint32_t> numbers, largest;
  std::vector<uint8_t> codes, packed, high;
  std::vector<uint16_t> low;
};

// Of the numbers in the workspace.
void PackChunk(size_t rows, size_t columns, Workspace* work, std::string* bytes) {
  const size_t count = rows * columns;
  work->largest.resize(columns);
  work->codes.assign(count + 8, 0);
  work->packed.resize(columns + (3 * count + 7) / 8 + 8);
  work->low.resize(count);
  work->high.resize(count);
  LargestOf(work->numbers.data(), rows, columns, work->largest.data());
  const bool apart =
      CodesOf(work->numbers.data(), work->largest.data(), rows, columns, work->codes.data());
  for (size_t i = 0; i < columns; ++i) work->packed[i] = ExponentOf(work->largest[i]);
  PackCodes(work->codes.data(), count, work->packed.data() + columns);
  SplitMantissas(work->numbers.data(), count, work->low.data(), work->high.data());
  const auto append = [&](const void* data, size_t size) {
    bytes->append(static_cast<const char*>(data), size);
  };
  append(work->packed.data(), columns + (3 * count + 7) / 8);
  append(work->low.data(), 2 * count);
  append(work->high.data(), count);
  for (size_t i = 0; apart && i < count; ++i) {
    if (work->codes[i] == kApart) bytes->push_back(static_cast<char>(ExponentOf(work->numbers[i])));
  }
}

bool UnpackChunk(std::string_view bytes, size_t* at, size_t rows, size_t columns,
                 uint32_t* numbers) {
  const size_t count = rows * columns;
  const ChunkParts parts(columns, count);
  if (bytes.size() - *at < parts.end) return false;
  const auto* const in = reinterpret_cast<const uint8_t*>(bytes.data() + *at);
  *at += parts.end;
  for (size_t i = 0; i < count; ++i) {
    const size_t bit = 3 * i, byte = parts.codes + bit / 8;
    // The byte behind the codes is there: the low halves follow.
    const int code = (in[byte] | in[byte + 1] << 8) >> (bit % 8) & 7;
    int exponent = in[i % columns] - code;
    if (code == kApart) {
      if (*at == bytes.size()) return false;
      const auto apart = static_cast<uint8_t>(bytes[(*at)++]);
      if (apart > exponent) return false;  // it would have had a code
      exponent = apart;
    }
    if (exponent < 0) return false;
    uint16_t low = 0;
    std::memcpy(&low, in + parts.low + 2 * i, sizeof low);
    const uint32_t high = in[parts.high + i];
    numbers[i] = (high & 0x80) << 24 | static_cast<uint32_t>(exponent) << kMantissaBits |
                 (high & 0x7f) << 16 | low;
  }
  return true;
}

// What stands before the numbers.
struct PackedHead {
  char magic[8];
  uint32_t rows, columns;
  uint64_t plain_bytes;
};
static_assert(sizeof(PackedHead) == 24);

bool IsPacked(std::string_view bytes) {
  return bytes.substr(0, sizeof(kPackedMagic)) ==
         std::string_view(kPackedMagic, sizeof(kPackedMagic));
}

// How `plain_bytes` are cut: what is no whole number comes first, what is no whole row last, both
// as they are.
struct Cut {
  Cut(uint64_t plain_bytes, uint32_t columns)
      : lead(plain_bytes % sizeof(float)),
        rows((plain_bytes - lead) / sizeof(float) / columns),
        rest(plain_bytes - lead - rows * columns * sizeof(float)) {}
  uint64_t lead, rows, rest;
};

}  // namespace

std::string PackFloats(const std::string& plain, uint32_t rows, uint32_t columns) {
  PackedHead head{};
  std::memcpy(head.magic, kPackedMagic, sizeof(kPackedMagic));
  head.rows = std::clamp<uint32_t>(rows, 1, kMostPackedRows);
  head.columns = std::clamp<uint32_t>(columns, 1, kMostPackedColumns);
  head.plain_bytes = plain.size();
  const Cut cut(plain.size(), head.columns);
  std::string bytes;
  bytes.reserve(plain.size() + sizeof(head));
  bytes.append(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes.append(plain, 0, cut.lead);
  Workspace work;
  size_t at = cut.lead;
  for (uint64_t row = 0; row < cut.rows; row += head.rows) {
    const uint64_t count = std::min<uint64_t>(head.rows, cut.rows - row);
    work.numbers.resize(count * head.columns);
    const size_t size = work.numbers.size() * sizeof(float);
    std::memcpy(work.numbers.data(), plain.data() + at, size);
    at += size;
    PackChunk(count, head.columns, &work, &bytes);
  }
  bytes.append(plain, at);
  // The magic tells the two apart.
  if (bytes.size() >= plain.size() && !IsPacked(plain)) return plain;
  return bytes;
}

std::string UnpackFloats(std::string bytes) {
  if (!IsPacked(bytes)) return bytes;
  size_t at = 0;
  const auto check = [&](bool good, const char* what) {
    if (good) return;
    throw Error(ErrorCode::kCorruption,
                "packed numbers of a saved state are damaged at byte " + std::to_string(at) +
                    " of " + std::to_string(bytes.size()) + ": " + what,
                "Go back to an earlier turn, or begin the session anew.");
  };
  PackedHead head{};
  check(bytes.size() >= sizeof(head), "they are cut off");
  std::memcpy(&head, bytes.data(), sizeof(head));
  at = sizeof(head);
  check(head.rows >= 1 && head.rows <= kMostPackedRows && head.columns >= 1 &&
            head.columns <= kMostPackedColumns,
        "chunks of this size are not written");
  // A number takes 27 bits at least: memory grows with what is there, not with what is claimed.
  check(head.plain_bytes / 2 <= bytes.size(), "they cannot hold so many numbers");
  const Cut cut(head.plain_bytes, head.columns);
  std::string plain;
  plain.reserve(head.plain_bytes);
  check(bytes.size() - at >= cut.lead, "they are cut off");
  plain.append(bytes, at, cut.lead);
  at += cut.lead;
  std::vector<uint32_t> numbers;
  for (uint64_t row = 0; row < cut.rows; row += head.rows) {
    const uint64_t count = std::min<uint64_t>(head.rows, cut.rows - row);
    numbers.resize(count * head.columns);
    check(UnpackChunk(bytes, &at, count, head.columns, numbers.data()),
          "a chunk is cut off, or none that is written");
    plain.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float));
  }
  check(bytes.size() - at == cut.rest, "their length does not fit");
  plain.append(bytes, at, cut.rest);
  return plain;
}

}  // namespace eidetic::model
