// What training tells as JSON. The keys are listed in docs/cli.md.
#ifndef EIDETIC_SDK_TUNE_REPORT_H_
#define EIDETIC_SDK_TUNE_REPORT_H_

#include <string>

#include "model/train/tune_run.h"

namespace eidetic::sdk {

std::string TuneJson(const model::TuneOptions& options, const model::TuneReport& report);
std::string TuneEstimateJson(const model::TuneOptions& options,
                             const model::TuneEstimate& estimate);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_TUNE_REPORT_H_
