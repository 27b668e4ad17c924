// Characters of UTF-8 text, and what of a text that others wrote may reach a terminal.
#ifndef EIDETIC_APPS_CLI_CHARACTERS_H_
#define EIDETIC_APPS_CLI_CHARACTERS_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace eidetic::cli {

inline constexpr char32_t kNoCharacter = 0xFFFFFFFF;

struct Character {
  std::size_t bytes = 1;  // at least 1
  char32_t value = kNoCharacter;
};
// The character that begins at `at`, which is inside the text; one byte and kNoCharacter when that
// byte begins none (overlong forms, surrogates and values over U+10FFFF are none).
Character character_at(std::string_view text, std::size_t at);

// The offset of the first byte that is not part of valid UTF-8, or npos.
std::size_t first_invalid_utf8(std::string_view text);

// Columns that a terminal gives to `text`: 2 for a wide character, 0 for one that combines.
std::size_t columns_of(std::string_view text);

// A name or a message as a terminal may have it: '?' for every control character (escape sequences
// begin with one) and for those that change the direction of writing, U+FFFD for what is no UTF-8.
// Line ends count as control characters.
std::string printable(std::string_view text);

// The same for running text: line ends and tabs stay, carriage returns are left out.
std::string printable_lines(std::string_view text);

// Text on one line: a blank for any run of white space, none at the ends, the rest as printable()
// gives it. At most `columns`; what is longer ends in "…".
std::string one_line(std::string_view text, std::size_t columns = std::string_view::npos);

// The end of a name, which in a path says more than its beginning: at most `columns`; what is
// longer begins with "…". As printable() gives it.
std::string end_of(std::string_view name, std::size_t columns);

// Paragraphs of `text`, as one_line() gives them, broken between words into lines of at most
// `columns`, with `indent` blanks before each. A word that is too long stands alone.
std::string wrapped(std::string_view text, std::size_t indent, std::size_t columns);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CHARACTERS_H_
