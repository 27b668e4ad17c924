// The text of a web page, as a reader of it would have it (docs/decisions/074).
#ifndef EIDETIC_APPS_INGEST_HTML_TEXT_H_
#define EIDETIC_APPS_INGEST_HTML_TEXT_H_

#include <string_view>

#include "apps/ingest/extracted_text.h"

namespace eidetic::ingest {

// The title, then the blocks of the body, one line each, with empty lines between paragraphs and
// headings. White space is one blank, but in <pre> and <textarea>. Without script, style,
// templates, drawings and form controls. Broken pages are read as browsers do.
//
// `page` is UTF-8, or in a one-byte encoding that it declares. Pieces count its bytes. Throws Error
// (EID_UNSUPPORTED): another encoding, nested too deeply, too large, or no text in it. `name` is
// for messages. Thread-safe.
ExtractedText text_of_html(std::string_view page, const std::string& name);

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_HTML_TEXT_H_
