// The needle evaluation as one HTML page: style, tables and heat maps are all in it.
#include <sstream>

#include "apps/eval/needle_report.h"

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

void put_table(std::ostringstream& page, const std::string& title, const std::string& note,
               const Rows& rows) {
  page << "<h2>" << escaped_markup(title) << "</h2>\n<p>" << escaped_markup(note)
       << "</p>\n<div class=\"wide\"><table>\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const char* cell = r == 0 ? "th" : "td";
    page << "<tr>";
    for (const std::string& text : rows[r]) {
      page << "<" << cell << ">" << escaped_markup(text) << "</" << cell << ">";
    }
    page << "</tr>\n";
  }
  page << "</table></div>\n";
}

}  // namespace

std::string needle_page(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model) {
  const NeedleTables tables = needle_tables(options, cells);
  std::ostringstream page;
  page << "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>"
       << escaped_markup(needle_title(options)) << "</title>\n<style>" << kStyle
       << "</style>\n</head>\n<body>\n<h1>" << escaped_markup(needle_title(options)) << "</h1>\n<p>"
       << escaped_markup(needle_subtitle(options, model)) << "</p>\n";
  put_table(page, "Accuracy",
            "Share of answers with every number that was asked for, and its 95 % interval "
            "(Wilson), by tokens in the prompt.",
            tables.accuracy);
  if (!tables.found.empty()) {
    put_table(page, "Found", "Share of the numbers that were asked for.", tables.found);
  }
  page << "<h2>By depth</h2>\n<div class=\"wide\">\n";
  // A picture for each mode, so that they flow.
  HeatMap map = needle_heat_map(options, cells, model);
  for (const HeatPanel& panel : std::vector<HeatPanel>(map.panels)) {
    map.panels = {panel};
    page << "<figure>" << to_svg(map) << "</figure>\n";
  }
  page << "</div>\n";
  put_table(page, "Span recall",
            "How often the needle's block was in the span, of needles outside window and sinks.",
            tables.recall);
  put_table(page, "Reading", "Tokens per second.", tables.speed);
  page << "</body>\n</html>\n";
  return page.str();
}

}  // namespace eidetic::eval
