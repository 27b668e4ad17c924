// The needle evaluation as one HTML page: tables and heat maps.
#include "apps/eval/html_page.h"
#include "apps/eval/needle_report.h"

namespace eidetic::eval {

std::string needle_page(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model) {
  const NeedleTables tables = needle_tables(options, cells);
  HtmlPage page(needle_title(options), needle_subtitle(options, model));
  page.add_table("Accuracy",
                 "Share of answers with every number that was asked for, and its 95 % interval "
                 "(Wilson), by tokens in the prompt.",
                 tables.accuracy);
  if (!tables.found.empty()) {
    page.add_table("Found", "Share of the numbers that were asked for.", tables.found);
  }
  page.add_markup("<h2>By depth</h2>\n<div class=\"wide\">\n");
  // A picture for each mode, so that they flow.
  HeatMap map = needle_heat_map(options, cells, model);
  for (const HeatPanel& panel : std::vector<HeatPanel>(map.panels)) {
    map.panels = {panel};
    page.add_markup("<figure>" + to_svg(map) + "</figure>\n");
  }
  page.add_markup("</div>\n");
  page.add_table("Span recall",
                 "How often the needle's block was in the span, of needles outside window and "
                 "sinks.",
                 tables.recall);
  page.add_table("Reading", "Tokens per second.", tables.speed);
  return page.text();
}

}  // namespace eidetic::eval
