#include "apps/ingest/html_text.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "apps/cli/text_file.h"
#include "apps/ingest/html_tree.h"
#include "apps/ingest/one_byte_encoding.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::ingest {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

// Bytes of the UTF-8 character that begins with `first`.
std::size_t character_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// What stands between two runs of text.
enum class Break { kNone, kTab, kLine, kParagraph };

// Lays text out: blanks collapsed, breaks put in between blocks. Places count bytes of the parsed
// page; `original` has the place in the file for each of them, or is empty where these are the
// same but for `shift`.
class Layout {
 public:
  Layout(std::size_t shift, const std::vector<std::uint32_t>& original)
      : shift_(shift), original_(original) {}

  void need(Break between) {
    if (between == Break::kNone) return;
    break_ = std::max(break_, between);
    blank_.reset();
  }
  void set_preformatted(bool on) { preformatted_ = on; }

  // One character, which stands for `bytes` bytes of the page from `begin` on.
  void add(std::string_view character, std::size_t begin, std::size_t bytes) {
    if (character == "\xC2\xAD") return;  // a soft hyphen: where a word may be broken
    if (character == "\xC2\xA0") character = " ";
    if (is_blank(character[0]) && !preformatted_) {
      if (!blank_) blank_ = {begin, begin};
      blank_->second = begin + bytes;
      return;
    }
    if (break_ != Break::kNone) {
      if (builder_.size() > 0) {
        builder_.put_in(break_ == Break::kTab ? "\t" : break_ == Break::kLine ? "\n" : "\n\n");
      }
      break_ = Break::kNone;
    } else if (blank_ && builder_.size() > 0) {
      put(" ", blank_->first, blank_->second - blank_->first);
    }
    blank_.reset();
    put(character, begin, bytes);
  }

  TextBuilder& builder() { return builder_; }

 private:
  void put(std::string_view text, std::size_t begin, std::size_t bytes) {
    if (original_.empty()) {
      builder_.add(text, begin + shift_, bytes);
    } else {
      builder_.add(text, original_[begin], original_[begin + bytes] - original_[begin]);
    }
  }

  std::size_t shift_;
  const std::vector<std::uint32_t>& original_;
  TextBuilder builder_;
  Break break_ = Break::kNone;
  bool preformatted_ = false;
  std::optional<std::pair<std::size_t, std::size_t>> blank_;  // where the run of blanks stands
};

// What character references stand for, by the parser's own tables.
class References {
 public:
  struct Reference {
    std::string text;
    std::size_t bytes;  // of the page
  };
  // The reference that `page` begins with: an ampersand at least.
  const Reference& at(std::string_view page) {
    std::size_t end = 1;
    while (
        end < page.size() && end < 40 &&
        (std::isalnum(static_cast<unsigned char>(page[end])) || (page[end] == '#' && end == 1))) {
      ++end;
    }
    if (end < page.size() && page[end] == ';') ++end;
    const std::string raw(page.substr(0, end));
    const auto known = known_.find(raw);
    return known != known_.end() ? known->second : known_.emplace(raw, decode(raw)).first->second;
  }

 private:
  static Reference decode(const std::string& raw) {
    // Between two letters: a blank alone would be no text, and what follows may be part of it.
    const std::string page = "x" + raw + ".";
    const HtmlTree tree(page, "a character reference");
    const GumboNode* node = tree.root();
    while (node->type == GUMBO_NODE_ELEMENT && node->v.element.children.length > 0) {
      const GumboVector& children = node->v.element.children;
      node = static_cast<const GumboNode*>(children.data[children.length - 1]);
    }
    if (node->type != GUMBO_NODE_TEXT && node->type != GUMBO_NODE_WHITESPACE) return {"&", 1};
    std::string text = node->v.text.text;
    if (text.size() < 3) return {"&", 1};
    text = text.substr(1, text.size() - 2);
    // "&notit;" is "¬it;": what both end in is not of the reference.
    std::size_t bytes = raw.size(), least = character_bytes(text[0]);
    while (text.size() > least && bytes > 1 && text.back() == raw[bytes - 1]) {
      text.pop_back();
      --bytes;
    }
    return {text, bytes};
  }

  std::map<std::string, Reference> known_;
};

// Lays out one run of text. The parser says which bytes of the page it came from; within these it
// is aligned byte by byte.
void add_text(const GumboText& run, std::string_view page, References& references, Layout& layout) {
  const std::string_view text = run.text;
  const std::size_t begin = static_cast<std::size_t>(run.original_text.data - page.data());
  const std::size_t end = begin + run.original_text.length;
  std::size_t at = begin;
  for (std::size_t i = 0; i < text.size();) {
    if (at < end && page[at] == '&') {
      const auto& reference = references.at(page.substr(at, end - at));
      if (text.substr(i, reference.text.size()) == reference.text) {
        for (std::size_t part = 0; part < reference.text.size();) {
          const std::size_t bytes = character_bytes(reference.text[part]);
          layout.add(std::string_view(reference.text).substr(part, bytes), at, reference.bytes);
          part += bytes;
        }
        i += reference.text.size();
        at += reference.bytes;
        continue;
      }
    }
    const std::size_t bytes = std::min(character_bytes(text[i]), text.size() - i);
    if (at + bytes <= end && page.substr(at, bytes) == text.substr(i, bytes)) {
      layout.add(text.substr(i, bytes), at, bytes);
      i += bytes;
      at += bytes;
    } else if (at < end && page[at] == '\r' && text[i] == '\n') {
      const std::size_t line_end = at + 1 < end && page[at + 1] == '\n' ? 2 : 1;
      layout.add("\n", at, line_end);
      ++i;
      at += line_end;
    } else if (at < end && page[at] == '<' && page.find('>', at) < end) {
      at = page.find('>', at) + 1;  // a tag that the parser ignored
    } else {
      // Joined from several places: the rest stands for the rest.
      at = std::min(at, end - 1);
      layout.add(text.substr(i, bytes), at, end - at);
      i += bytes;
    }
  }
}

