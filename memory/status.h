// Errors as values, for memory/ and sdk/: a code, what was wrong, and what to do about it.
#ifndef EIDETIC_MEMORY_STATUS_H_
#define EIDETIC_MEMORY_STATUS_H_

#include <optional>
#include <string>
#include <utility>

namespace eidetic::memory {

// The same codes, in the same order, as `eid_status` in the C interface.
enum class Code {
  kOk = 0,
  kInvalidArgument = 1,
  kNotFound = 2,
  kAlreadyExists = 3,
  kIoError = 4,
  kNoSpace = 5,
  kCorruption = 6,
  kLocked = 7,
  kFingerprintMismatch = 8,
  kUnsupported = 9,
  kCancelled = 10,
  kOutOfMemory = 11,
  kInternal = 12,
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, std::string remedy = {})
      : code_(code), message_(std::move(message)), remedy_(std::move(remedy)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& remedy() const { return remedy_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
  std::string remedy_;
};

// A value, or the status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

#define EID_RETURN_IF_ERROR(expr)                                                              \
  do {                                                                                         \
    if (::eidetic::memory::Status eid_status_ = (expr); !eid_status_.ok()) return eid_status_; \
  } while (false)

#define EID_CONCAT_INNER_(a, b) a##b
#define EID_CONCAT_(a, b) EID_CONCAT_INNER_(a, b)
// EID_ASSIGN_OR_RETURN(auto value, Call());
#define EID_ASSIGN_OR_RETURN(lhs, expr)                 \
  auto EID_CONCAT_(eid_result_, __LINE__) = (expr);     \
  if (!EID_CONCAT_(eid_result_, __LINE__).ok()) {       \
    return EID_CONCAT_(eid_result_, __LINE__).status(); \
  }                                                     \
  lhs = std::move(EID_CONCAT_(eid_result_, __LINE__)).value()

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_STATUS_H_
