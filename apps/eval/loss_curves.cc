#include "apps/eval/loss_curves.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/eval/heat_map.h"

namespace eidetic::eval {
namespace {

constexpr double kChartWidth = 720, kChartHeight = 360, kChartLeft = 64, kChartTop = 84;
constexpr double kPageWidth = kChartLeft + kChartWidth + 24;
constexpr double kPageHeight = kChartTop + kChartHeight + 56;
constexpr std::size_t kMostPoints = 720;  // one for each unit of the width
constexpr const char* kTrainingColour = "#b8c4d0";
constexpr const char* kMeanColour = "#2166ac";
constexpr const char* kHeldOutColour = "#d6604d";

// Where a value stands in the chart.
struct Frame {
  double last_step = 1, lowest = 0, highest = 1;
  double x(double step) const { return kChartLeft + kChartWidth * step / last_step; }
  double y(double loss) const {
    return kChartTop + kChartHeight * (highest - loss) / (highest - lowest);
  }
};

// 1, 2 or 5 times a power of ten, so that `range` has about five of it.
double tick_of(double range) {
  const double rough = range / 5, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

std::string number_text(double value, double tick) {
  const int digits = tick >= 1 ? 0 : static_cast<int>(std::ceil(-std::log10(tick)));
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::vector<LossPoint> thinned(const std::vector<LossPoint>& points) {
  const std::size_t count = (points.size() + kMostPoints - 1) / kMostPoints;
  if (count <= 1) return points;
  std::vector<LossPoint> means;
  for (std::size_t begin = 0; begin < points.size(); begin += count) {
    const std::size_t end = std::min(begin + count, points.size());
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += points[i].loss;
    means.push_back({points[end - 1].step, sum / static_cast<double>(end - begin)});
  }
  return means;
}

// The mean of the steps around each: a twentieth of the run.
std::vector<LossPoint> smoothed(const std::vector<LossPoint>& points) {
  const std::size_t reach = points.size() / 40;
  std::vector<LossPoint> means;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t begin = i > reach ? i - reach : 0;
    const std::size_t end = std::min(i + reach + 1, points.size());
    double sum = 0;
    for (std::size_t j = begin; j < end; ++j) sum += points[j].loss;
    means.push_back({points[i].step, sum / static_cast<double>(end - begin)});
  }
  return means;
}

Frame frame_of(const LossCurves& curves) {
  Frame frame;
  bool any = false;
  for (const auto* points : {&curves.training, &curves.held_out}) {
    for (const LossPoint& point : *points) {
      frame.lowest = any ? std::min(frame.lowest, point.loss) : point.loss;
      frame.highest = any ? std::max(frame.highest, point.loss) : point.loss;
      frame.last_step = std::max(frame.last_step, static_cast<double>(point.step));
      any = true;
    }
  }
  const double margin = std::max(0.05 * (frame.highest - frame.lowest), 1e-3);
  frame.lowest -= margin;
  frame.highest += margin;
  return frame;
}

void put_label(std::ostringstream& svg, double x, double y, const std::string& text,
               const std::string& attributes) {
  svg << "<text x=\"" << x << "\" y=\"" << y << "\" " << attributes << ">" << escaped_markup(text)
      << "</text>\n";
}

void put_axes(std::ostringstream& svg, const Frame& frame) {
  const double bottom = kChartTop + kChartHeight, right = kChartLeft + kChartWidth;
  const double tick = tick_of(frame.highest - frame.lowest);
  for (double at = std::ceil(frame.lowest / tick) * tick; at <= frame.highest; at += tick) {
    svg << "<line x1=\"" << kChartLeft << "\" x2=\"" << right << "\" y1=\"" << frame.y(at)
        << "\" y2=\"" << frame.y(at) << "\" stroke=\"#e5e5e5\"/>\n";
    put_label(svg, kChartLeft - 8, frame.y(at) + 4, number_text(at, tick),
              "font-size=\"12\" text-anchor=\"end\" fill=\"#555555\"");
  }
  const double steps = std::max(tick_of(frame.last_step), 1.0);
  for (double at = 0; at <= frame.last_step; at += steps) {
    put_label(svg, frame.x(at), bottom + 18, number_text(at, steps),
              "font-size=\"12\" text-anchor=\"middle\" fill=\"#555555\"");
  }
  put_label(svg, right, bottom + 40, "step",
            "font-size=\"12\" text-anchor=\"end\" fill=\"#555555\"");
}

void put_line(std::ostringstream& svg, const Frame& frame, const std::vector<LossPoint>& points,
              const char* colour, double width) {
  if (points.empty()) return;
  svg << "<polyline fill=\"none\" stroke=\"" << colour << "\" stroke-width=\"" << width
      << "\" points=\"";
  for (const LossPoint& point : points) {
    svg << frame.x(static_cast<double>(point.step)) << "," << frame.y(point.loss) << " ";
  }
  svg << "\"/>\n";
}

void put_legend(std::ostringstream& svg, double x, const char* colour, const std::string& text) {
  svg << "<rect x=\"" << x << "\" y=\"" << kChartTop - 22 << "\" width=\"18\" height=\"4\" fill=\""
      << colour << "\"/>\n";
  put_label(svg, x + 24, kChartTop - 15, text, "font-size=\"12\" fill=\"#555555\"");
}

void put_held_out(std::ostringstream& svg, const Frame& frame,
                  const std::vector<LossPoint>& points) {
  put_line(svg, frame, points, kHeldOutColour, 2);
  for (const LossPoint& point : points) {
    svg << "<circle cx=\"" << frame.x(static_cast<double>(point.step)) << "\" cy=\""
        << frame.y(point.loss) << "\" r=\"3\" fill=\"" << kHeldOutColour << "\"><title>step "
        << point.step << ": " << number_text(point.loss, 1e-4) << "</title></circle>\n";
  }
}

}  // namespace

LossCurves read_loss_curves(const std::string& metrics) {
  LossCurves curves;
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    const auto one = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!one.is_object() || !one.contains("step") || !one.contains("loss")) continue;
    if (!one["step"].is_number_integer() || !one["loss"].is_number()) continue;
    if (one.value("objective", "") == "mixers") continue;  // in no unit of the others
    const double teacher = one.value("teacher_loss", 0.0);
    if (teacher > 0) curves.title = "Loss beside a teacher, nats a token";
    const LossPoint point{one["step"].get<std::int64_t>(), one["loss"].get<double>() - teacher};
    (one.value("event", "") == "evaluation" ? curves.held_out : curves.training).push_back(point);
  }
  return curves;
}

std::string to_svg(const LossCurves& curves) {
  const Frame frame = frame_of(curves);
  std::ostringstream svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << kPageWidth << "\" height=\""
      << kPageHeight << "\" viewBox=\"0 0 " << kPageWidth << " " << kPageHeight
      << "\" font-family=\"system-ui, sans-serif\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  put_label(svg, kChartLeft, 28, curves.title, "font-size=\"17\" font-weight=\"600\"");
  put_label(svg, kChartLeft, 48, curves.subtitle, "font-size=\"13\" fill=\"#555555\"");
  put_axes(svg, frame);
  put_legend(svg, kChartLeft, kTrainingColour, "loss of each step");
  put_legend(svg, kChartLeft + 150, kMeanColour, "its running mean");
  put_line(svg, frame, thinned(curves.training), kTrainingColour, 1);
  put_line(svg, frame, thinned(smoothed(curves.training)), kMeanColour, 2);
  if (!curves.held_out.empty()) {
    put_legend(svg, kChartLeft + 300, kHeldOutColour, "held out");
    put_held_out(svg, frame, curves.held_out);
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace eidetic::eval
