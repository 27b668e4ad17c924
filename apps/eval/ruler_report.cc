#include "apps/eval/ruler_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/eval/needle_report.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;

constexpr const char* kRuler11 = "RULER-11";
constexpr const char* kInChat = ", asked in the model's chat template";

std::string score_text(double score, double low, double high) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f (%.0f-%.0f)", score, low, high);
  return text;
}

std::string score_text(const RulerCell& cell) {
  if (cell.samples == 0) return cell.not_fitting > 0 ? "does not fit" : "-";
  return score_text(cell.score, cell.low, cell.high);
}

std::string score_text(const RulerMean& mean) {
  return mean.complete ? score_text(mean.score, mean.low, mean.high) : "-";
}

double share_of(const RulerCell& cell) {
  return cell.samples > 0 ? cell.score / 100 : -1;
}

double share_of(const RulerMean& mean) {
  return mean.complete ? mean.score / 100 : -1;
}

std::vector<std::string> heading_of(const std::string& first,
                                    const std::vector<std::string>& others) {
  std::vector<std::string> heading = {first};
  heading.insert(heading.end(), others.begin(), others.end());
  return heading;
}

void add_row(RulerTable& table, const std::string& name) {
  table.rows.push_back({name});
  table.shares.push_back({-1});
}

template <typename Scored>
void add_score(RulerTable& table, const Scored& scored) {
  table.rows.back().push_back(score_text(scored));
  table.shares.back().push_back(share_of(scored));
}

RulerTable with_heading(const std::string& title, const std::string& note,
                        const std::vector<std::string>& heading) {
  return {title, note, {heading}, {std::vector<double>(heading.size(), -1)}};
}

// A mode's mean speed over all tasks of a length.
std::string speed_text(const std::vector<RulerCell>& cells, const std::string& mode,
                       std::uint64_t length) {
  double seconds_per_token = 0;
  int measured = 0;
  for (const RulerCell& cell : cells) {
    if (cell.mode != mode || cell.length != length || cell.tokens_per_second <= 0) continue;
    seconds_per_token += 1 / cell.tokens_per_second;
    ++measured;
  }
  if (measured == 0) return "-";
  return std::to_string(static_cast<std::uint64_t>(std::lround(measured / seconds_per_token)));
}

std::vector<std::string> length_names(const RulerOptions& options) {
  std::vector<std::string> names;
  for (const std::uint64_t length : options.lengths) names.push_back(length_name(length));
  return names;
}

}  // namespace

std::vector<RulerCell> ruler_cells(const RulerOptions& options,
                                   const std::vector<RulerSample>& samples) {
  std::vector<RulerCell> cells;
  for (const std::uint64_t length : options.lengths) {
    for (const RulerTask& task : options.tasks) {
      for (const std::string& mode : options.modes) {
        RulerCell cell;
        cell.task = task.name;
        cell.mode = mode;
        cell.length = length;
        double sum = 0, tokens = 0, seconds = 0;
        for (const RulerSample& s : samples) {
          if (s.task != task.name || s.mode != mode || s.length != length) continue;
          if (!s.fits) {
            ++cell.not_fitting;
            continue;
          }
          ++cell.samples;
          sum += s.score;
          tokens += static_cast<double>(s.tokens);
          seconds += s.read_seconds;
        }
        if (cell.samples > 0) {
          cell.score = 100 * sum / cell.samples;
          const auto [low, high] = wilson_interval(sum, cell.samples);
          cell.low = 100 * low;
          cell.high = 100 * high;
          cell.tokens_per_second = seconds > 0 ? tokens / seconds : 0;
        }
        cells.push_back(cell);
      }
    }
  }
  return cells;
}

std::vector<RulerMean> ruler_means(const RulerOptions& options,
                                   const std::vector<RulerCell>& cells) {
  const auto& all = ruler_tasks();
  const auto wanted = static_cast<std::size_t>(std::count_if(
      all.begin(), all.end(), [](const RulerTask& task) { return task.in_ruler_11(); }));
  std::vector<RulerMean> means;
  for (const std::uint64_t length : options.lengths) {
    for (const std::string& mode : options.modes) {
      RulerMean mean;
      mean.mode = mode;
      mean.length = length;
      double sum = 0, below = 0, above = 0;
      std::size_t count = 0;
      for (const RulerCell& cell : cells) {
        if (cell.mode != mode || cell.length != length || cell.samples == 0) continue;
        if (!ruler_tasks_of({cell.task}).at(0).in_ruler_11()) continue;
        ++count;
        sum += cell.score;
        below += std::pow(cell.score - cell.low, 2);
        above += std::pow(cell.high - cell.score, 2);
      }
      mean.complete = count == wanted;
      if (mean.complete) {
        const auto n = static_cast<double>(count);
        mean.score = sum / n;
        mean.low = mean.score - std::sqrt(below) / n;
        mean.high = mean.score + std::sqrt(above) / n;
      }
      means.push_back(mean);
    }
  }
  return means;
}

