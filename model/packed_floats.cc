#include "model/packed_floats.h"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <future>
#include <string_view>
#include <vector>

#include "model/error.h"
#include "model/packed_chunk.h"
#include "model/packed_floats_before.h"

namespace eidetic::model {
namespace {

static_assert(std::endian::native == std::endian::little,
              "packed numbers are little-endian, as docs/formats/session.md says");

constexpr uint64_t kMostThreads = 4;

// What stands before the numbers; at first without `lead_bytes`.
struct PackedHead {
  char magic[8];
  uint32_t rows, columns;
  uint64_t plain_bytes, lead_bytes;
};
static_assert(sizeof(PackedHead) == 32);
constexpr size_t kHeadBytesBefore = 24;
// A number takes a bit at least: memory grows with what is there, not with what is claimed.
constexpr uint64_t kMostPlainBytes = 8 * sizeof(float);  // of a byte

bool BeginsWith(std::string_view bytes, const char (&magic)[8]) {
  return bytes.substr(0, sizeof magic) == std::string_view(magic, sizeof magic);
}

bool IsPacked(std::string_view bytes) {
  return BeginsWith(bytes, kPackedMagic) || BeginsWith(bytes, kPackedMagicBefore);
}

// How many whole rows there are, and the bytes behind them.
struct Cut {
  Cut(const PackedHead& head)
      : rows((head.plain_bytes - head.lead_bytes) / sizeof(float) / head.columns),
        rest(head.plain_bytes - head.lead_bytes - rows * head.columns * sizeof(float)) {}
  uint64_t rows, rest;
};

// Chunks first .. end - 1 of `rows` rows.
std::string PackedChunks(const std::string& plain, const PackedHead& head, uint64_t rows,
                         uint64_t first, uint64_t end, size_t terms) {
  std::string bytes;
  bytes.reserve((end - first) * head.rows * head.columns * sizeof(float));
  ChunkPacker packer;
  size_t at = head.lead_bytes + first * head.rows * head.columns * sizeof(float);
  for (uint64_t chunk = first; chunk < end; ++chunk) {
    const uint64_t count = std::min<uint64_t>(head.rows, rows - chunk * head.rows);
    packer.numbers().resize(count * head.columns);
    const size_t size = packer.numbers().size() * sizeof(float);
    std::memcpy(packer.numbers().data(), plain.data() + at, size);
    at += size;
    packer.Pack(count, head.columns, terms, &bytes);
  }
  return bytes;
}

}  // namespace

std::string PackFloats(const std::string& plain, const PackedShape& shape) {
  PackedHead head{};
  std::memcpy(head.magic, kPackedMagic, sizeof(kPackedMagic));
  head.rows = std::clamp<uint32_t>(shape.rows, 1, kMostPackedRows);
  head.columns = std::clamp<uint32_t>(shape.columns, 1, kMostPackedColumns);
  head.plain_bytes = plain.size();
  head.lead_bytes = std::min<uint64_t>(shape.begin, plain.size());
  head.lead_bytes += (head.plain_bytes - head.lead_bytes) % sizeof(float);
  const Cut cut(head);
  std::string bytes;
  bytes.reserve(plain.size() + sizeof(head));
  bytes.append(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes.append(plain, 0, head.lead_bytes);
  // Some threads, each a run of chunks: how many there are does not show in the bytes.
  const uint64_t chunks = (cut.rows + head.rows - 1) / head.rows;
  const uint64_t threads = std::clamp<uint64_t>(omp_get_max_threads(), 1, kMostThreads);
  const uint64_t each = std::max<uint64_t>((chunks + threads - 1) / threads, 1);
  std::vector<std::future<std::string>> others;
  for (uint64_t first = each; first < chunks; first += each) {
    others.push_back(std::async(std::launch::async, PackedChunks, std::cref(plain), std::cref(head),
                                cut.rows, first, std::min(first + each, chunks), shape.terms));
  }
  bytes += PackedChunks(plain, head, cut.rows, 0, std::min(each, chunks), shape.terms);
  for (std::future<std::string>& other : others) bytes += other.get();
  bytes.append(plain, plain.size() - cut.rest);
  // The magic tells the two apart.
  if (bytes.size() >= plain.size() && !IsPacked(plain)) return plain;
  return bytes;
}

std::string UnpackFloats(std::string bytes) {
  if (!IsPacked(bytes)) return bytes;
  const bool before = BeginsWith(bytes, kPackedMagicBefore);
  size_t at = 0;
  const auto check = [&](bool good, const char* what) {
    if (good) return;
    throw Error(ErrorCode::kCorruption,
                "packed numbers of a saved state are damaged at byte " + std::to_string(at) +
                    " of " + std::to_string(bytes.size()) + ": " + what,
                "Go back to an earlier turn, or begin the session anew.");
  };
  PackedHead head{};
  const size_t head_bytes = before ? kHeadBytesBefore : sizeof(head);
  check(bytes.size() >= head_bytes, "they are cut off");
  std::memcpy(&head, bytes.data(), head_bytes);
  if (before) head.lead_bytes = head.plain_bytes % sizeof(float);
  at = head_bytes;
  check(head.rows >= 1 && head.rows <= kMostPackedRows && head.columns >= 1 &&
            head.columns <= kMostPackedColumns,
        "chunks of this size are not written");
  check(head.plain_bytes / kMostPlainBytes <= bytes.size(), "they cannot hold so many numbers");
  check(head.lead_bytes <= head.plain_bytes &&
            (head.plain_bytes - head.lead_bytes) % sizeof(float) == 0,
        "what stands before them is of another length");
  const Cut cut(head);
  check(bytes.size() - at >= head.lead_bytes, "they are cut off");
  std::string plain;
  plain.reserve(head.plain_bytes);
  plain.append(bytes, at, head.lead_bytes);
  at += head.lead_bytes;
  ChunkPacker packer;
  for (uint64_t row = 0; row < cut.rows; row += head.rows) {
    const uint64_t count = std::min<uint64_t>(head.rows, cut.rows - row);
    packer.numbers().resize(count * head.columns);
    check(before ? UnpackChunkBefore(bytes, &at, count, head.columns, packer.numbers().data())
                 : packer.Unpack(bytes, &at, count, head.columns),
          "a chunk is cut off, or none that is written");
    plain.append(reinterpret_cast<const char*>(packer.numbers().data()),
                 packer.numbers().size() * sizeof(float));
  }
  check(bytes.size() - at == cut.rest, "their length does not fit");
  plain.append(bytes, at, cut.rest);
  return plain;
}

}  // namespace eidetic::model
