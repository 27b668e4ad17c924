// The C interface's functions for turns and kept sessions.
#include <utility>

#include "sdk/c_handles.h"
#include "sdk/clock.h"
#include "sdk/session_reports.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
using memory::Code;
using memory::Status;

namespace {

// Keeps a session's name taken while it is changed, so that nobody opens it meanwhile.
class NameHold {
 public:
  NameHold(eid_archive* archive, const char* name)
      : sessions_(archive->open_sessions), name_(name), held_(sessions_->Enter(name_)) {}
  ~NameHold() {
    if (held_) sessions_->Leave(name_);
  }
  NameHold(const NameHold&) = delete;
  NameHold& operator=(const NameHold&) = delete;
  Status status() const {
    if (held_) return Status();
    return Status(Code::kLocked, "session '" + name_ + "' is open in this process",
                  "free that session first");
  }

 private:
  std::shared_ptr<sdk::OpenSessions> sessions_;
  std::string name_;
  bool held_;
};

Status CheckNamed(const eid_archive* archive, const char* name) {
  EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
  return sdk::RequireText(name, "name");
}

}  // namespace

eid_status eid_session_commit(eid_session* session, const eid_commit_options* options,
                              eid_commit_result* result, eid_error* error) {
  sdk::Clear(result);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::CheckResult(result, "eid_commit_result"));
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    eid_commit_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_commit_options", &given));
    if (given.name != nullptr) EID_RETURN_IF_ERROR(sdk::RequireName(given.name, "name"));
    EID_ASSIGN_OR_RETURN(const sdk::CommittedTurn turn,
                         use->CommitTurn(given.name != nullptr ? given.name : ""));
    eid_commit_result told = {};
    told.turn = turn.turn;
    told.tokens = turn.tokens;
    told.bytes = turn.bytes;
    told.seconds = turn.seconds;
    sdk::WriteResult(told, result);
    return Status();
  });
}

eid_status eid_session_save(eid_session* session, eid_error* error) {
  return eid_session_commit(session, nullptr, nullptr, error);
}

eid_status eid_archive_sessions(const eid_archive* archive, const char* name, eid_string** json,
                                eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    EID_ASSIGN_OR_RETURN(std::string text, name == nullptr
                                               ? sdk::SessionsJson(*archive->archive)
                                               : sdk::SessionJson(*archive->archive, name));
    *json = sdk::NewString(std::move(text));
    return Status();
  });
}

eid_status eid_archive_fork_session(eid_archive* archive, const char* name, uint64_t turn,
                                    const char* new_name, eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(CheckNamed(archive, name));
    EID_RETURN_IF_ERROR(sdk::RequireName(new_name, "new_name"));
    // A session of that name may be open and not committed yet.
    const NameHold hold(archive, new_name);
    EID_RETURN_IF_ERROR(hold.status());
    memory::SessionStore& sessions = archive->archive->sessions();
    if (turn == 0) {
      EID_ASSIGN_OR_RETURN(const memory::SessionHead head, sessions.Find(name));
      EID_ASSIGN_OR_RETURN(const auto waiting, sessions.Waiting(name));
      turn = waiting.empty() ? head.turns() : waiting.back().turn;
    }
    return sessions.Fork(name, turn, new_name, sdk::MillisecondsSince1970());
  });
}

eid_status eid_archive_rewind_session(eid_archive* archive, const char* name, uint64_t turn,
                                      eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(CheckNamed(archive, name));
    const NameHold hold(archive, name);
    EID_RETURN_IF_ERROR(hold.status());
    return archive->archive->sessions().Rewind(name, turn, sdk::MillisecondsSince1970());
  });
}

eid_status eid_archive_delete_session(eid_archive* archive, const char* name, eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(CheckNamed(archive, name));
    const NameHold hold(archive, name);
    EID_RETURN_IF_ERROR(hold.status());
    return archive->archive->sessions().Remove(name);
  });
}

eid_status eid_archive_export_session(const eid_archive* archive, const char* name,
                                      eid_export_format format, eid_string** out,
                                      eid_error* error) {
  sdk::Clear(out);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(out, "out"));
    EID_RETURN_IF_ERROR(CheckNamed(archive, name));
    const int wanted = sdk::NumberOf(format);
    if (wanted != EID_EXPORT_TEXT && wanted != EID_EXPORT_JSON) {
      return Status(Code::kInvalidArgument, "format is " + std::to_string(wanted),
                    "use one of the values of eid_export_format");
    }
    EID_ASSIGN_OR_RETURN(
        std::string text,
        sdk::ExportSession(*archive->archive, name, static_cast<sdk::ExportFormat>(wanted)));
    *out = sdk::NewString(std::move(text));
    return Status();
  });
}
