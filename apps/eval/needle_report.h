// What the needle evaluation found, as numbers, tables and pages.
#ifndef EIDETIC_APPS_EVAL_NEEDLE_REPORT_H_
#define EIDETIC_APPS_EVAL_NEEDLE_REPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/eval/heat_map.h"
#include "apps/eval/html_page.h"
#include "apps/eval/needle.h"

namespace eidetic::eval {

// One mode at one length.
struct NeedleCell {
  std::string mode;
  std::uint64_t length = 0;
  int samples = 0, hits = 0, recallable = 0;
  int not_fitting = 0;  // samples for which there was not enough memory; not among `samples`
  double presence = 0;  // summed over recallable samples
  double tokens_per_second = 0;  // of reading
  double found = 0;              // share of the numbers that were asked for
  std::vector<HeatCell> by_depth{};
};

// The 95 % interval of a share by Wilson's score: where the true share lies. (0, 1) of no samples.
// Hits in part make it wider than it need be: no mean of values in 0..1 scatters more than a share.
std::pair<double, double> wilson_interval(double hits, int samples);

// By modes, then lengths.
std::vector<NeedleCell> needle_cells(const NeedleOptions& options,
                                     const std::vector<NeedleSample>& samples);
nlohmann::json needle_report(const NeedleOptions& options,
                             const std::vector<NeedleSample>& samples);

// Tables of modes and lengths.
struct NeedleTables {
  Rows accuracy;  // share, interval and samples
  Rows found;     // share of the numbers asked for; empty where one is asked for
  Rows recall, speed;
};
NeedleTables needle_tables(const NeedleOptions& options, const std::vector<NeedleCell>& cells);

// What was measured, in one line.
std::string needle_title(const NeedleOptions& options);
std::string needle_subtitle(const NeedleOptions& options, const std::string& model);
HeatMap needle_heat_map(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model);
// One HTML page with tables and heat maps that needs nothing from outside.
std::string needle_page(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model);

// 4096: "4K", 131072: "128K", 1000: "1000"
std::string length_name(std::uint64_t length);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_NEEDLE_REPORT_H_
