// Text out of web pages, and where in the page it stands.
#include "apps/ingest/html_text.h"

#include <gtest/gtest.h>

#include <random>

#include "apps/ingest/document_file.h"
#include "apps/ingest/html_tree.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::ingest {
namespace {

std::string TextOf(const std::string& page) {
  return text_of_html(page, "'page'").text;
}

// The bytes of the page that the first `part` of its text came from.
std::string OriginalOf(const std::string& page, const std::string& part) {
  const ExtractedText extracted = text_of_html(page, "'page'");
  const std::size_t begin = extracted.text.find(part);
  EXPECT_NE(begin, std::string::npos) << extracted.text;
  std::uint64_t first = UINT64_MAX, last = 0;
  for (const eid_text_piece& piece : extracted.pieces) {
    const std::uint64_t from = std::max<std::uint64_t>(piece.text_begin, begin);
    const std::uint64_t to =
        std::min<std::uint64_t>(piece.text_begin + piece.text_bytes, begin + part.size());
    if (from >= to) continue;
    const bool by_byte = piece.text_bytes == piece.original_bytes;
    first = std::min(first, piece.original_begin + (by_byte ? from - piece.text_begin : 0));
    last = std::max(last, by_byte ? piece.original_begin + to - piece.text_begin
                                  : piece.original_begin + piece.original_bytes);
  }
  return page.substr(first, last - first);
}

// What must hold for every extraction.
void ExpectSound(const std::string& page, const ExtractedText& extracted) {
  std::uint64_t last = 0;
  for (const eid_text_piece& piece : extracted.pieces) {
    ASSERT_GE(piece.text_begin, last);
    ASSERT_GT(piece.text_bytes, 0u);
    ASSERT_GT(piece.original_bytes, 0u);
    last = piece.text_begin + piece.text_bytes;
    ASSERT_LE(last, extracted.text.size());
    ASSERT_LE(piece.original_begin + piece.original_bytes, page.size());
  }
  EXPECT_EQ(extracted.original_bytes, page.size());
}

TEST(HtmlText, HasTitleAndBlocksWithoutMarkupScriptAndStyle) {
  EXPECT_EQ(TextOf("<!doctype html><html><head><title>A day</title><style>p{}</style></head><body>"
                   "<h1>Morning</h1><p>It <b>was</b>\n  late.<p>Unclosed<br>line"
                   "<ul><li>one</li><li>two</ul><script>evil()</script><noscript>no</noscript>"
                   "<table><tr><th>a<th>b<tr><td>1<td>2</table><pre>  keep\n   this</pre>"
                   "<select><option>x</select><template>t</template></body></html>"),
            "A day\n\nMorning\n\nIt was late.\n\nUnclosed\nline\n\none\ntwo\n\na\tb\n1\t2\n\n"
            "  keep\n   this");
}

TEST(HtmlText, CharacterReferencesAreDecodedAsBrowsersDo) {
  EXPECT_EQ(TextOf("<p>a &amp; b &lt;i&gt; caf&eacute; &#x41;&#66; &notit; &unknown; &amp &nbsp; "
                   "x&shy;y &#128512; A&T &semi;"),
            "a & b <i> caf\xC3\xA9 AB \xC2\xACit; &unknown; & xy \xF0\x9F\x98\x80 A&T ;");
}

TEST(HtmlText, EveryWordKnowsItsBytesInThePage) {
  const std::string page =
      "<title>T</title><p>One of the <b>magic</b> numbers &amp; caf&eacute;s\r\n is</foo> "
      "6986384.<p>Next";
  EXPECT_EQ(OriginalOf(page, "magic"), "magic");
  EXPECT_EQ(OriginalOf(page, "the magic numbers"), "the <b>magic</b> numbers");
  EXPECT_EQ(OriginalOf(page, "&"), "&amp;");
  EXPECT_EQ(OriginalOf(page, "caf\xC3\xA9s"), "caf&eacute;s");
  EXPECT_EQ(OriginalOf(page, "s is 6986384."), "s\r\n is</foo> 6986384.");
  EXPECT_EQ(OriginalOf(page, "6986384"), "6986384");
  EXPECT_EQ(OriginalOf(page, "Next"), "Next");
  EXPECT_EQ(OriginalOf("\xEF\xBB\xBF<p>marked", "marked"), "marked");
}

TEST(HtmlText, WhatTheParserMovesStillKnowsItsBytes) {
  const std::string page = "<table>moved<tr><td>in &amp; out</td></tr></table><p>after";
  EXPECT_EQ(OriginalOf(page, "moved"), "moved");
  EXPECT_EQ(OriginalOf(page, "in & out"), "in &amp; out");
  EXPECT_EQ(OriginalOf(page, "after"), "after");
}

TEST(HtmlText, DeclaredOneByteEncodingsAreConverted) {
  const std::string page = "<meta charset=\"iso-8859-1\"><p>caf\xE9 \x80 5";
  EXPECT_EQ(TextOf(page), "caf\xC3\xA9 \xE2\x82\xAC 5");
  EXPECT_EQ(OriginalOf(page, "caf\xC3\xA9"), "caf\xE9");
  EXPECT_EQ(OriginalOf(page, "5"), "5");
  EXPECT_EQ(TextOf("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'><p>\xC4\xC1"),
            "\xD0\xB4\xD0\xB0");
  // What is UTF-8 is UTF-8, whatever it declares.
  EXPECT_EQ(TextOf("<meta charset=iso-8859-1><p>caf\xC3\xA9"), "caf\xC3\xA9");
}

TEST(HtmlText, WhatCannotBeReadIsRefusedWithAReason) {
  const auto refusal = [](const std::string& page) -> std::string {
    try {
      text_of_html(page, "'page'");
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), EID_UNSUPPORTED);
      EXPECT_NE(error.remedy(), "");
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal("<meta charset=shift_jis><p>\x83\x65").find("'shift_jis'"), std::string::npos);
  EXPECT_NE(refusal("<p>caf\xE9").find("not UTF-8"), std::string::npos);
  EXPECT_NE(refusal(std::string("<p>a\0b", 6)).find("binary"), std::string::npos);
  EXPECT_NE(refusal("<script>app()</script><div id=root></div>").find("without text"),
            std::string::npos);
  std::string deep;
  for (int i = 0; i < 200'000; ++i) deep += "<div>";
  EXPECT_NE(refusal(deep + "x").find("open at once"), std::string::npos);
}

TEST(HtmlText, LongAndDeepPagesAreRead) {
  std::string page;
  for (int i = 0; i < 1900; ++i) page += "<div>";
  EXPECT_EQ(TextOf(page + "deep"), "deep");
  page.clear();
  for (int i = 0; i < 100'000; ++i) page += "<p>word<li>";  // closed by the next one
  EXPECT_EQ(TextOf(page).substr(0, 11), "word\n\nword\n");
}

// Elements that the parser opens again in every paragraph: thousands of them would make millions.
TEST(HtmlText, APageThatGrowsWithoutBoundIsRefused) {
  std::string page;
  for (int i = 0; i < 1500; ++i) page += "<p><font color=c" + std::to_string(i) + ">";
  for (int i = 0; i < 3000; ++i) page += "<p>x";
  EXPECT_THROW(TextOf(page), Error);
}

TEST(HtmlText, BrokenPagesGiveSoundPieces) {
  const std::string parts[] = {
      "<p>",     "<b>",     "</b>",       "<table>",     "<td>",  "</table>",  "text", "&amp;",
      "&eacute", "&#x26;",  "<",          ">",           "\"",    "\r\n",      "<!--", "-->",
      "<a href", "<pre>",   "<svg>",      "caf\xC3\xA9", " ",     "<![CDATA[", "]]>",  "</p>",
      "&",       "<title>", "<textarea>", "<xmp>",       "</xmp>"};
  std::mt19937_64 random(11);
  for (int round = 0; round < 1500; ++round) {
    std::string page = "start ";
    for (int i = 0; i < 25; ++i) page += parts[random() % std::size(parts)];
    try {
      ExpectSound(page, text_of_html(page, "'page'"));
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), EID_UNSUPPORTED);
    }
    if (HasFatalFailure()) FAIL() << page;
  }
}

TEST(DocumentFile, FormatsAreToldByNameOrByHowTheFileBegins) {
  EXPECT_EQ(format_of("a/page.HTML", ""), "html");
  EXPECT_EQ(format_of("README.md", "<html>"), "markdown");
  EXPECT_EQ(format_of("x.cc", ""), "code");
  EXPECT_EQ(format_of("dir.py/notes", ""), "text");
  EXPECT_EQ(format_of("saved", "  <!DOCTYPE html><p>"), "html");
  EXPECT_EQ(format_of("saved.txt", "<!DOCTYPE html><p>"), "text");
}

TEST(DocumentFile, MarkdownAndCodeStayAsTheyAre) {
  const std::string text = "# A\n\n* b **c** &amp; <p>\n";
  for (const char* name : {"a.md", "a.c", "a.txt"}) {
    const ExtractedText extracted = extract_text(text, name, "auto");
    EXPECT_EQ(extracted.text, text);
    EXPECT_TRUE(extracted.pieces.empty());
  }
  EXPECT_EQ(extract_text(text, "a.md", "html").format, "html");
}

}  // namespace
}  // namespace eidetic::ingest
