#include "model/rotary_scaling.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numbers>

#include "model/error.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

constexpr double kMostContext = 1 << 30;

[[noreturn]] void RefuseText(const std::string& text, const std::string& problem) {
  throw Error(ErrorCode::kInvalidArgument, "rotary scaling " + Quoted(text) + " " + problem,
              "Write none, linear:4, ntk:4, yarn:4 or yarn:4:8192 (with the original context).");
}

double NumberOf(const std::string& text, const std::string& part) {
  double number = 0;
  const char* end = part.data() + part.size();
  const auto parsed = std::from_chars(part.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    RefuseText(text, "holds " + Quoted(part) + ", which is no number");
  }
  return number;
}

}  // namespace

RotaryScaling ParseRotaryScaling(const std::string& text) {
  std::vector<std::string> parts = {""};
  for (const char letter : text) {
    if (letter == ':') {
      parts.emplace_back();
    } else {
      parts.back() += letter;
    }
  }
  RotaryScaling scaling;
  const std::string& name = parts[0];
  if (name == "linear") scaling.kind = RotaryScalingKind::kLinear;
  if (name == "ntk") scaling.kind = RotaryScalingKind::kNtk;
  if (name == "yarn") scaling.kind = RotaryScalingKind::kYarn;
  if (scaling.kind == RotaryScalingKind::kNone) {
    if (text != "none") RefuseText(text, "is of no kind that there is");
    return scaling;
  }
  const size_t most = scaling.kind == RotaryScalingKind::kYarn ? 3 : 2;
  if (parts.size() < 2 || parts.size() > most) RefuseText(text, "has no factor, or too many parts");
  scaling.factor = NumberOf(text, parts[1]);
  if (parts.size() == 3) scaling.original_context = NumberOf(text, parts[2]);
  if (const std::string problem = ProblemOf(scaling); !problem.empty()) {
    RefuseText(text, "cannot be used: " + problem);
  }
  return scaling;
}

std::string RotaryScalingText(const RotaryScaling& scaling) {
  const auto with = [](double number) {
    char text[40];
    return ":" + std::string(text, std::to_chars(text, text + sizeof(text), number).ptr);
  };
  switch (scaling.kind) {
    case RotaryScalingKind::kNone:
      return "none";
    case RotaryScalingKind::kLinear:
      return "linear" + with(scaling.factor);
    case RotaryScalingKind::kNtk:
      return "ntk" + with(scaling.factor);
    case RotaryScalingKind::kYarn:
      break;
  }
  const std::string yarn = "yarn" + with(scaling.factor);
  return scaling.original_context == 0 ? yarn : yarn + with(scaling.original_context);
}

std::string ProblemOf(const RotaryScaling& scaling) {
  const auto says = [](const char* name, double value, const char* allowed) {
    return std::string(name) + " is " + std::to_string(value) + "; it must be " + allowed;
  };
  if (!(scaling.factor >= 1 && scaling.factor <= kMostContext)) {
    return says("factor", scaling.factor, "1 or more");
  }
  if (scaling.kind != RotaryScalingKind::kYarn) return {};
  if (!(scaling.original_context >= 0 && scaling.original_context <= kMostContext)) {
    return says("original_context", scaling.original_context, "a number of tokens");
  }
  if (!(scaling.beta_slow > 0 && scaling.beta_fast > scaling.beta_slow &&
        scaling.beta_fast <= kMostContext)) {
    return says("beta_fast", scaling.beta_fast, "more than beta_slow, and that above 0");
  }
  if (!(scaling.attention_factor >= 0 && scaling.attention_factor <= 1e3)) {
    return says("attention_factor", scaling.attention_factor, "above 0");
  }
  return {};
}

double NtkBase(int dims, double base, double factor) {
  const double n = dims;
  return dims > 2 ? base * std::pow(factor, n / (n - 2)) : base;
}

std::vector<double> RotaryFrequencies(int dims, double base, const RotaryScaling& scaling) {
  const double n = dims, factor = scaling.factor;
  if (scaling.kind == RotaryScalingKind::kNtk) base = NtkBase(dims, base, factor);
  double low = 0, high = 1;  // yarn: pairs between which frequencies are mixed
  if (scaling.kind == RotaryScalingKind::kYarn) {
    // The pair that turns so often within the original context.
    const auto pair_of = [&](double turns) {
      return n * std::log(scaling.original_context / (turns * 2 * std::numbers::pi)) /
             (2 * std::log(base));
    };
    low = std::max(std::floor(pair_of(scaling.beta_fast)), 0.0);
    high = std::min(std::ceil(pair_of(scaling.beta_slow)), n - 1);
    if (high <= low) high = low + 0.001;
  }
  std::vector<double> frequencies;
  for (int pair = 0; pair < dims / 2; ++pair) {
    const double own = std::pow(base, -2.0 * pair / n);
    double slowed = 0;  // the share of the slower frequency
    if (scaling.kind == RotaryScalingKind::kLinear) slowed = 1;
    if (scaling.kind == RotaryScalingKind::kYarn) {
      slowed = std::clamp((pair - low) / (high - low), 0.0, 1.0);
    }
    frequencies.push_back(own / factor * slowed + own * (1 - slowed));
  }
  return frequencies;
}

double RotaryLength(const RotaryScaling& scaling) {
  if (scaling.kind != RotaryScalingKind::kYarn) return 1;
  if (scaling.attention_factor > 0) return scaling.attention_factor;
  return 0.1 * std::log(scaling.factor) + 1;
}

std::string DescribeRotaryScaling(const RotaryScaling& scaling) {
  if (scaling.kind == RotaryScalingKind::kNone) return {};
  char text[200];
  std::snprintf(text, sizeof(text), "%d %.17g %.17g %.17g %.17g %.17g",
                static_cast<int>(scaling.kind), scaling.factor, scaling.original_context,
                scaling.beta_fast, scaling.beta_slow, RotaryLength(scaling));
  return text;
}

}  // namespace eidetic::model
