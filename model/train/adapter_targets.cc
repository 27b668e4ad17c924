#include "model/train/adapter_targets.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "model/config.h"
#include "model/error.h"
#include "model/module_patterns.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

[[noreturn]] void RefuseTargets(const std::string& what, const std::string& remedy = {}) {
  throw Error(ErrorCode::kInvalidArgument, "adapter: " + what, remedy);
}

template <typename Value>
std::string Shortest(Value number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

bool IsRank(int rank) {
  return rank >= 1 && rank <= kLargestSize;
}
bool IsAlpha(double alpha) {
  return alpha > 0 && std::isfinite(alpha);
}
bool IsDropout(double dropout) {
  return dropout >= 0 && dropout < 1;
}

template <typename Value>
void CheckNumbers(const char* name, Value number, const std::map<std::string, Value>& of_patterns,
                  bool (*is_good)(Value), const char* wanted) {
  if (!is_good(number)) {
    RefuseTargets(std::string(name) + " is " + Shortest(number) + "; it must be " + wanted);
  }
  for (const auto& [pattern, value] : of_patterns) {
    if (is_good(value)) continue;
    RefuseTargets(std::string(name) + " of " + Quoted(pattern) + " is " + Shortest(value) +
                  "; it must be " + wanted);
  }
}

// Each expression of the options, with the name of what it says.
template <typename Take>
void ForEachPattern(const AdapterOptions& options, const Take& take) {
  if (!options.target_pattern.empty()) {
    take(options.target_pattern, PatternExtent::kWholePath, "targets");
  }
  for (const auto& entry : options.ranks) take(entry.first, PatternExtent::kEndOfPath, "rank");
  for (const auto& entry : options.alphas) take(entry.first, PatternExtent::kEndOfPath, "alpha");
  for (const auto& entry : options.dropouts) {
    take(entry.first, PatternExtent::kEndOfPath, "dropout");
  }
}

std::unique_ptr<const ModulePatterns> Compiled(const AdapterOptions& options) {
  auto patterns = std::make_unique<ModulePatterns>(ErrorCode::kInvalidArgument, "adapter",
                                                   "correct the expression");
  ForEachPattern(options, [&](const std::string& pattern, PatternExtent extent, const char*) {
    patterns->Add(pattern, extent);
  });
  return patterns;
}

bool AreAll(const AdapterOptions& options) {
  return options.target_pattern.empty() && options.targets == std::vector<std::string>{kAllLinear};
}

bool IsNameOf(const std::string& target, const std::string& module) {
  return module == target || module.ends_with("." + target);
}

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t corner = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t swapped = corner + (a[i] == b[j] ? 0 : 1);
      corner = row[j + 1];
      row[j + 1] = std::min({swapped, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// The end of a path with so many dots, or all of it.
std::string EndOf(const std::string& path, int64_t dots) {
  size_t begin = path.size();
  for (; dots >= 0 && begin != std::string::npos; --dots) {
    begin = begin == 0 ? std::string::npos : path.rfind('.', begin - 1);
  }
  return begin == std::string::npos ? path : path.substr(begin + 1);
}

std::string Listing(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Paths that look most like `name`, each with an end of its own.
std::string Nearby(const std::string& name, const std::vector<std::string>& modules) {
  constexpr size_t kMost = 3;
  std::string plain = name;
  for (const char* anything : {".*", ".+", "\\."}) {
    if (plain.starts_with(anything)) plain.erase(0, 2);
  }
  std::erase(plain, '\\');
  const auto dots = std::count(plain.begin(), plain.end(), '.');
  std::vector<std::pair<size_t, std::string>> near;
  std::set<std::string> ends;
  for (const std::string& module : modules) {
    const std::string end = EndOf(module, dots);
    if (ends.insert(end).second) near.emplace_back(EditDistance(plain, end), module);
  }
  std::stable_sort(near.begin(), near.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  near.resize(std::min(kMost, near.size()));
  std::vector<std::string> paths;
  for (const auto& [distance, module] : near) paths.push_back(module);
  return "near it are " + Listing(paths);
}

std::string LastNames(const std::vector<std::string>& modules) {
  std::vector<std::string> names;
  for (const std::string& module : modules) {
    std::string name = EndOf(module, 0);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return Listing(names);
}

std::vector<std::string> NamedTargets(const AdapterOptions& options,
                                      const std::vector<std::string>& modules) {
  if (AreAll(options)) return modules;
  std::vector<std::string> chosen;
  std::vector<bool> used(options.targets.size());
  for (const std::string& module : modules) {
    bool named = false;
    for (size_t i = 0; i < options.targets.size(); ++i) {
      if (!IsNameOf(options.targets[i], module)) continue;
      named = used[i] = true;
    }
    if (named) chosen.push_back(module);
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (used[i]) continue;
    RefuseTargets(
        "target " + Quoted(options.targets[i]) + " names no linear map of the model",
        Nearby(options.targets[i], modules) + "; the last names of all are " + LastNames(modules));
  }
  return chosen;
}

std::vector<std::string> FittingTargets(const AdapterOptions& options,
                                        const std::vector<std::string>& modules,
                                        const ModulePatterns& patterns) {
  const std::string& pattern = options.target_pattern;
  std::vector<std::string> chosen;
  for (const std::string& module : modules) {
    if (patterns.Fits(pattern, PatternExtent::kWholePath, module)) chosen.push_back(module);
  }
  if (!chosen.empty()) return chosen;
  ModulePatterns ends(ErrorCode::kInvalidArgument, "adapter", "");
  ends.Add(pattern, PatternExtent::kEndOfPath);
  const auto end_of = std::find_if(modules.begin(), modules.end(), [&](const auto& module) {
    return ends.Fits(pattern, PatternExtent::kEndOfPath, module);
  });
  RefuseTargets("target pattern " + Quoted(pattern) + " fits no linear map of the model",
                end_of == modules.end()
                    ? Nearby(pattern, modules)
                    : "it is to fit whole paths, such as " + *end_of + ": put .* before it");
}

// What is said of a module by the one expression that fits it, or by several that agree.
template <typename Value>
Value ValueOf(const char* name, const std::map<std::string, Value>& values, Value otherwise,
              const std::string& module, const ModulePatterns& patterns,
              std::set<std::string>* used) {
  const std::pair<const std::string, Value>* found = nullptr;
  for (const auto& entry : values) {
    if (!patterns.Fits(entry.first, PatternExtent::kEndOfPath, module)) continue;
    used->insert(entry.first);
    if (found != nullptr && found->second != entry.second) {
      RefuseTargets(Quoted(found->first) + " gives " + Quoted(module) + " the " + name + " " +
                        Shortest(found->second) + ", and " + Quoted(entry.first) + " gives it " +
                        Shortest(entry.second),
                    "let one of them not fit it: PEFT takes either");
    }
    found = &entry;
  }
  return found == nullptr ? otherwise : found->second;
}

template <typename Value>
void RequireUsed(const char* name, const std::map<std::string, Value>& values,
                 const std::set<std::string>& used, const std::vector<std::string>& targets,
                 const std::vector<std::string>& modules, const ModulePatterns& patterns) {
  for (const auto& entry : values) {
    const std::string& pattern = entry.first;
    if (used.contains(pattern)) continue;
    const auto other = std::find_if(modules.begin(), modules.end(), [&](const auto& module) {
      return patterns.Fits(pattern, PatternExtent::kEndOfPath, module);
    });
    const std::string remedy = other == modules.end()
                                   ? Nearby(pattern, targets)
                                   : "it fits " + *other + ", which is to be a target then";
    RefuseTargets(std::string(name) + " is given for " + Quoted(pattern) + ", which fits no target",
                  remedy);
  }
}

// Paths of what is not among `modules`: what has parameters of its own, what these stand in, and
// something that may stand there too.
std::set<std::string> OtherModules(const std::vector<std::string>& modules,
                                   const std::set<std::string>& parameters) {
  const std::set<std::string> linear(modules.begin(), modules.end());
  std::set<std::string> others = {"lm_head"};
  for (const std::string& parameter : parameters) {
    std::string path = parameter;
    while (path.find('.') != std::string::npos) {
      path.resize(path.rfind('.'));
      if (linear.contains(path)) continue;
      others.insert(path);
      others.insert(path + ".act_fn");
    }
  }
  return others;
}

}  // namespace

void CheckAdapterOptions(const AdapterOptions& options) {
  if (options.kind == AdapterKind::kMixers) return;
  CheckNumbers("rank", options.rank, options.ranks, &IsRank, "1 or more");
  CheckNumbers("alpha", options.alpha, options.alphas, &IsAlpha, "a number above 0");
  CheckNumbers("dropout", options.dropout, options.dropouts, &IsDropout, "within 0 to 1, below 1");
  Compiled(options);
}

void CheckAdapterPatterns(const AdapterOptions& options) {
  if (options.kind == AdapterKind::kMixers) return;
  ForEachPattern(options, [](const std::string& pattern, PatternExtent, const char* name) {
    const std::optional<std::string> problem = PatternProblem(pattern);
    if (!problem) return;
    RefuseTargets("the pattern " + Quoted(pattern) + " for " + name +
                      " is no regular expression that PEFT reads: " + *problem,
                  "correct it; .* stands for anything, \\. for a dot, (q|k)_proj for either");
  });
}

std::vector<AdapterTarget> TargetsOf(const AdapterOptions& options,
                                     const std::vector<std::string>& modules) {
  const auto patterns = Compiled(options);
  const std::vector<std::string> chosen = options.target_pattern.empty()
                                              ? NamedTargets(options, modules)
                                              : FittingTargets(options, modules, *patterns);
  std::set<std::string> ranks, alphas, dropouts;
  std::vector<AdapterTarget> targets;
  for (const std::string& module : chosen) {
    AdapterTarget& target = targets.emplace_back();
    target.module = module;
    target.rank = ValueOf("rank", options.ranks, options.rank, module, *patterns, &ranks);
    const double alpha =
        ValueOf("alpha", options.alphas, options.alpha, module, *patterns, &alphas);
    target.scale = alpha / (options.rslora ? std::sqrt(target.rank) : target.rank);
    target.dropout =
        ValueOf("dropout", options.dropouts, options.dropout, module, *patterns, &dropouts);
  }
  RequireUsed("rank", options.ranks, ranks, chosen, modules, *patterns);
  RequireUsed("alpha", options.alphas, alphas, chosen, modules, *patterns);
  RequireUsed("dropout", options.dropouts, dropouts, chosen, modules, *patterns);
  return targets;
}

ModuleNames TargetNames(const AdapterOptions& options, const std::vector<std::string>& modules,
                        const std::set<std::string>& parameters) {
  if (AreAll(options)) return {{}, kAllLinear};
  if (options.target_pattern.empty()) return {options.targets, ""};
  const auto patterns = Compiled(options);
  for (const std::string& other : OtherModules(modules, parameters)) {
    if (!patterns->Fits(options.target_pattern, PatternExtent::kWholePath, other)) continue;
    return {FittingTargets(options, modules, *patterns), ""};
  }
  return {{}, options.target_pattern};
}

}  // namespace eidetic::model
