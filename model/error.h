// The one exception type of model/. LibTorch throws too; whoever calls model/ from outside catches
// both at the edge (sdk/engine.cc) and turns them into a status.
#ifndef EIDETIC_MODEL_ERROR_H_
#define EIDETIC_MODEL_ERROR_H_

#include <stdexcept>
#include <string>
#include <utility>

namespace eidetic::model {

enum class ErrorCode {
  kInvalidArgument,  // the call is wrong
  kNotFound,         // no such file
  kIo,               // the system refused a read or a write
  kNoSpace,          // the disk is full
  kCorruption,       // the bytes are not what their format says
  kUnsupported,      // a model, tensor type or device this build cannot serve
  kMismatch,         // a patch for another base, a state of another model
  kCancelled,
};

// what() says what was wrong, with what value, and where; remedy() what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::string remedy = {})
      : std::runtime_error(message), code_(code), remedy_(std::move(remedy)) {}
  ErrorCode code() const { return code_; }
  const std::string& remedy() const { return remedy_; }

 private:
  ErrorCode code_;
  std::string remedy_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ERROR_H_
