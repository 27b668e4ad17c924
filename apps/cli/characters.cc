#include "apps/cli/characters.h"

#include <algorithm>
#include <iterator>

namespace eidetic::cli {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::string_view kEllipsis = "…";

// Bytes in the sequence that begins with `lead`, and the smallest value that needs so many.
struct Form {
  std::size_t length;
  char32_t least;
};
Form form_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0};
  if ((lead & 0xE0) == 0xC0) return {2, 0x80};
  if ((lead & 0xF0) == 0xE0) return {3, 0x800};
  if ((lead & 0xF8) == 0xF0) return {4, 0x10000};
  return {0, 0};
}

struct Range {
  char32_t first, last;
};
template <std::size_t N>
bool is_in(const Range (&ranges)[N], char32_t value) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [value](Range r) { return r.first <= value && value <= r.last; });
}

// C0, DEL and C1 controls; embeddings, overrides and isolates of writing direction.
constexpr Range kControls[] = {{0, 0x1F}, {0x7F, 0x9F}, {0x202A, 0x202E}, {0x2066, 0x2069}};
// The blocks of wide and of combining characters, as whole blocks: enough to align a listing.
constexpr Range kWide[] = {{0x1100, 0x115F},   {0x2E80, 0xA4CF},   {0xAC00, 0xD7A3},
                           {0xF900, 0xFAFF},   {0xFE30, 0xFE4F},   {0xFF00, 0xFF60},
                           {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF},
                           {0x1F900, 0x1FAFF}, {0x20000, 0x3FFFD}};
constexpr Range kCombining[] = {
    {0x300, 0x36F},   {0x591, 0x5BD},   {0x64B, 0x65F},   {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF},
    {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xE0100, 0xE01EF}};

bool is_blank(char32_t value) {
  return value == ' ' || (value >= '\t' && value <= '\r') || value == 0x85 || value == 0x2028 ||
         value == 0x2029;
}

std::size_t columns_of(char32_t value) {
  if (value < 0x300) return 1;
  if (is_in(kCombining, value)) return 0;
  return is_in(kWide, value) ? 2 : 1;
}

// What stands for the character at `at` on a terminal.
std::string_view shown(std::string_view text, std::size_t at, Character character) {
  if (character.value == kNoCharacter) return kReplacement;
  if (is_in(kControls, character.value)) return "?";
  return text.substr(at, character.bytes);
}

template <typename Visit>
void for_each_character(std::string_view text, Visit visit) {
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    visit(at, character);
    at += character.bytes;
  }
}

// The longest beginning of at most `columns`, in bytes.
std::size_t bytes_within(std::string_view text, std::size_t columns) {
  std::size_t at = 0, taken = 0;
  while (at < text.size()) {
    const Character character = character_at(text, at);
    taken += columns_of(character.value);
    if (taken > columns) break;
    at += character.bytes;
  }
  return at;
}

}  // namespace

Character character_at(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const Form form = form_of(lead);
  if (form.length == 1) return {1, lead};
  if (form.length == 0 || at + form.length > text.size()) return {};
  char32_t value = lead & (0x7F >> form.length);
  for (std::size_t i = 1; i < form.length; ++i) {
    const auto next = static_cast<unsigned char>(text[at + i]);
    if ((next & 0xC0) != 0x80) return {};
    value = (value << 6) | (next & 0x3F);
  }
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < form.least || value > 0x10FFFF || surrogate) return {};
  return {form.length, value};
}

std::size_t first_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    if (character.value == kNoCharacter) return at;
    at += character.bytes;
  }
  return std::string_view::npos;
}

std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  for_each_character(text, [&](std::size_t, Character c) { columns += columns_of(c.value); });
  return columns;
}

std::string printable(std::string_view text) {
  std::string result;
  for_each_character(text, [&](std::size_t at, Character c) { result += shown(text, at, c); });
  return result;
}

std::string printable_lines(std::string_view text) {
  std::string result;
  for_each_character(text, [&](std::size_t at, Character c) {
    if (c.value == '\n' || c.value == '\t') {
      result += text[at];
    } else if (c.value != '\r') {
      result += shown(text, at, c);
    }
  });
  return result;
}

std::string one_line(std::string_view text, std::size_t columns) {
  std::string line;
  bool space = false;
  for_each_character(text, [&](std::size_t at, Character c) {
    if (is_blank(c.value)) {
      space = !line.empty();
      return;
    }
    if (space) line += ' ';
    space = false;
    line += shown(text, at, c);
  });
  if (columns_of(line) <= columns) return line;
  line.resize(bytes_within(line, columns == 0 ? 0 : columns - 1));
  return line.append(kEllipsis);
}

std::string end_of(std::string_view name, std::size_t columns) {
  const std::string whole = printable(name);
  const std::size_t all = columns_of(whole);
  if (all <= columns) return whole;
  std::size_t from = 0;
  for (std::size_t left = all; left + 1 > columns && from < whole.size();) {
    const Character character = character_at(whole, from);
    left -= columns_of(character.value);
    from += character.bytes;
  }
  return std::string(kEllipsis) + whole.substr(from);
}

std::string wrapped(std::string_view text, std::size_t indent, std::size_t columns) {
  const std::size_t room = columns > indent ? columns - indent : 1;
  const std::string words = one_line(text);
  std::string lines;
  for (std::size_t at = 0; at < words.size();) {
    std::size_t end = at + bytes_within(std::string_view(words).substr(at), room);
    if (end < words.size()) {
      const std::size_t blank = words.rfind(' ', end);
      end = blank == std::string::npos || blank <= at ? words.find(' ', at) : blank;
      end = std::min(end, words.size());
    }
    lines += std::string(indent, ' ') + words.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return lines;
}

}  // namespace eidetic::cli
