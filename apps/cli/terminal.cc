#include "apps/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>

#include "apps/cli/characters.h"
#include "apps/cli/interrupt.h"

namespace eidetic::cli {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLine = std::chrono::seconds(3);

constexpr std::size_t kDefaultColumns = 80;
constexpr std::size_t kLeastShrunk = 12;

std::string padded(std::string_view text, std::size_t width, bool right) {
  const std::size_t length = columns_of(text);
  const std::string fill(width > length ? width - length : 0, ' ');
  return right ? fill + std::string(text) : std::string(text) + fill;
}

// 0 when the environment does not say.
std::size_t columns_of_environment() {
  const char* text = std::getenv("COLUMNS");
  const long columns = text ? std::strtol(text, nullptr, 10) : 0;
  return columns > 0 && columns < 100'000 ? static_cast<std::size_t>(columns) : 0;
}

std::size_t terminal_columns(int descriptor) {
  if (const std::size_t columns = columns_of_environment()) return columns;
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return kDefaultColumns;
}

}  // namespace

std::string with_commas(std::uint64_t value) {
  std::string text = std::to_string(value);
  for (int at = static_cast<int>(text.size()) - 3; at > 0; at -= 3) text.insert(at, 1, ',');
  return text;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string human_bytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 999.5 && unit < 4) value /= 1000, ++unit;
  return fixed(value, unit == 0 || value >= 99.95 ? 0 : 1) + " " + kUnits[unit];
}

std::string human_seconds(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  if (seconds < 1) return fixed(seconds, 2) + " s";
  if (seconds < 59.5) return fixed(seconds, 1) + " s";
  const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
  char text[64];
  if (whole < 3600) {
    std::snprintf(text, sizeof text, "%u:%02u", static_cast<unsigned>(whole / 60),
                  static_cast<unsigned>(whole % 60));
  } else {
    std::snprintf(text, sizeof text, "%u:%02u:%02u", static_cast<unsigned>(whole / 3600),
                  static_cast<unsigned>(whole / 60 % 60), static_cast<unsigned>(whole % 60));
  }
  return text;
}

std::size_t output_columns() {
  if (const std::size_t columns = columns_of_environment()) return columns;
  return ::isatty(STDOUT_FILENO) ? terminal_columns(STDOUT_FILENO) : std::string::npos;
}

std::string styled(std::string_view text, Style style, bool on_stderr) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool plain = !::isatty(on_stderr ? STDERR_FILENO : STDOUT_FILENO) ||
                     (no_color && *no_color) || (term && std::string_view(term) == "dumb");
  if (plain) return std::string(text);
  static constexpr const char* kCodes[] = {"1", "2", "31", "32", "33"};
  return "\033[" + std::string(kCodes[static_cast<int>(style)]) + "m" + std::string(text) +
         "\033[0m";
}

void print_error(std::string_view message, std::string_view remedy) {
  std::cerr << styled("eidetic:", Style::kRed, true) << " " << printable(message) << "\n";
  if (!remedy.empty()) std::cerr << "  -> " << printable(remedy) << "\n";
  std::cerr.flush();
}

void print_note(std::string_view message) {
  std::cerr << printable(message) << std::endl;
}

std::string model_text(std::string_view text) {
  return ::isatty(STDOUT_FILENO) ? printable_lines(text) : std::string(text);
}

Table::Table(std::vector<std::string> headings, std::vector<bool> numbers)
    : headings_(std::move(headings)), numbers_(std::move(numbers)) {
  numbers_.resize(headings_.size(), false);
}

void Table::add(std::vector<std::string> row) {
  row.resize(headings_.size());
  for (std::string& cell : row) cell = printable(cell);
  rows_.push_back(std::move(row));
}

std::vector<std::size_t> Table::widths(std::size_t columns) const {
  std::vector<std::size_t> widths;
  std::size_t all = 0;
  for (std::size_t c = 0; c < headings_.size(); ++c) {
    std::size_t width = columns_of(headings_[c]);
    for (const auto& row : rows_) width = std::max(width, columns_of(row[c]));
    widths.push_back(width);
    all += width + (c ? 2 : 0);
  }
  if (shrinks_ < widths.size() && all > columns) {
    std::size_t& width = widths[shrinks_];
    const std::size_t excess = all - columns;
    width = std::min(width, std::max(kLeastShrunk, width > excess ? width - excess : 0));
  }
  return widths;
}

