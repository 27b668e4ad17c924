#include "apps/eval/heat_map.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace eidetic::eval {
namespace {

constexpr int kCellWidth = 64, kCellHeight = 34, kLabelWidth = 84, kMargin = 24, kGap = 36;
constexpr int kTop = 84, kPanelTitle = 26, kLengths = 24, kLegend = 56;

void put_text(std::ostringstream& svg, double x, double y, std::string_view text,
              std::string_view attributes) {
  svg << "<text x=\"" << x << "\" y=\"" << y << "\" " << attributes << ">" << escaped_markup(text)
      << "</text>\n";
}

void put_cell(std::ostringstream& svg, int x, int y, const HeatCell& cell) {
  const bool measured = cell.samples > 0;
  const double share = measured ? static_cast<double>(cell.hits) / cell.samples : 0;
  svg << "<rect x=\"" << x << "\" y=\"" << y << "\" width=\"" << kCellWidth - 2 << "\" height=\""
      << kCellHeight - 2 << "\" rx=\"3\" fill=\"" << (measured ? heat_colour(share) : "#e5e5e5")
      << "\">";
  if (measured) svg << "<title>" << cell.hits << " of " << cell.samples << "</title>";
  svg << "</rect>\n";
  char text[32] = "-";
  if (measured) std::snprintf(text, sizeof text, "%d/%d", cell.hits, cell.samples);
  put_text(svg, x + kCellWidth / 2.0 - 1, y + kCellHeight / 2.0 + 4, text,
           std::string("font-size=\"13\" text-anchor=\"middle\" fill=\"") +
               (measured ? heat_text_colour(share) : "#222222") + "\"");
}

void put_panel(std::ostringstream& svg, const HeatMap& map, const HeatPanel& panel, int left) {
  const int top = kTop + kPanelTitle;
  put_text(svg, left + kLabelWidth, kTop + 12, panel.title, "font-size=\"15\" font-weight=\"600\"");
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    const int y = top + static_cast<int>(r) * kCellHeight;
    put_text(svg, left + kLabelWidth - 10, y + kCellHeight / 2.0 + 4, map.rows[r],
             "font-size=\"12\" text-anchor=\"end\" fill=\"#555555\"");
    for (std::size_t c = 0; c < map.columns.size(); ++c) {
      put_cell(svg, left + kLabelWidth + static_cast<int>(c) * kCellWidth, y, panel.cells[r][c]);
    }
  }
  const int bottom = top + static_cast<int>(map.rows.size()) * kCellHeight;
  for (std::size_t c = 0; c < map.columns.size(); ++c) {
    const double x =
        left + kLabelWidth + static_cast<double>(c) * kCellWidth + kCellWidth / 2.0 - 1;
    put_text(svg, x, bottom + 15, map.columns[c],
             "font-size=\"12\" text-anchor=\"middle\" fill=\"#555555\"");
  }
}

}  // namespace

// From deep red over pale yellow to deep blue: told apart by people who confuse red and green, and
// in grey print by the figure in the cell.
std::string heat_colour(double share) {
  struct Stop {
    double at;
    int r, g, b;
  };
  static constexpr Stop kStops[] = {{0.0, 178, 24, 43},
                                    {0.25, 239, 138, 98},
                                    {0.5, 253, 235, 200},
                                    {0.75, 103, 169, 207},
                                    {1.0, 33, 102, 172}};
  int i = 0;
  while (i < 3 && share > kStops[i + 1].at) ++i;
  const Stop &a = kStops[i], &b = kStops[i + 1];
  const double f = std::clamp((share - a.at) / (b.at - a.at), 0.0, 1.0);
  const auto mix = [f](int x, int y) { return static_cast<int>(std::lround(x + f * (y - x))); };
  char text[16];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b));
  return text;
}

std::string heat_text_colour(double share) {
  return share < 0.2 || share > 0.8 ? "#ffffff" : "#222222";
}

std::string escaped_markup(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string to_svg(const HeatMap& map) {
  const int panel_width = kLabelWidth + static_cast<int>(map.columns.size()) * kCellWidth;
  const int panels = static_cast<int>(map.panels.size());
  const int width = std::max(2 * kMargin + panels * panel_width + (panels - 1) * kGap, 620);
  const int bottom =
      kTop + kPanelTitle + static_cast<int>(map.rows.size()) * kCellHeight + kLengths;
  std::ostringstream svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << width << "\" height=\""
      << bottom + kLegend << "\" viewBox=\"0 0 " << width << " " << bottom + kLegend
      << "\" font-family=\"system-ui, sans-serif\" fill=\"#222222\">\n"
      << "<title>" << escaped_markup(map.title) << "</title>\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  put_text(svg, kMargin, 34, map.title, "font-size=\"19\" font-weight=\"600\"");
  put_text(svg, kMargin, 56, map.subtitle, "font-size=\"12\" fill=\"#555555\"");
  for (int p = 0; p < panels; ++p) {
    put_panel(svg, map, map.panels[static_cast<std::size_t>(p)],
              kMargin + p * (panel_width + kGap));
  }
  put_text(svg, kMargin, bottom + 32,
           "Across: tokens in the prompt. Down: depth of the needle. Figures: right answers of "
           "samples.",
           "font-size=\"12\" fill=\"#555555\"");
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace eidetic::eval