bool is_dropped(GumboTag tag) {
  switch (tag) {
    case GUMBO_TAG_SCRIPT:
    case GUMBO_TAG_STYLE:
    case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_NOSCRIPT:
    case GUMBO_TAG_SVG:
    case GUMBO_TAG_IFRAME:
    case GUMBO_TAG_OBJECT:
    case GUMBO_TAG_CANVAS:
    case GUMBO_TAG_AUDIO:
    case GUMBO_TAG_VIDEO:
    case GUMBO_TAG_SELECT:
    case GUMBO_TAG_TEXTAREA:
    case GUMBO_TAG_BUTTON:
    case GUMBO_TAG_DATALIST:
      return true;
    default:
      return false;
  }
}

// What stands before and after an element.
Break break_around(GumboTag tag) {
  switch (tag) {
    case GUMBO_TAG_TD:
    case GUMBO_TAG_TH:
      return Break::kTab;
    case GUMBO_TAG_BR:
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_LI:
    case GUMBO_TAG_DT:
    case GUMBO_TAG_DD:
    case GUMBO_TAG_TR:
    case GUMBO_TAG_CAPTION:
    case GUMBO_TAG_FIGCAPTION:
    case GUMBO_TAG_LEGEND:
    case GUMBO_TAG_SUMMARY:
      return Break::kLine;
    case GUMBO_TAG_TITLE:
    case GUMBO_TAG_P:
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6:
    case GUMBO_TAG_PRE:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_UL:
    case GUMBO_TAG_OL:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_TABLE:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_FIGURE:
    case GUMBO_TAG_FORM:
    case GUMBO_TAG_FIELDSET:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_ARTICLE:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_ASIDE:
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_ADDRESS:
      return Break::kParagraph;
    default:
      return Break::kNone;
  }
}

// Not by recursion: a tree may be deep.
void lay_out(const GumboNode* root, std::string_view page, Layout& layout) {
  struct Frame {
    const GumboNode* element;
    unsigned next;
  };
  References references;
  std::vector<Frame> open;
  std::size_t preformatted = 0;
  const auto enter = [&](const GumboNode* node) {
    if (node->type == GUMBO_NODE_TEXT || node->type == GUMBO_NODE_WHITESPACE ||
        node->type == GUMBO_NODE_CDATA) {
      add_text(node->v.text, page, references, layout);
    } else if (node->type == GUMBO_NODE_ELEMENT && !is_dropped(node->v.element.tag)) {
      layout.need(break_around(node->v.element.tag));
      preformatted += node->v.element.tag == GUMBO_TAG_PRE;
      layout.set_preformatted(preformatted > 0);
      open.push_back({node, 0});
    }
  };
  enter(root);
  while (!open.empty()) {
    Frame& frame = open.back();
    const GumboElement& element = frame.element->v.element;
    if (frame.next < element.children.length) {
      enter(static_cast<const GumboNode*>(element.children.data[frame.next++]));
      continue;
    }
    layout.need(break_around(element.tag));
    preformatted -= element.tag == GUMBO_TAG_PRE;
    layout.set_preformatted(preformatted > 0);
    open.pop_back();
  }
}

// The page in UTF-8. `original` gets the place in the file of each of its bytes and of its end.
std::string converted(std::string_view page, const ByteTable& table,
                      std::vector<std::uint32_t>& original) {
  std::string text;
  for (std::size_t i = 0; i < page.size(); ++i) {
    const std::string& character = table[static_cast<unsigned char>(page[i])];
    text += character;
    original.insert(original.end(), character.size(), static_cast<std::uint32_t>(i));
  }
  original.push_back(static_cast<std::uint32_t>(page.size()));
  return text;
}

std::string in_utf8(std::string_view page, const std::string& name,
                    std::vector<std::uint32_t>& original) {
  try {
    cli::check_text(page, name, EID_UNSUPPORTED);
    return std::string(page);
  } catch (const Error& error) {
    const std::string declared = declared_encoding(page);
    if (declared.empty() || page.find('\0') != std::string_view::npos) throw;
    if (const auto table = one_byte_encoding(declared)) return converted(page, *table, original);
    if (declared.rfind("utf", 0) == 0) throw;
    throw Error(EID_UNSUPPORTED,
                name + " declares the encoding '" + declared + "', which is not read",
                "convert it: iconv -f " + declared + " -t UTF-8");
  }
}

}  // namespace

ExtractedText text_of_html(std::string_view page, const std::string& name) {
  const std::uint64_t file_bytes = page.size();
  std::size_t shift = 0;
  if (page.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    shift = kByteOrderMark.size();
    page.remove_prefix(shift);
  }
  std::vector<std::uint32_t> original;
  const std::string text = in_utf8(page, name, original);
  const HtmlTree tree(text, name);
  Layout layout(shift, original);
  lay_out(tree.root(), text, layout);
  ExtractedText result;
  result.format = "html";
  result.pieces = layout.builder().take_pieces();
  result.text = layout.builder().take_text();
  result.original_bytes = file_bytes;
  if (result.text.empty()) {
    throw Error(EID_UNSUPPORTED, name + " is a web page without text: there is nothing to read",
                "is its text made by a script? Save the page as the browser shows it");
  }
  return result;
}

}  // namespace eidetic::ingest
