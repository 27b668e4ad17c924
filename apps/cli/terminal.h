// What the commands print with: numbers for people, tables, colours on a terminal, progress.
#ifndef EIDETIC_APPS_CLI_TERMINAL_H_
#define EIDETIC_APPS_CLI_TERMINAL_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::cli {

// 12,345
std::string with_commas(std::uint64_t value);
// 4.8 KB, 1.2 MB: powers of 1,000
std::string human_bytes(std::uint64_t bytes);
// 0.42 s, 7.3 s, 1:05, 2:03:10
std::string human_seconds(double seconds);
std::string fixed(double value, int digits);

// Columns to print in: COLUMNS when it is set, else those of the terminal, else no bound (npos).
std::size_t output_columns();

// Wraps `text` in a colour when standard output (or error) is a terminal and NO_COLOR is not set.
enum class Style { kBold, kDim, kRed, kGreen, kYellow };
std::string styled(std::string_view text, Style style, bool on_stderr = false);

// "eidetic: message" and, under it, "  -> remedy", on standard error. Both as printable() has them.
void print_error(std::string_view message, std::string_view remedy = {});
void print_note(std::string_view message);

// What a model wrote, for standard output: as it is in a pipe or a file, as printable_lines() has
// it on a terminal.
std::string model_text(std::string_view text);

// Rows of cells with aligned columns; columns of numbers are flush right. Cells are shown as
// printable() has them.
class Table {
 public:
  explicit Table(std::vector<std::string> headings, std::vector<bool> numbers = {});
  // The column whose cells lose their beginnings when a row is wider than the output.
  void shrink(std::size_t column) { shrinks_ = column; }
  void add(std::vector<std::string> row);
  std::string text(std::size_t columns = output_columns()) const;

 private:
  std::vector<std::size_t> widths(std::size_t columns) const;

  std::vector<std::string> headings_;
  std::vector<bool> numbers_;
  std::vector<std::vector<std::string>> rows_;
  std::size_t shrinks_ = std::string::npos;
};

// Shows the progress of one long call on standard error: a bar on a terminal, redrawn at most ten
// times a second; otherwise a line every few seconds.
class ProgressMeter {
 public:
  // `unit`: what `done` and `total` of eid_progress count, such as "tokens".
  ProgressMeter(std::string label, std::string unit, bool quiet = false);
  ~ProgressMeter();
  ProgressMeter(const ProgressMeter&) = delete;
  ProgressMeter& operator=(const ProgressMeter&) = delete;

  void update(const eid_progress& progress);
  // The same for work of our own, whose seconds count from when the meter was made.
  void update(const std::string& stage, const std::string& item, std::uint64_t done,
              std::uint64_t total);
  // The same with other figures than the meter's own behind the bar.
  void update(std::uint64_t done, std::uint64_t total, const std::string& figures);
  // Takes the bar off the terminal, so that something else can be printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool is_due();
  void draw(std::uint64_t done, std::uint64_t total, const std::string& figures);
  void draw_bar(std::uint64_t done, std::uint64_t total, const std::string& figures);
  std::string details(const eid_progress& progress) const;

  std::string label_, unit_;
  bool quiet_, terminal_;
  bool drawn_ = false;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point last_{};
  // Where the stage at hand began: a resumed document does not start at 0.
  std::string stage_;
  std::uint64_t first_done_ = 0;
  double first_seconds_ = 0;
};

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_TERMINAL_H_
