// What RULER's tasks found, as numbers, tables and a page. Scores are in percent, as RULER's are.
#ifndef EIDETIC_APPS_EVAL_RULER_REPORT_H_
#define EIDETIC_APPS_EVAL_RULER_REPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/html_page.h"
#include "apps/eval/ruler.h"

namespace eidetic::eval {

// One task at one length in one mode.
struct RulerCell {
  std::string task, mode;
  std::uint64_t length = 0;
  int samples = 0;
  int not_fitting = 0;         // samples for which there was not enough memory; not among `samples`
  double score = 0;            // the mean, 0..100
  double low = 0, high = 100;  // its 95 % interval, by Wilson's score
  double tokens_per_second = 0;  // of reading
};

// The mean over the eleven tasks without questions; complete: each of them has samples.
struct RulerMean {
  std::string mode;
  std::uint64_t length = 0;
  bool complete = false;
  double score = 0, low = 0, high = 100;
};

// By lengths, then tasks, then modes.
std::vector<RulerCell> ruler_cells(const RulerOptions& options,
                                   const std::vector<RulerSample>& samples);
// By lengths, then modes. The interval joins those of the cells (Newcombe's square-and-add).
std::vector<RulerMean> ruler_means(const RulerOptions& options,
                                   const std::vector<RulerCell>& cells);
nlohmann::json ruler_report(const RulerOptions& options, const std::vector<RulerSample>& samples);

struct RulerTable {
  std::string title, note;
  Rows rows;
  std::vector<std::vector<double>> shares;  // 0..1 for the colours of a page; below 0: none
};
// The mean by mode and length, then for each length all tasks by mode, then the speed of reading.
std::vector<RulerTable> ruler_report_tables(const RulerOptions& options,
                                            const std::vector<RulerCell>& cells);
std::string ruler_page(const RulerOptions& options, const std::vector<RulerCell>& cells,
                       const std::string& model);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RULER_REPORT_H_
