#include "sdk/tune_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace eidetic::sdk {
namespace {

using nlohmann::json;

json DataJson(const model::TokenCacheReport& data) {
  return {{"files", data.files},
          {"documents", data.documents},
          {"tokens", data.tokens},
          {"predicted_tokens", data.predicted_tokens},
          {"bad_lines", data.bad_lines}};
}

json NumberOrNull(double number) {
  return std::isfinite(number) ? json(number) : json(nullptr);
}

}  // namespace

std::string TuneJson(const model::TuneOptions& options, const model::TuneReport& report) {
  const model::TrainState& state = report.state;
  json object = {{"folder", options.folder},
                 {"last", options.folder + "/last"},
                 {"kind", report.kind},
                 {"trained_parameters", report.trained_numbers},
                 {"step", state.step},
                 {"steps", report.steps},
                 {"resumed_from", report.resumed_from},
                 {"passes", static_cast<double>(state.epoch) +
                                static_cast<double>(state.window) /
                                    static_cast<double>(std::max<int64_t>(report.windows, 1))},
                 {"tokens", state.tokens},
                 {"seconds", state.seconds},
                 {"tokens_per_second", report.tokens_per_second},
                 {"peak_share", NumberOrNull(report.peak_share)},
                 {"peak_memory_bytes", report.peak_memory_bytes},
                 {"device", report.device_name.empty() ? options.device : report.device_name},
                 {"loss", state.step > 0 ? json(state.loss) : json(nullptr)},
                 {"data", DataJson(report.data)}};
  if (!options.held_out.empty()) object["held_out"] = DataJson(report.held_out);
  if (state.evaluated >= 0) object["held_out_loss"] = state.held_out_loss;
  if (state.teacher_loss) object["teacher_held_out_loss"] = *state.teacher_loss;
  if (state.best_step >= 0) {
    object["best"] = options.folder + "/best";
    object["best_step"] = state.best_step;
    object["best_loss"] = state.best_loss;
  }
  return object.dump();
}

std::string TuneEstimateJson(const model::TuneOptions& options,
                             const model::TuneEstimate& estimate) {
  json object = {{"steps", estimate.steps},
                 {"windows", estimate.windows},
                 {"trained_parameters", estimate.trained_numbers},
                 {"data", DataJson(estimate.data)},
                 {"measured_tokens", estimate.measured_tokens},
                 {"step_seconds", estimate.step_seconds},
                 {"seconds", estimate.seconds},
                 {"processes", options.processes},
                 {"memory_bytes", estimate.memory_bytes},
                 {"device_memory_bytes", estimate.device_memory_bytes},
                 {"checkpoint_bytes", estimate.checkpoint_bytes}};
  if (!options.held_out.empty()) object["held_out"] = DataJson(estimate.held_out);
  return object.dump();
}

}  // namespace eidetic::sdk
