// The C interface's function that forgets.
#include <utility>
#include <vector>

#include "sdk/c_handles.h"
#include "sdk/forget_report.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
using memory::Code;
using memory::Status;

namespace {

// Keeps sessions from being opened while they are changed.
class HeldSessions {
 public:
  explicit HeldSessions(const eid_archive* archive) : sessions_(archive->open_sessions) {}
  ~HeldSessions() {
    for (const std::string& name : held_) sessions_->Leave(name);
  }
  HeldSessions(const HeldSessions&) = delete;
  HeldSessions& operator=(const HeldSessions&) = delete;
  Status Hold(const std::string& name) {
    if (held_.contains(name)) return Status();
    if (!sessions_->Enter(name)) {
      return Status(Code::kLocked,
                    "session '" + name + "' would lose something, and is open in this process",
                    "free that session first");
    }
    held_.insert(name);
    return Status();
  }

 private:
  std::shared_ptr<sdk::OpenSessions> sessions_;
  std::set<std::string> held_;
};

memory::Result<memory::ForgetRequest> RequestOf(const eid_forget_options& given) {
  memory::ForgetRequest request;
  for (const auto& [name, text, field] :
       {std::tuple{"collection", given.collection, &request.collection},
        std::tuple{"source", given.source, &request.source},
        std::tuple{"session", given.session, &request.session}}) {
    if (text == nullptr || *text == '\0') continue;
    EID_RETURN_IF_ERROR(sdk::RequireName(text, name));
    *field = text;
  }
  if (given.source_count > 0) EID_RETURN_IF_ERROR(sdk::RequireHandle(given.sources, "sources"));
  for (size_t i = 0; i < given.source_count; ++i) {
    EID_RETURN_IF_ERROR(sdk::RequireName(given.sources[i], "sources"));
    request.sources.emplace_back(given.sources[i]);
  }
  request.has_range = given.byte_begin != 0 || given.byte_end != 0;
  request.byte_begin = given.byte_begin;
  request.byte_end = given.byte_end;
  request.turn = given.turn;
  request.before = given.before;
  request.dry_run = given.dry_run != 0;
  request.verify_files = given.verify_files != 0;
  EID_RETURN_IF_ERROR(request.Validate());
  return request;
}

}  // namespace

eid_status eid_archive_forget(eid_archive* archive, const eid_forget_options* options,
                              eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    eid_forget_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_forget_options", &given));
    EID_ASSIGN_OR_RETURN(const memory::ForgetRequest request, RequestOf(given));
    HeldSessions held(archive);
    if (!request.dry_run) {
      // Who would lose something.
      memory::ForgetRequest look = request;
      look.dry_run = true;
      look.verify_files = false;
      EID_ASSIGN_OR_RETURN(const memory::ForgetReceipt would, archive->archive->Forget(look));
      for (const memory::TouchedSession& session : would.sessions) {
        EID_RETURN_IF_ERROR(held.Hold(session.name));
      }
    }
    EID_ASSIGN_OR_RETURN(const memory::ForgetReceipt receipt, archive->archive->Forget(request));
    *json = sdk::NewString(sdk::ForgetJson(receipt));
    if (!receipt.scan || receipt.scan->clean()) return Status();
    return Status(Code::kCorruption,
                  "what was forgotten is still in " + archive->archive->path() + ": " +
                      receipt.scan->found.front(),
                  "remove that file if it is not the archive's own; otherwise run `eidetic memory "
                  "verify` and forget it again");
  });
}