std::string Table::text(std::size_t columns) const {
  const std::vector<std::size_t> width = widths(columns);
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string cell = c == shrinks_ ? end_of(cells[c], width[c]) : cells[c];
      text += (c ? "  " : "") + padded(cell, width[c], numbers_[c]);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
  };
  std::string result = styled(line(headings_), Style::kBold) + "\n";
  for (const auto& row : rows_) result += line(row) + "\n";
  return result;
}

ProgressMeter::ProgressMeter(std::string label, std::string unit, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO)),
      last_(terminal_ ? Clock::time_point{} : Clock::now()) {}

ProgressMeter::~ProgressMeter() {
  clear();
}

void ProgressMeter::update(const std::string& stage, const std::string& item, std::uint64_t done,
                           std::uint64_t total) {
  eid_progress progress{};
  progress.stage = stage.c_str();
  progress.item = item.c_str();
  progress.done = done;
  progress.total = total;
  progress.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  update(progress);
}

void ProgressMeter::clear() {
  if (drawn_) std::cerr << "\r\033[K\033[A\033[K" << std::flush;
  drawn_ = false;
}

// Whether the bar is to be drawn now.
bool ProgressMeter::is_due() {
  if (quiet_) return false;
  if (interrupted()) {
    drawn_ = false;  // the bar stays as it was, above the note that Ctrl-C gave
    return false;
  }
  const auto now = Clock::now();
  if (now - last_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kLine))) return false;
  last_ = now;
  return true;
}

void ProgressMeter::update(const eid_progress& progress) {
  const char* stage = progress.stage ? progress.stage : "";
  if (stage_ != stage) {
    stage_ = stage;
    first_done_ = progress.done;
    first_seconds_ = progress.seconds;
  }
  if (is_due()) draw(progress.done, progress.total, details(progress));
}

void ProgressMeter::update(std::uint64_t done, std::uint64_t total, const std::string& figures) {
  if (is_due()) draw(done, total, figures);
}

void ProgressMeter::draw(std::uint64_t done, std::uint64_t total, const std::string& figures) {
  if (terminal_) {
    draw_bar(done, total, figures);
  } else {
    std::cerr << printable(label_) << ": " << figures << std::endl;
  }
}

std::string ProgressMeter::details(const eid_progress& progress) const {
  std::ostringstream text;
  if (progress.total > 0) {
    text << fixed(100.0 * static_cast<double>(progress.done) / static_cast<double>(progress.total),
                  0)
         << " %";
    // A narrow terminal keeps its room for the bar.
    if (!terminal_ || terminal_columns(STDERR_FILENO) >= 110) {
      text << "  " << with_commas(progress.done) << "/" << with_commas(progress.total) << " "
           << unit_;
    }
  } else {
    text << stage_ << "  " << with_commas(progress.done) << " " << unit_;
  }
  const double elapsed = progress.seconds - first_seconds_;
  if (elapsed > 0 && progress.done > first_done_) {
    const double rate = static_cast<double>(progress.done - first_done_) / elapsed;
    text << "  " << with_commas(static_cast<std::uint64_t>(rate)) << " " << unit_ << "/s";
    if (progress.total > progress.done) {
      text << "  ETA " << human_seconds(static_cast<double>(progress.total - progress.done) / rate);
    }
  }
  if (progress.blocks) text << "  " << with_commas(progress.blocks) << " blocks";
  if (progress.bytes) text << "  " << human_bytes(progress.bytes);
  return text.str();
}

// The label stands on a line of its own above the bar, so that a long path leaves the figures room.
void ProgressMeter::draw_bar(std::uint64_t done, std::uint64_t total, const std::string& figures) {
  const auto columns = terminal_columns(STDERR_FILENO) - 1;
  if (!drawn_) std::cerr << end_of(label_, columns) << "\n";
  std::string line;
  const std::size_t taken = columns_of(figures) + 4;
  if (total > 0 && taken + 8 <= columns) {
    const std::size_t cells = std::min<std::size_t>(columns - taken, 30);
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto full = static_cast<std::size_t>(share * static_cast<double>(cells));
    line = '[';
    line.append(full, '#').append(cells - full, '-').append("]  ");
  }
  line += figures;
  if (line.size() > columns) line.resize(columns);  // figures are ASCII
  std::cerr << "\r\033[K" << line << std::flush;
  drawn_ = true;
}

}  // namespace eidetic::cli
