// A text that was taken out of a file, and which bytes of the file each part of it came from.
#ifndef EIDETIC_APPS_INGEST_EXTRACTED_TEXT_H_
#define EIDETIC_APPS_INGEST_EXTRACTED_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eidetic/eidetic.h"

namespace eidetic::ingest {

struct ExtractedText {
  std::string format;                  // "text", "markdown", "code" or "html"
  std::string text;                    // UTF-8
  std::vector<eid_text_piece> pieces;  // empty: the text is the original
  std::uint64_t original_bytes = 0;
};

// Builds a text piece by piece. Neighbours that belong together byte by byte become one piece.
class TextBuilder {
 public:
  // `text` stands for `original_bytes` bytes of the original from `original_begin` on.
  void add(std::string_view text, std::uint64_t original_begin, std::uint64_t original_bytes) {
    if (text.empty()) return;
    const bool by_byte = text.size() == original_bytes;
    if (by_byte && !pieces_.empty()) {
      eid_text_piece& last = pieces_.back();
      if (last.text_bytes == last.original_bytes && last.text_begin + last.text_bytes == size() &&
          last.original_begin + last.original_bytes == original_begin) {
        last.text_bytes += text.size();
        last.original_bytes += text.size();
        text_ += text;
        return;
      }
    }
    pieces_.push_back({size(), text.size(), original_begin, original_bytes});
    text_ += text;
  }
  // Text that is not in the original.
  void put_in(std::string_view text) { text_ += text; }

  std::uint64_t size() const { return text_.size(); }
  const std::string& text() const { return text_; }
  std::vector<eid_text_piece> take_pieces() { return std::move(pieces_); }
  std::string take_text() { return std::move(text_); }

 private:
  std::string text_;
  std::vector<eid_text_piece> pieces_;
};

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_EXTRACTED_TEXT_H_
