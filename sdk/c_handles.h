// What stands behind the opaque handles of the C interface, and the small tools its functions
// share.
#ifndef EIDETIC_SDK_C_HANDLES_H_
#define EIDETIC_SDK_C_HANDLES_H_

#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "memory/archive.h"
#include "memory/status.h"
#include "sdk/engine.h"
#include "sdk/error_wall.h"
#include "sdk/include/eidetic/eidetic.h"
#include "sdk/passages.h"
#include "sdk/session.h"

namespace eidetic::sdk {

// Names of the sessions of one archive that are open in this process: each may be open once.
class OpenSessions {
 public:
  // False when it is open already.
  bool Enter(const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex_);
    return names_.insert(name).second;
  }
  void Leave(const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex_);
    names_.erase(name);
  }

 private:
  std::mutex mutex_;
  std::set<std::string> names_;
};

// Fills the caller's error (may be null) and gives the code.
eid_status Report(const memory::Status& status, eid_error* error);

// Runs a function's body, which returns a Status, behind the wall: nothing is thrown (rule 10).
template <typename Body>
eid_status Call(eid_error* error, Body&& body) {
  return Report(BehindWall([&]() -> memory::Status { return body(); }), error);
}

// The caller's options struct as this version knows it: an older, smaller one reads as zeros; a
// newer, larger one is accepted while what we do not know is zero.
template <typename Struct>
memory::Status ReadOptions(const Struct* given, const char* name, Struct* options) {
  static_assert(std::is_trivially_copyable_v<Struct>);
  using memory::Code;
  using memory::Status;
  if (given == nullptr) {
    return Status(Code::kInvalidArgument, std::string(name) + " is NULL");
  }
  const size_t size = given->struct_size;
  if (size < sizeof(size_t)) {
    return Status(Code::kInvalidArgument,
                  std::string(name) + "->struct_size is " + std::to_string(size),
                  "set it to sizeof(" + std::string(name) + ")");
  }
  std::memset(static_cast<void*>(options), 0, sizeof(Struct));
  std::memcpy(static_cast<void*>(options), given, size < sizeof(Struct) ? size : sizeof(Struct));
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] == 0) continue;
    return Status(Code::kUnsupported,
                  std::string(name) + " sets an option that this version of eidetic lacks",
                  "use a newer libeidetic, or leave the option zero");
  }
  return Status();
}

// Writes a result struct (may be null) into the caller's, as far as that one goes.
template <typename Struct>
void WriteResult(const Struct& result, Struct* out) {
  if (out == nullptr) return;
  const size_t size = out->struct_size < sizeof(Struct) ? out->struct_size : sizeof(Struct);
  if (size < sizeof(size_t)) return;
  std::memcpy(reinterpret_cast<unsigned char*>(out) + sizeof(size_t),
              reinterpret_cast<const unsigned char*>(&result) + sizeof(size_t),
              size - sizeof(size_t));
}

// A string argument; EID_NUL_TERMINATED is honoured; null gives an empty view.
inline std::string_view View(const char* data, size_t length) {
  if (data == nullptr) return {};
  return {data, length == EID_NUL_TERMINATED ? std::strlen(data) : length};
}
// Refuses a null or empty argument, naming it.
memory::Status RequireText(const char* text, const char* name);
memory::Status RequireHandle(const void* handle, const char* name);

eid_string* NewString(std::string text);
eid_passages* NewPassages(std::vector<Passage> passages);

memory::Result<memory::RecallPolicy> PolicyOption(eid_recall_policy policy,
                                                  memory::RecallPolicy fallback);
memory::Result<kernels::Codec> CodecOption(const char* name);

}  // namespace eidetic::sdk

struct eid_engine {
  std::shared_ptr<const eidetic::sdk::Engine> engine;
};

struct eid_archive {
  std::shared_ptr<eidetic::memory::Archive> archive;
  std::shared_ptr<eidetic::sdk::OpenSessions> open_sessions;
};

struct eid_session {
  std::unique_ptr<eidetic::sdk::Session> session;
  std::shared_ptr<eidetic::sdk::OpenSessions> open_sessions;  // null: lives in RAM
  std::string name;
  ~eid_session() {
    if (open_sessions != nullptr) open_sessions->Leave(name);
  }
};

#endif  // EIDETIC_SDK_C_HANDLES_H_
