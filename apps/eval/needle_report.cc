#include "apps/eval/needle_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace eidetic::eval {
namespace {

using nlohmann::json;

std::string two_digits(double value) {
  char text[16];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string accuracy_text(const NeedleCell& cell) {
  if (cell.samples == 0) return cell.not_fitting > 0 ? "does not fit" : "-";
  const auto [low, high] = wilson_interval(cell.hits, cell.samples);
  return two_digits(static_cast<double>(cell.hits) / cell.samples) + " (" + two_digits(low) + "-" +
         two_digits(high) + ")";
}

json by_depth_json(const NeedleCell& cell) {
  json depths = json::array();
  const auto parts = static_cast<double>(cell.by_depth.size());
  for (std::size_t d = 0; d < cell.by_depth.size(); ++d) {
    depths.push_back({{"from", static_cast<double>(d) / parts},
                      {"to", static_cast<double>(d + 1) / parts},
                      {"samples", cell.by_depth[d].samples},
                      {"hits", cell.by_depth[d].hits}});
  }
  return depths;
}

json cell_json(const NeedleCell& cell) {
  const auto [low, high] = wilson_interval(cell.hits, cell.samples);
  const bool any = cell.samples > 0;
  return {
      {"mode", cell.mode},
      {"length", cell.length},
      {"samples", cell.samples},
      {"not_fitting", cell.not_fitting},
      {"hits", cell.hits},
      {"accuracy", any ? json(static_cast<double>(cell.hits) / cell.samples) : json()},
      {"accuracy_low", any ? json(low) : json()},
      {"accuracy_high", any ? json(high) : json()},
      {"found", any ? json(cell.found) : json()},
      {"recallable", cell.recallable},
      {"span_recall",
       recalls(cell.mode) && cell.recallable > 0 ? json(cell.presence / cell.recallable) : json()},
      {"tokens_per_second", cell.tokens_per_second},
      {"by_depth", by_depth_json(cell)}};
}

HeatPanel panel_of(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                   std::size_t mode) {
  HeatPanel panel{options.modes[mode], {}};
  panel.cells.resize(options.depths);
  for (std::size_t l = 0; l < options.lengths.size(); ++l) {
    const NeedleCell& cell = cells[mode * options.lengths.size() + l];
    for (std::size_t d = 0; d < options.depths; ++d) panel.cells[d].push_back(cell.by_depth[d]);
  }
  return panel;
}

}  // namespace

std::string length_name(std::uint64_t length) {
  if (length >= (1u << 20) && length % (1u << 20) == 0) return std::to_string(length >> 20) + "M";
  if (length >= 1024 && length % 1024 == 0) return std::to_string(length >> 10) + "K";
  return std::to_string(length);
}

std::pair<double, double> wilson_interval(double hits, int samples) {
  if (samples == 0) return {0, 1};
  constexpr double z = 1.959964;  // of 95 %, two-sided
  const double n = samples, p = hits / n;
  const double middle = p + z * z / (2 * n);
  const double half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  const double whole = 1 + z * z / n;
  return {std::max(0.0, (middle - half) / whole), std::min(1.0, (middle + half) / whole)};
}

std::vector<NeedleCell> needle_cells(const NeedleOptions& options,
                                     const std::vector<NeedleSample>& samples) {
  std::vector<NeedleCell> cells;
  for (const std::string& mode : options.modes) {
    for (const std::uint64_t length : options.lengths) {
      NeedleCell cell{mode, length};
      cell.by_depth.resize(options.depths);
      double tokens = 0, seconds = 0, found = 0, asked = 0;
      for (const NeedleSample& s : samples) {
        if (s.mode != mode || s.length != length || s.depth_part >= options.depths) continue;
        if (!s.fits) {
          ++cell.not_fitting;
          continue;
        }
        ++cell.samples;
        cell.hits += s.hit;
        found += static_cast<double>(s.found);
        asked += static_cast<double>(s.numbers.size());
        cell.recallable += s.recallable;
        cell.presence += s.presence;
        ++cell.by_depth[s.depth_part].samples;
        cell.by_depth[s.depth_part].hits += s.hit;
        tokens += static_cast<double>(s.tokens);
        seconds += s.read_seconds;
      }
      cell.tokens_per_second = seconds > 0 ? tokens / seconds : 0;
      cell.found = asked > 0 ? found / asked : 0;
      cells.push_back(cell);
    }
  }
  return cells;
}

json needle_report(const NeedleOptions& options, const std::vector<NeedleSample>& samples) {
  json cells = json::array(), all = json::array();
  for (const NeedleCell& cell : needle_cells(options, samples)) cells.push_back(cell_json(cell));
  for (const NeedleSample& sample : samples) all.push_back(to_json(sample));
  json parameters = options.parameters();
  parameters.update({{"keys", options.keys},
                     {"values", options.values},
                     {"depths", options.depths},
                     {"via", options.via == Via::kSession ? "session" : "archive"},
                     {"question_form", options.form.name},
                     {"question", options.form.text},
                     {"answer_tokens", options.answer_tokens},
                     {"chunk", options.sequence.chunk},
                     {"chunk_blocks", options.sequence.span_blocks},
                     {"groups", options.sequence.groups}});
  return {{"parameters", parameters}, {"cells", cells}, {"samples", all}};
}

NeedleTables needle_tables(const NeedleOptions& options, const std::vector<NeedleCell>& cells) {
  std::vector<std::string> headings = {"mode"};
  for (const std::uint64_t length : options.lengths) headings.push_back(length_name(length));
  NeedleTables tables{{headings}, {}, {headings}, {headings}};
  if (options.values > 1) tables.found.push_back(headings);
  for (std::size_t m = 0; m < options.modes.size(); ++m) {
    std::vector<std::string> accuracy = {options.modes[m]}, recall = accuracy, found = accuracy,
                             speed = accuracy;
    for (std::size_t l = 0; l < options.lengths.size(); ++l) {
      const NeedleCell& cell = cells[m * options.lengths.size() + l];
      accuracy.push_back(accuracy_text(cell));
      found.push_back(cell.samples > 0 ? two_digits(cell.found) : "-");
      recall.push_back(recalls(cell.mode) && cell.recallable > 0
                           ? two_digits(cell.presence / cell.recallable)
                           : "-");
      speed.push_back(cell.samples > 0
                          ? std::to_string(static_cast<std::uint64_t>(cell.tokens_per_second))
                          : "-");
    }
    tables.accuracy.push_back(accuracy);
    if (options.values > 1) tables.found.push_back(found);
    tables.recall.push_back(recall);
    tables.speed.push_back(speed);
  }
  return tables;
}

std::string needle_title(const NeedleOptions& options) {
  std::string title = options.keys == 1 ? std::string("Needle in a haystack")
                                        : std::to_string(options.keys) + " needles in a haystack";
  if (options.values > 1) title += ", " + std::to_string(options.values) + " values each";
  return title;
}

std::string needle_subtitle(const NeedleOptions& options, const std::string& model) {
  return model + ", text read " +
         (options.via == Via::kSession ? "in the session that is asked"
                                       : "into an archive, asked by a fresh session") +
         ", seed " + std::to_string(options.seed);
}

HeatMap needle_heat_map(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model) {
  HeatMap map;
  map.title = needle_title(options);
  map.subtitle = needle_subtitle(options, model);
  for (const std::uint64_t length : options.lengths) map.columns.push_back(length_name(length));
  for (std::size_t d = 0; d < options.depths; ++d) {
    map.rows.push_back(std::to_string(100 * d / options.depths) + "-" +
                       std::to_string(100 * (d + 1) / options.depths) + " %");
  }
  for (std::size_t m = 0; m < options.modes.size(); ++m) {
    map.panels.push_back(panel_of(options, cells, m));
  }
  return map;
}

}  // namespace eidetic::eval
