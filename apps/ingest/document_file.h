// A file as a document: its format, its text, or why it has none.
#ifndef EIDETIC_APPS_INGEST_DOCUMENT_FILE_H_
#define EIDETIC_APPS_INGEST_DOCUMENT_FILE_H_

#include <string>
#include <string_view>

#include "apps/ingest/extracted_text.h"

namespace eidetic::ingest {

// "html", "markdown", "code" or "text": by the end of the name; a name that says nothing, by how
// the bytes begin.
std::string format_of(const std::string& name, std::string_view bytes);

// The text of `bytes`. `format` is one of these, or "auto"; `name` is the file's, for the format
// and for messages. Throws Error (EID_UNSUPPORTED) when there is no text in it: empty, binary, not
// UTF-8, or see text_of_html(). Thread-safe.
ExtractedText extract_text(std::string bytes, const std::string& name, const std::string& format);

// Why extract_text() refused `bytes`, in a word or two: "empty", "binary", "not UTF-8", "no text".
std::string refusal_of(std::string_view bytes);

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_DOCUMENT_FILE_H_
