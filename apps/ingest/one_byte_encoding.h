// Web pages in one of the old encodings that have one byte per character.
#ifndef EIDETIC_APPS_INGEST_ONE_BYTE_ENCODING_H_
#define EIDETIC_APPS_INGEST_ONE_BYTE_ENCODING_H_

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace eidetic::ingest {

// The UTF-8 of each byte; U+FFFD for one that stands for nothing.
using ByteTable = std::array<std::string, 256>;

// The encoding that a page declares in a <meta> of its first KiB, in lower case; empty: none.
std::string declared_encoding(std::string_view page);

// ISO-8859-1 to -16, Windows-1250 to -1258, KOI8-R and -U; names as pages write them. ISO-8859-1
// means Windows-1252, as in browsers. Nothing for any other.
std::optional<ByteTable> one_byte_encoding(const std::string& name);

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_ONE_BYTE_ENCODING_H_
