#ifndef EIDETIC_APPS_CLI_CALIBRATE_COMMAND_H_
#define EIDETIC_APPS_CLI_CALIBRATE_COMMAND_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/eval/calibrate.h"

namespace eidetic::cli {

struct CalibrateRequest {
  std::vector<std::string> texts;  // files of running text
  eval::CalibrateOptions options;
  std::string output;  // empty: beside the adapter, else the model
};

struct CalibrationDone {
  eval::Calibration found;
  nlohmann::json profile;
  std::string path;  // where it was written
};

// Calibrates a model that `flags` names and `engine` has loaded, and writes its profile.
CalibrationDone calibrate_model(const Engine& engine, const ModelFlags& flags,
                                const CalibrateRequest& request);
// What was measured, for people.
void print_calibration(const CalibrationDone& done);

void add_calibrate_command(CLI::App& model, Action& action);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_CALIBRATE_COMMAND_H_
