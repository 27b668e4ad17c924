// A heat map as SVG: one panel per attention mode, lengths across, depths down.
#ifndef EIDETIC_APPS_EVAL_HEAT_MAP_H_
#define EIDETIC_APPS_EVAL_HEAT_MAP_H_

#include <string>
#include <string_view>
#include <vector>

namespace eidetic::eval {

struct HeatCell {
  int hits = 0;
  int samples = 0;  // 0: not measured, drawn grey
};

struct HeatPanel {
  std::string title;
  std::vector<std::vector<HeatCell>> cells;  // [row = depth][column = length]
};

struct HeatMap {
  std::string title, subtitle;
  std::vector<std::string> columns;  // "4K", "8K"
  std::vector<std::string> rows;     // "0-25 %"
  std::vector<HeatPanel> panels;
};

// The colour of a cell with that share of right answers, 0..1, and of text on it.
std::string heat_colour(double share);
std::string heat_text_colour(double share);

// Text as it stands in XML and HTML.
std::string escaped_markup(std::string_view text);

// A self-contained SVG document: no fonts, scripts or links from outside.
std::string to_svg(const HeatMap& map);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_HEAT_MAP_H_
