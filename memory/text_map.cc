#include "memory/text_map.h"

#include <algorithm>
#include <utility>

#include "memory/byte_io.h"

namespace eidetic::memory {
namespace {

constexpr uint8_t kMapVersion = 1;

// Seven bits a byte, the lowest first; the top bit says that more follow.
void WriteVarint(uint64_t number, ByteWriter* writer) {
  while (number >= 0x80) {
    writer->Little(static_cast<uint8_t>(number | 0x80));
    number >>= 7;
  }
  writer->Little(static_cast<uint8_t>(number));
}

bool ReadVarint(ByteReader* reader, uint64_t* number) {
  *number = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    uint8_t byte = 0;
    if (!reader->Little(&byte) || (shift == 63 && byte > 1)) return false;
    *number |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

// Signed numbers of small size as small unsigned ones.
uint64_t ZigZag(int64_t number) {
  return (static_cast<uint64_t>(number) << 1) ^ static_cast<uint64_t>(number >> 63);
}
int64_t UnZigZag(uint64_t number) {
  return static_cast<int64_t>((number >> 1) ^ (0 - (number & 1)));
}

uint64_t TextEnd(const TextPiece& piece) {
  return piece.text_begin + piece.text_bytes;
}
uint64_t OriginalEnd(const TextPiece& piece) {
  return piece.original_begin + piece.original_bytes;
}

// Empty when `piece` is in order after text byte `last`.
std::string Wrong(const TextPiece& piece, uint64_t last, uint64_t text_bytes,
                  uint64_t original_bytes) {
  if (piece.text_bytes == 0 || piece.original_bytes == 0) return "is empty";
  if (piece.text_begin < last) return "begins before the end of the one before it";
  if (piece.text_begin > text_bytes || piece.text_bytes > text_bytes - piece.text_begin) {
    return "ends past the text's " + std::to_string(text_bytes) + " bytes";
  }
  if (piece.original_begin > original_bytes ||
      piece.original_bytes > original_bytes - piece.original_begin) {
    return "ends past the original's " + std::to_string(original_bytes) + " bytes";
  }
  return "";
}

Status Refused(const std::string& what) {
  return Status(Code::kCorruption, "a map from a text to its original " + what);
}

}  // namespace

Result<TextMap> TextMap::Make(std::vector<TextPiece> pieces, uint64_t text_bytes,
                              uint64_t original_bytes) {
  uint64_t last = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string wrong = Wrong(pieces[i], last, text_bytes, original_bytes);
    if (!wrong.empty()) {
      return Status(Code::kInvalidArgument,
                    "piece " + std::to_string(i) + " of the text (byte " +
                        std::to_string(pieces[i].text_begin) + ") " + wrong,
                    "give pieces in the order of the text, each of one byte or more on both sides");
    }
    last = TextEnd(pieces[i]);
  }
  TextMap map;
  map.pieces_ = std::move(pieces);
  map.text_bytes_ = text_bytes;
  map.original_bytes_ = original_bytes;
  return map;
}

ByteRange TextMap::ToOriginal(ByteRange text) const {
  if (identity()) return text;
  auto piece = std::upper_bound(
      pieces_.begin(), pieces_.end(), text.begin,
      [](uint64_t byte, const TextPiece& candidate) { return byte < TextEnd(candidate); });
  if (piece == pieces_.end()) return {original_bytes_, original_bytes_};
  if (piece->text_begin >= text.end) return {piece->original_begin, piece->original_begin};
  ByteRange range{UINT64_MAX, 0};
  for (; piece != pieces_.end() && piece->text_begin < text.end; ++piece) {
    uint64_t begin = piece->original_begin, end = OriginalEnd(*piece);
    if (piece->text_bytes == piece->original_bytes) {
      if (text.begin > piece->text_begin) begin += text.begin - piece->text_begin;
      if (text.end < TextEnd(*piece)) end -= TextEnd(*piece) - text.end;
    }
    range.begin = std::min(range.begin, begin);
    range.end = std::max(range.end, end);
  }
  return range;
}

std::vector<ByteRange> TextMap::ToText(ByteRange original) const {
  if (original.begin >= original.end) return {};
  if (identity()) return {original};
  std::vector<ByteRange> ranges;
  for (const TextPiece& piece : pieces_) {
    if (piece.original_begin >= original.end || OriginalEnd(piece) <= original.begin) continue;
    ByteRange range{piece.text_begin, TextEnd(piece)};
    if (piece.text_bytes == piece.original_bytes) {
      if (original.begin > piece.original_begin) {
        range.begin += original.begin - piece.original_begin;
      }
      if (original.end < OriginalEnd(piece)) range.end -= OriginalEnd(piece) - original.end;
    }
    if (!ranges.empty() && ranges.back().end == range.begin) {
      ranges.back().end = range.end;
    } else {
      ranges.push_back(range);
    }
  }
  return ranges;
}

std::string TextMap::Serialize() const {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.Little(kMapVersion);
  writer.Little(text_bytes_);
  writer.Little(original_bytes_);
  uint64_t text = 0, original = 0;
  for (const TextPiece& piece : pieces_) {
    const bool by_byte = piece.text_bytes == piece.original_bytes;
    WriteVarint(piece.text_begin - text, &writer);
    WriteVarint(ZigZag(static_cast<int64_t>(piece.original_begin - original)), &writer);
    WriteVarint(piece.text_bytes << 1 | (by_byte ? 0 : 1), &writer);
    if (!by_byte) WriteVarint(piece.original_bytes, &writer);
    text = TextEnd(piece);
    original = OriginalEnd(piece);
  }
  return bytes;
}

Result<TextMap> TextMap::Parse(std::string_view bytes) {
  ByteReader reader(bytes);
  TextMap map;
  uint8_t version = 0;
  if (!reader.Little(&version) || version != kMapVersion) return Refused("has an unknown version");
  if (!reader.Little(&map.text_bytes_) || !reader.Little(&map.original_bytes_)) {
    return Refused("is cut off");
  }
  uint64_t text = 0, original = 0;
  while (reader.left() > 0) {
    TextPiece piece;
    uint64_t gap = 0, step = 0, length = 0;
    if (!ReadVarint(&reader, &gap) || !ReadVarint(&reader, &step) ||
        !ReadVarint(&reader, &length)) {
      return Refused("is cut off");
    }
    if (gap > map.text_bytes_) return Refused("has a piece past the text");
    piece.text_begin = text + gap;
    piece.text_bytes = length >> 1;
    piece.original_begin = original + static_cast<uint64_t>(UnZigZag(step));
    piece.original_bytes = piece.text_bytes;
    if ((length & 1) != 0 && !ReadVarint(&reader, &piece.original_bytes)) {
      return Refused("is cut off");
    }
    const std::string wrong = Wrong(piece, text, map.text_bytes_, map.original_bytes_);
    if (!wrong.empty()) return Refused("has a piece that " + wrong);
    text = TextEnd(piece);
    original = OriginalEnd(piece);
    map.pieces_.push_back(piece);
  }
  if (!reader.done()) return Refused("is cut off");
  return map;
}

}  // namespace eidetic::memory