json ruler_report(const RulerOptions& options, const std::vector<RulerSample>& samples) {
  const std::vector<RulerCell> all_cells = ruler_cells(options, samples);
  json tasks = json::array(), cells = json::array(), means = json::array(), all = json::array();
  for (const RulerTask& task : options.tasks) tasks.push_back(task.name);
  for (const RulerCell& cell : all_cells) {
    const bool any = cell.samples > 0;
    cells.push_back({{"task", cell.task},
                     {"mode", cell.mode},
                     {"length", cell.length},
                     {"samples", cell.samples},
                     {"not_fitting", cell.not_fitting},
                     {"score", any ? json(cell.score) : json()},
                     {"score_low", any ? json(cell.low) : json()},
                     {"score_high", any ? json(cell.high) : json()},
                     {"tokens_per_second", cell.tokens_per_second}});
  }
  for (const RulerMean& mean : ruler_means(options, all_cells)) {
    means.push_back({{"mode", mean.mode},
                     {"length", mean.length},
                     {"ruler_11", mean.complete ? json(mean.score) : json()},
                     {"ruler_11_low", mean.complete ? json(mean.low) : json()},
                     {"ruler_11_high", mean.complete ? json(mean.high) : json()}});
  }
  for (const RulerSample& sample : samples) all.push_back(to_json(sample));
  json parameters = options.parameters();
  parameters.update({{"tasks", tasks}, {"chat", options.chat}});
  return {{"parameters", parameters}, {"cells", cells}, {"means", means}, {"samples", all}};
}

std::vector<RulerTable> ruler_report_tables(const RulerOptions& options,
                                            const std::vector<RulerCell>& cells) {
  const std::vector<RulerMean> means = ruler_means(options, cells);
  const auto heading = heading_of("mode", length_names(options));
  std::vector<RulerTable> tables;
  tables.push_back(with_heading(kRuler11,
                                "The mean score of the eleven tasks without questions, in percent, "
                                "and its 95 % interval, by tokens in the prompt" +
                                    std::string(options.chat ? kInChat : "") + ".",
                                heading));
  RulerTable speed = with_heading("Reading", "Tokens per second, over all tasks.", heading);
  for (const std::string& mode : options.modes) {
    add_row(tables[0], mode);
    add_row(speed, mode);
    for (const std::uint64_t length : options.lengths) {
      for (const RulerMean& mean : means) {
        if (mean.mode == mode && mean.length == length) add_score(tables[0], mean);
      }
      speed.rows.back().push_back(speed_text(cells, mode, length));
      speed.shares.back().push_back(-1);
    }
  }
  for (const std::uint64_t length : options.lengths) {
    RulerTable table =
        with_heading("Tasks at " + length_name(length),
                     "Scores in percent and their 95 % intervals (Wilson); samples a cell: " +
                         std::to_string(options.samples) + ".",
                     heading_of("task", options.modes));
    for (const RulerTask& task : options.tasks) {
      add_row(table, task.name);
      for (const RulerCell& cell : cells) {
        if (cell.task == task.name && cell.length == length) add_score(table, cell);
      }
    }
    add_row(table, kRuler11);
    for (const RulerMean& mean : means) {
      if (mean.length == length) add_score(table, mean);
    }
    tables.push_back(std::move(table));
  }
  tables.push_back(std::move(speed));
  return tables;
}

std::string ruler_page(const RulerOptions& options, const std::vector<RulerCell>& cells,
                       const std::string& model) {
  HtmlPage page("RULER", model + ", text read in the session that is asked" +
                             (options.chat ? kInChat : "") + ", seed " +
                             std::to_string(options.seed));
  for (const RulerTable& table : ruler_report_tables(options, cells)) {
    page.add_table(table.title, table.note, table.rows, table.shares);
  }
  page.add_markup(
      "<p>Tasks and templates are RULER's (Hsieh et al. 2024, arXiv 2404.06654). Running text and "
      "questions are our own: books in the place of essays, questions on books in that of SQuAD "
      "and HotpotQA; so qa_1 and qa_2 compare with nobody's.</p>\n");
  return page.text();
}

}  // namespace eidetic::eval
