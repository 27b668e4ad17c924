#include "sdk/error_wall.h"

#include "model/resource_errors.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Status;

namespace {

Code CodeOf(model::ErrorCode code) {
  switch (code) {
    case model::ErrorCode::kInvalidArgument:
      return Code::kInvalidArgument;
    case model::ErrorCode::kNotFound:
      return Code::kNotFound;
    case model::ErrorCode::kIo:
      return Code::kIoError;
    case model::ErrorCode::kNoSpace:
      return Code::kNoSpace;
    case model::ErrorCode::kCorruption:
      return Code::kCorruption;
    case model::ErrorCode::kUnsupported:
      return Code::kUnsupported;
    case model::ErrorCode::kMismatch:
      return Code::kFingerprintMismatch;
    case model::ErrorCode::kCancelled:
      return Code::kCancelled;
  }
  return Code::kInternal;
}

constexpr char kMemoryRemedy[] = "close other programs, or use a smaller window or cache budget";

}  // namespace

Status StatusOfCurrentException() {
  try {
    throw;
  } catch (const StatusError& error) {
    return error.status();
  } catch (const model::OutOfMemoryError& error) {
    return Status(Code::kOutOfMemory, error.what(), error.remedy());
  } catch (const model::LockedError& error) {
    return Status(Code::kLocked, error.what(), error.remedy());
  } catch (const model::Error& error) {
    return Status(CodeOf(error.code()), error.what(), error.remedy());
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "out of memory", kMemoryRemedy);
  } catch (const std::exception& error) {
    // LibTorch's messages end in a stack trace; the first line says what happened.
    const std::string message = error.what();
    if (model::IsOutOfMemory(message)) {
      return Status(Code::kOutOfMemory, message.substr(0, message.find('\n')), kMemoryRemedy);
    }
    return Status(Code::kInternal, message.substr(0, message.find('\n')),
                  "please report this with the command that led to it");
  } catch (...) {
    return Status(Code::kInternal, "an unknown exception was thrown",
                  "please report this with the command that led to it");
  }
}

}  // namespace eidetic::sdk
