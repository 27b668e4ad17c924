// PEFT's adapter_config.json: what an adapter is and which modules it changes.
#ifndef EIDETIC_MODEL_ADAPTER_CONFIG_H_
#define EIDETIC_MODEL_ADAPTER_CONFIG_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/rotary_scaling.h"

namespace eidetic::model {

class ModulePatterns;

// Names of modules, or one regular expression that fits all of a name. A name stands for modules of
// that path and for all whose path ends in `.name`.
struct ModuleNames {
  std::vector<std::string> names;
  std::string pattern;  // when not empty, `names` is
};

// As a pattern of targets: every linear layer but the output matrix.
inline constexpr char kAllLinear[] = "all-linear";

// Modules are named by their paths in `transformers`: "model.layers.0.self_attn.q_proj".
struct AdapterConfig {
  std::string base_model;  // a name or path, as the adapter's writer had it; may be empty
  std::string task = "CAUSAL_LM";
  int rank = 8;
  double alpha = 8;
  double dropout = 0;           // of training alone
  bool rslora = false;          // the scale is alpha / sqrt(rank), not alpha / rank
  std::string bias = "none";    // which biases were trained: "none", "all", "lora_only"
  bool fan_in_fan_out = false;  // without consequence: no module that is served is stored that way
  // With LoRA.
  ModuleNames targets, excluded;
  std::vector<std::string> modules_to_save;  // trained whole: paths that end so, dot or not
  std::vector<int> layers;                   // layers_to_transform; empty: all
  // Other ranks and alphas, by expressions that fit the end of a path, at a dot.
  std::map<std::string, int> ranks;
  std::map<std::string, double> alphas;
  // A trained embedding is the output matrix as well, where the base has these tied.
  bool tied = false;
  // Of the base, where it was trained with another than the base's own. PEFT's configuration has no
  // place for it: it stands in the metadata of the other file.
  std::optional<RotaryScaling> rotary_scaling;
};

// Unknown keys are ignored. Throws Error: kNotFound, kIo, kCorruption for keys with values of
// another kind, kUnsupported for adapters of other kinds than LoRA and for what would change the
// computation in a way that this build does not know (DoRA and others), by its key.
AdapterConfig ReadAdapterConfig(const std::string& path);
// As ReadAdapterConfig reads it, and PEFT.
std::string AdapterConfigText(const AdapterConfig& config);

// Which modules the configuration means, as PEFT decides it. Immutable and thread-safe.
class AdapterModules {
 public:
  // Throws Error: kCorruption for an expression that is none. `where`: the file, for errors.
  AdapterModules(const AdapterConfig& config, std::string where);
  ~AdapterModules();

  // `linear`: the module is a linear layer. These throw kUnsupported when an expression takes too
  // long, or when two of them fit a module and differ.
  bool HasLora(const std::string& module, bool linear) const;
  bool IsSaved(const std::string& module) const;
  int Rank(const std::string& module) const;
  double Alpha(const std::string& module) const;

 private:
  bool IsTarget(const std::string& module, bool linear) const;
  template <typename Value>
  Value ValueFor(const std::map<std::string, Value>& values, Value otherwise, const char* key,
                 const std::string& module) const;

  const AdapterConfig config_;
  const std::string where_;
  std::unique_ptr<const ModulePatterns> patterns_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ADAPTER_CONFIG_H_
