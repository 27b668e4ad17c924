// Which linear maps an adapter trains, and with what rank, alpha and dropout each.
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_ADAPTER_TARGETS_H_
#define EIDETIC_MODEL_TRAIN_ADAPTER_TARGETS_H_

#include <set>
#include <string>
#include <vector>

#include "model/adapter_config.h"
#include "model/train/adapter_options.h"

namespace eidetic::model {

// Throws kInvalidArgument for numbers out of range, and for what is no expression, by its name and
// value. Of mixers nothing is looked at.
void CheckAdapterOptions(const AdapterOptions& options);

// Throws kInvalidArgument for an expression that Python's `re` does not take, or takes otherwise:
// PEFT could not read the adapter.
void CheckAdapterPatterns(const AdapterOptions& options);

struct AdapterTarget {
  std::string module;
  int rank = 0;
  double scale = 0;  // of B A
  double dropout = 0;
};

// In the order of `modules`, which are all linear maps of a model. The options are checked ones.
// Throws kInvalidArgument, naming modules nearby, for a name or expression that fits none, and for
// two expressions that fit one and differ.
std::vector<AdapterTarget> TargetsOf(const AdapterOptions& options,
                                     const std::vector<std::string>& modules);

// How PEFT is to be told which maps these are: as the options say it. Where their expression fits
// other modules as well, which PEFT would refuse or train, by the maps' paths. `parameters`: names
// of all that the model has.
ModuleNames TargetNames(const AdapterOptions& options, const std::vector<std::string>& modules,
                        const std::set<std::string>& parameters);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_ADAPTER_TARGETS_H_
