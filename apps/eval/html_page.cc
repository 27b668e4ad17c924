#include "apps/eval/html_page.h"

#include "apps/eval/heat_map.h"

namespace eidetic::eval {
namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;color:#222;margin:2rem auto;max-width:76rem;padding:0 "
    "1rem}"
    "h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}"
    "p{color:#555}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}figure{display:inline-block;margin:0 1rem 1rem "
    "0}"
    ".wide{overflow-x:auto}";

}  // namespace

HtmlPage::HtmlPage(const std::string& title, const std::string& subtitle) {
  page_ << "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>"
        << escaped_markup(title) << "</title>\n<style>" << kStyle
        << "</style>\n</head>\n<body>\n<h1>" << escaped_markup(title) << "</h1>\n<p>"
        << escaped_markup(subtitle) << "</p>\n";
}

void HtmlPage::add_table(const std::string& title, const std::string& note, const Rows& rows,
                         const std::vector<std::vector<double>>& shares) {
  page_ << "<h2>" << escaped_markup(title) << "</h2>\n<p>" << escaped_markup(note)
        << "</p>\n<div class=\"wide\"><table>\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const char* cell = r == 0 ? "th" : "td";
    page_ << "<tr>";
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      page_ << "<" << cell;
      if (!shares.empty() && shares[r][c] >= 0) {
        page_ << " style=\"background:" << heat_colour(shares[r][c])
              << ";color:" << heat_text_colour(shares[r][c]) << "\"";
      }
      page_ << ">" << escaped_markup(rows[r][c]) << "</" << cell << ">";
    }
    page_ << "</tr>\n";
  }
  page_ << "</table></div>\n";
}

void HtmlPage::add_markup(const std::string& markup) {
  page_ << markup;
}

std::string HtmlPage::text() const {
  return page_.str() + "</body>\n</html>\n";
}

}  // namespace eidetic::eval
