// What stands behind the opaque handles of the C interface, and the small tools its functions
// share.
#ifndef EIDETIC_SDK_C_HANDLES_H_
#define EIDETIC_SDK_C_HANDLES_H_

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
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

// The sizes that `Struct` had in the versions of eidetic.h, oldest first, this version's last: what
// a caller's struct_size may be. A struct that grows, at its end, gets a specialisation that keeps
// the older sizes: the offset of its first new field, when that is where the older one ended.
template <typename Struct>
inline constexpr std::array<size_t, 1> kKnownSizes = {sizeof(Struct)};
template <>
inline constexpr std::array<size_t, 3> kKnownSizes<eid_engine_options> = {
    offsetof(eid_engine_options, adapter_path), offsetof(eid_engine_options, rope_scaling),
    sizeof(eid_engine_options)};
template <>
inline constexpr std::array<size_t, 2> kKnownSizes<eid_session_options> = {
    offsetof(eid_session_options, policy), sizeof(eid_session_options)};
template <>
inline constexpr std::array<size_t, 2> kKnownSizes<eid_ingest_options> = {
    offsetof(eid_ingest_options, format), sizeof(eid_ingest_options)};
template <>
inline constexpr std::array<size_t, 3> kKnownSizes<eid_append_options> = {
    offsetof(eid_append_options, words), offsetof(eid_append_options, losses),
    sizeof(eid_append_options)};

template <>
inline constexpr std::array<size_t, 2> kKnownSizes<eid_migrate_options> = {
    offsetof(eid_migrate_options, fingerprint), sizeof(eid_migrate_options)};
template <>
inline constexpr std::array<size_t, 2> kKnownSizes<eid_tune_options> = {
    offsetof(eid_tune_options, target_pattern), sizeof(eid_tune_options)};
template <>
inline constexpr std::array<size_t, 2> kKnownSizes<eid_forget_options> = {
    offsetof(eid_forget_options, sources), sizeof(eid_forget_options)};

memory::Status UnknownSize(const char* name, size_t size, size_t newest);

// Refuses a struct whose struct_size was not set, or is of no version.
template <typename Struct>
memory::Status CheckSize(const Struct& given, const char* name) {
  for (size_t known : kKnownSizes<Struct>) {
    if (given.struct_size == known) return memory::Status();
  }
  return UnknownSize(name, given.struct_size, kKnownSizes<Struct>.back());
}

// Fills the caller's error (may be null) and gives the code.
eid_status Report(const memory::Status& status, eid_error* error);

// Runs a function's body, which returns a Status, behind the wall: nothing is thrown (rule 10).
// Does not begin when the caller could not be told what went wrong.
template <typename Body>
eid_status Call(eid_error* error, Body&& body) {
  return Report(BehindWall([&]() -> memory::Status {
                  if (error != nullptr) EID_RETURN_IF_ERROR(CheckSize(*error, "eid_error"));
                  return body();
                }),
                error);
}

// A C caller's enum may hold any number; reading it as the C++ enum would be undefined.
template <typename Enum>
int NumberOf(const Enum& given) {
  static_assert(sizeof(Enum) == sizeof(int));
  int number;
  std::memcpy(&number, &given, sizeof(number));
  return number;
}

// The caller's options struct as this version knows it: none at all reads as zeros, an older,
// smaller one ends in zeros.
template <typename Struct>
memory::Status ReadOptions(const Struct* given, const char* name, Struct* options) {
  static_assert(std::is_trivially_copyable_v<Struct>);
  std::memset(static_cast<void*>(options), 0, sizeof(Struct));
  if (given == nullptr) return memory::Status();
  EID_RETURN_IF_ERROR(CheckSize(*given, name));
  std::memcpy(static_cast<void*>(options), given, given->struct_size);
  return memory::Status();
}

// Refuses a result struct (may be null) that could not be filled.
template <typename Struct>
memory::Status CheckResult(const Struct* out, const char* name) {
  return out == nullptr ? memory::Status() : CheckSize(*out, name);
}

// Writes a result struct into the caller's (null, or of a known size), as far as that one goes.
template <typename Struct>
void WriteResult(const Struct& result, Struct* out) {
  if (out == nullptr) return;
  std::memcpy(reinterpret_cast<unsigned char*>(out) + sizeof(size_t),
              reinterpret_cast<const unsigned char*>(&result) + sizeof(size_t),
              out->struct_size - sizeof(size_t));
}

// Sets an out-parameter (may be null) to NULL or zero, as a call that fails leaves it. A result
// struct that is of no known size is left alone.
template <typename Out>
void Clear(Out* out) {
  if (out == nullptr) return;
  if constexpr (requires { out->struct_size; }) {
    if (CheckSize(*out, "").ok()) WriteResult(Out{}, out);
  } else {
    *out = Out{};
  }
}

// A string argument; EID_NUL_TERMINATED is honoured; null gives an empty view.
inline std::string_view View(const char* data, size_t length) {
  if (data == nullptr) return {};
  return {data, length == EID_NUL_TERMINATED ? std::strlen(data) : length};
}
// Refuses a null or empty argument, naming it.
memory::Status RequireText(const char* text, const char* name);
// The same for the name of something to be kept, which must be UTF-8.
memory::Status RequireName(const char* text, const char* name);
// Refuses text that was given without its length.
memory::Status RequireLength(const char* text, size_t length, const char* name);
memory::Status RequireHandle(const void* handle, const char* name);

// $EIDETIC_CACHE, else the user's cache folder as the XDG specification has it; empty when neither
// can be told.
std::string DefaultCacheDir();

eid_string* NewString(std::string text);
eid_passages* NewPassages(std::vector<Passage> passages);

memory::Result<memory::RecallPolicy> PolicyOption(int policy, memory::RecallPolicy fallback);
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
  std::mutex mutex;  // guards what follows
  bool in_use = false;
  bool freed = false;    // while it was in use: deleted when the call is over
  std::thread::id user;  // whose call it is
  ~eid_session() {
    if (open_sessions != nullptr) open_sessions->Leave(name);
  }
};

namespace eidetic::sdk {

// One call at a time into a session: a callback that calls it, or another thread, is told so. The
// end of the use deletes a session that was freed meanwhile.
class SessionUse {
 public:
  explicit SessionUse(const eid_session* session);
  ~SessionUse();
  SessionUse(const SessionUse&) = delete;
  SessionUse& operator=(const SessionUse&) = delete;

  // Why the session cannot be used: it is NULL, or in use.
  const memory::Status& status() const { return status_; }
  // An error once the session was freed during the call.
  memory::Status CheckNotFreed() const;
  Session& operator*() const { return *session_->session; }
  Session* operator->() const { return session_->session.get(); }

 private:
  eid_session* session_;  // null: not taken
  memory::Status status_;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_C_HANDLES_H_
