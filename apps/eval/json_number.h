// JSON has no NaN and no infinity.
#ifndef EIDETIC_APPS_EVAL_JSON_NUMBER_H_
#define EIDETIC_APPS_EVAL_JSON_NUMBER_H_

#include <cmath>
#include <nlohmann/json.hpp>

namespace eidetic::eval {

// null when the value is not finite.
inline nlohmann::json json_number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_JSON_NUMBER_H_
