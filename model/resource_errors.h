// Errors that are not of what was asked for but of the machine it was asked of: memory that ended,
// something that another process uses.
#ifndef EIDETIC_MODEL_RESOURCE_ERRORS_H_
#define EIDETIC_MODEL_RESOURCE_ERRORS_H_

#include <string>
#include <string_view>
#include <utility>

#include "model/error.h"

namespace eidetic::model {

// Of the host or of a device.
class OutOfMemoryError : public Error {
 public:
  OutOfMemoryError(const std::string& message, std::string remedy)
      : Error(ErrorCode::kUnsupported, message, std::move(remedy)) {}
};

class LockedError : public Error {
 public:
  LockedError(const std::string& message, std::string remedy)
      : Error(ErrorCode::kUnsupported, message, std::move(remedy)) {}
};

// LibTorch's allocators, of the CPU and of CUDA, tell it in words only.
inline bool IsOutOfMemory(std::string_view message) {
  for (const std::string_view words :
       {"not enough memory", "can't allocate memory", "out of memory"}) {
    if (message.find(words) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_RESOURCE_ERRORS_H_
