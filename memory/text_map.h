// Which bytes of a document's stored text come from which bytes of the original it was extracted
// from (a web page without its markup, a file in another encoding). The archive keeps the text and
// this map; the extraction is the caller's.
#ifndef EIDETIC_MEMORY_TEXT_MAP_H_
#define EIDETIC_MEMORY_TEXT_MAP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory/status.h"

namespace eidetic::memory {

struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;  // after the last byte

  bool operator==(const ByteRange&) const = default;
};

// A run of the text and the run of the original that it stands for. Runs of the same length belong
// together byte by byte; of different lengths (a character reference, another encoding) only as a
// whole.
struct TextPiece {
  uint64_t text_begin = 0;
  uint64_t text_bytes = 0;  // 1 or more
  uint64_t original_begin = 0;
  uint64_t original_bytes = 0;  // 1 or more

  bool operator==(const TextPiece&) const = default;
};

// Immutable. Without pieces it is the identity: the text is the original.
class TextMap {
 public:
  TextMap() = default;
  // Pieces stand in the order of the text and do not overlap there; text between them was put in by
  // the extraction (a line break between paragraphs) and has no original. Where they stand in the
  // original is free. kInvalidArgument when a piece is empty, out of order, or past the end.
  static Result<TextMap> Make(std::vector<TextPiece> pieces, uint64_t text_bytes,
                              uint64_t original_bytes);

  bool identity() const { return pieces_.empty(); }
  const std::vector<TextPiece>& pieces() const { return pieces_; }

  // The smallest range of the original that holds all that the text's range came from. A range that
  // was put in as a whole has the empty one before what follows it.
  ByteRange ToOriginal(ByteRange text) const;
  // The ranges of the text that hold something of the original's range: in order, none overlap or
  // touch. Empty when nothing of it came into the text.
  std::vector<ByteRange> ToText(ByteRange original) const;

  // The bytes on disk (docs/formats/archive-v1.md).
  std::string Serialize() const;
  // kCorruption for bytes that are no map.
  static Result<TextMap> Parse(std::string_view bytes);

 private:
  std::vector<TextPiece> pieces_;
  uint64_t text_bytes_ = 0;
  uint64_t original_bytes_ = 0;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_TEXT_MAP_H_
