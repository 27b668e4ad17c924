// The wall where exceptions of model/ and LibTorch end and become a status (house style, rule 10).
#ifndef EIDETIC_SDK_ERROR_WALL_H_
#define EIDETIC_SDK_ERROR_WALL_H_

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "memory/status.h"
#include "model/error.h"

namespace eidetic::sdk {

// Carries a status of memory/ through code that can only throw: the model's seams.
class StatusError : public std::runtime_error {
 public:
  explicit StatusError(memory::Status status)
      : std::runtime_error(status.message()), status_(std::move(status)) {}
  const memory::Status& status() const { return status_; }

 private:
  memory::Status status_;
};

inline void ThrowIfError(memory::Status status) {
  if (!status.ok()) throw StatusError(std::move(status));
}

// The status of the exception being handled. Call inside a catch block.
memory::Status StatusOfCurrentException();

// Runs `body`, which returns a Status or a Result, and turns what it throws into a status.
template <typename Body>
auto BehindWall(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (...) {
    return StatusOfCurrentException();
  }
}

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_ERROR_WALL_H_
