// From a text in natural language to a full-text query.
#ifndef EIDETIC_MEMORY_WORD_QUERY_H_
#define EIDETIC_MEMORY_WORD_QUERY_H_

#include <string>
#include <string_view>
#include <vector>

namespace eidetic::memory {

// The words of `text` that are worth searching for: ASCII in lower case, each once, in the order of
// their last appearance, at most 64 (the last ones: a question stands at the end). Stop words of
// English, question words among them, are left out, unless there are no others. Words are runs of
// ASCII letters and digits and of characters beyond ASCII other than punctuation and spaces; any
// bytes are accepted.
std::vector<std::string> QueryWords(std::string_view text);

// The FTS5 query for text that holds `word`, one of QueryWords: a quoted string, so that nothing of
// it is syntax.
std::string QuotedWord(const std::string& word);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_WORD_QUERY_H_
