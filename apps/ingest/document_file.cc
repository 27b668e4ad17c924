#include "apps/ingest/document_file.h"

#include <algorithm>
#include <string_view>

#include "apps/cli/characters.h"
#include "apps/cli/text_file.h"
#include "apps/ingest/html_text.h"
#include "apps/ingest/lower_case.h"

namespace eidetic::ingest {
namespace {

using std::string_view;

constexpr string_view kHtml[] = {"html", "htm", "xhtml"};
constexpr string_view kMarkdown[] = {"md", "markdown", "mdown", "mkd", "mdx"};
constexpr string_view kCode[] = {
    "c",    "h",     "cc",   "hh",   "cpp",   "hpp",  "cxx", "hxx", "cu",  "cuh",   "py",    "rs",
    "go",   "java",  "kt",   "js",   "mjs",   "ts",   "jsx", "tsx", "rb",  "pl",    "pm",    "php",
    "sh",   "bash",  "zsh",  "fish", "swift", "m",    "mm",  "cs",  "fs",  "scala", "hs",    "ml",
    "mli",  "el",    "lisp", "clj",  "ex",    "exs",  "erl", "lua", "r",   "jl",    "sql",   "css",
    "scss", "cmake", "mk",   "json", "toml",  "yaml", "yml", "ini", "xml", "proto", "tex",   "zig",
    "nim",  "d",     "f90",  "asm",  "s",     "v",    "vhd", "awk", "vim", "dart",  "groovy"};

template <typename Names>
bool is_among(const Names& names, string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool begins_as_html(string_view bytes) {
  const std::string head = lower_case(bytes.substr(0, 256));
  const std::size_t begin = head.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (begin == std::string::npos) return false;
  return head.compare(begin, 14, "<!doctype html") == 0 || head.compare(begin, 5, "<html") == 0;
}

}  // namespace

std::string format_of(const std::string& name, string_view bytes) {
  const std::string file = name.substr(name.find_last_of('/') + 1);
  const std::size_t dot = file.find_last_of('.');
  const std::string end =
      dot == std::string::npos || dot == 0 ? "" : lower_case(file.substr(dot + 1));
  if (is_among(kHtml, end)) return "html";
  if (is_among(kMarkdown, end)) return "markdown";
  if (is_among(kCode, end) || file == "Makefile" || file == "CMakeLists.txt") return "code";
  return end.empty() && begins_as_html(bytes) ? "html" : "text";
}

ExtractedText extract_text(std::string bytes, const std::string& name, const std::string& format) {
  const std::string quoted = "'" + name + "'";
  const std::string chosen = format == "auto" ? format_of(name, bytes) : format;
  if (chosen == "html" && !bytes.empty()) return text_of_html(bytes, quoted);
  cli::check_text(bytes, quoted, EID_UNSUPPORTED);
  ExtractedText result;
  result.format = chosen;
  result.original_bytes = bytes.size();
  result.text = std::move(bytes);
  return result;
}

std::string refusal_of(string_view bytes) {
  if (bytes.empty()) return "empty";
  const string_view mark = bytes.substr(0, 2);
  if (mark == "\xFF\xFE" || mark == "\xFE\xFF" || bytes.find('\0') != string_view::npos) {
    return "binary";
  }
  return cli::first_invalid_utf8(bytes) != string_view::npos ? "not UTF-8" : "no text";
}

}  // namespace eidetic::ingest
