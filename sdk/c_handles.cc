#include "sdk/c_handles.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "model/utf8.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

static_assert(static_cast<int>(Code::kInternal) == EID_INTERNAL);
static_assert(static_cast<int>(Code::kFingerprintMismatch) == EID_FINGERPRINT_MISMATCH);

namespace {

// Owners of what the public structs point to. The public struct is the first base, so that a
// pointer to it leads back to its owner.
struct OwnedString : eid_string {
  std::string text;
};

struct OwnedPassages : eid_passages {
  std::vector<Passage> passages;
  std::vector<std::vector<eid_layer_share>> layers;  // of each passage
  std::vector<eid_passage> views;
};

// An error that does not know better says what helps against its kind.
std::string RemedyOf(const Status& status) {
  if (!status.remedy().empty()) return status.remedy();
  switch (status.code()) {
    case Code::kCorruption:
      return "run `eidetic memory verify` to see what is damaged; ingest the named documents "
             "again, or restore the archive from a backup";
    case Code::kIoError:
      return "check that the file or folder is there, its permissions, and the disk";
    case Code::kNoSpace:
      return "free space and run again";
    case Code::kOutOfMemory:
      return "close other programs, or use a smaller window or cache budget";
    case Code::kInternal:
      return "please report this with what led to it";
    default:
      return {};
  }
}

void CopyTruncated(const std::string& text, char* to, size_t capacity) {
  size_t length = std::min(text.size(), capacity - 1);
  // Never half a UTF-8 character at the end.
  while (length < text.size() && length > 0 && (text[length] & 0xC0) == 0x80) --length;
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

eid_string ViewOf(const std::string& text) {
  return {text.c_str(), text.size()};
}

}  // namespace

eid_status Report(const Status& status, eid_error* error) {
  const auto code = static_cast<eid_status>(status.code());
  if (error == nullptr) return code;
  // A struct that claims to be smaller than it ever was is not written to; one that was zeroed, and
  // not sized, has room for what it is told.
  if (error->struct_size != 0 && error->struct_size < kKnownSizes<eid_error>.front()) return code;
  error->status = code;
  CopyTruncated(status.message(), error->message, sizeof(error->message));
  CopyTruncated(RemedyOf(status), error->remedy, sizeof(error->remedy));
  return code;
}

Status UnknownSize(const char* name, size_t size, size_t newest) {
  const std::string type(name);
  std::string what = "the struct_size of an " + type + " is " + std::to_string(size) +
                     ", libeidetic " + eid_version() + " knows it with " + std::to_string(newest) +
                     " bytes";
  std::string remedy = "set struct_size to sizeof(" + type + ") and zero the rest";
  if (size > newest) {
    remedy +=
        "; if that was done, the program was compiled with a newer eidetic.h: use its library";
  }
  return Status(Code::kInvalidArgument, std::move(what), std::move(remedy));
}

Status RequireText(const char* text, const char* name) {
  if (text != nullptr && *text != '\0') return Status();
  return Status(Code::kInvalidArgument, std::string("no ") + name + " is given",
                "set it to a text that is not empty");
}

Status RequireName(const char* text, const char* name) {
  EID_RETURN_IF_ERROR(RequireText(text, name));
  const size_t bad = model::FindInvalidUtf8(text);
  if (bad == std::string_view::npos) return Status();
  return Status(Code::kInvalidArgument,
                std::string(name) + " is not UTF-8: the sequence at byte " + std::to_string(bad) +
                    " is invalid",
                "give it a name in UTF-8");
}

Status RequireLength(const char* text, size_t length, const char* name) {
  if (text == nullptr && length != 0 && length != EID_NUL_TERMINATED) {
    return Status(Code::kInvalidArgument,
                  std::string(name) + " is NULL, with a length of " + std::to_string(length),
                  "set both, or neither");
  }
  if (text == nullptr || *text == '\0' || length != 0) return Status();
  return Status(Code::kInvalidArgument, std::string(name) + " is set, and " + name + "_length is 0",
                std::string("set ") + name + "_length to its bytes, or to EID_NUL_TERMINATED");
}

Status RequireHandle(const void* handle, const char* name) {
  if (handle != nullptr) return Status();
  return Status(Code::kInvalidArgument, std::string(name) + " is NULL", "pass one");
}

std::string DefaultCacheDir() {
  if (const char* set = std::getenv("EIDETIC_CACHE"); set != nullptr && *set != '\0') return set;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0') {
    return std::string(xdg) + "/eidetic";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::string(home) + "/.cache/eidetic";
  }
  return {};
}

eid_string* NewString(std::string text) {
  auto* owned = new OwnedString();
  owned->text = std::move(text);
  static_cast<eid_string&>(*owned) = ViewOf(owned->text);
  return owned;
}

eid_passages* NewPassages(std::vector<Passage> passages) {
  auto owned = std::make_unique<OwnedPassages>();
  owned->passages = std::move(passages);
  owned->layers.reserve(owned->passages.size());
  for (const Passage& passage : owned->passages) {
    eid_passage view = {};
    view.collection = ViewOf(passage.collection);
    view.source = ViewOf(passage.source);
    view.text = ViewOf(passage.text);
    view.document = passage.document;
    view.byte_begin = passage.byte_begin;
    view.byte_end = passage.byte_end;
    view.token_begin = passage.token_begin;
    view.token_end = passage.token_end;
    view.blocks = passage.blocks;
    view.attention = passage.attention;
    view.focus = passage.focus;
    view.focus_layer = passage.focus_layer;
    view.score = passage.score;
    view.presence = passage.presence;
    std::vector<eid_layer_share>& layers = owned->layers.emplace_back();
    for (const LayerShare& share : passage.layers) {
      layers.push_back({share.layer, share.attention, share.presence});
    }
    view.layers = layers.data();
    view.layer_count = layers.size();
    if (passage.by_attention) view.reasons |= EID_BY_ATTENTION;
    if (passage.by_words) view.reasons |= EID_BY_WORDS;
    view.word_score = passage.word_score;
    view.text_begin = passage.text_begin;
    view.text_end = passage.text_end;
    owned->views.push_back(view);
  }
  owned->count = owned->views.size();
  owned->items = owned->views.data();
  return owned.release();
}

Result<memory::RecallPolicy> PolicyOption(int policy, memory::RecallPolicy fallback) {
  switch (policy) {
    case EID_RECALL_DEFAULT:
      return fallback;
    case EID_RECALL_ATTENTION:
      return memory::RecallPolicy::kAttention;
    case EID_RECALL_WORDS:
      return memory::RecallPolicy::kWords;
    case EID_RECALL_BOTH:
      return memory::RecallPolicy::kBoth;
  }
  return Status(Code::kInvalidArgument, "policy is " + std::to_string(policy),
                "use one of the values of eid_recall_policy");
}

Result<kernels::Codec> CodecOption(const char* name) {
  kernels::Codec codec = kernels::Codec::kInt8;
  if (name != nullptr && *name != '\0' && !kernels::ParseCodec(name, &codec)) {
    return Status(Code::kInvalidArgument, "codec '" + std::string(name) + "' is unknown",
                  "use \"int8\" or \"fp16\"");
  }
  return codec;
}

// Whether a session may be looked into is the handle's own business: a const one is used as well.
SessionUse::SessionUse(const eid_session* session) : session_(const_cast<eid_session*>(session)) {
  status_ = RequireHandle(session, "session");
  if (!status_.ok()) return;
  std::lock_guard lock(session_->mutex);
  if (!session_->in_use) {
    session_->in_use = true;
    session_->user = std::this_thread::get_id();
    return;
  }
  const bool own = session_->user == std::this_thread::get_id();
  session_ = nullptr;
  status_ = Status(Code::kInvalidArgument,
                   own ? "the session is called from its own callback"
                       : "the session is in use by another thread",
                   own ? "return from the callback first; to stop the call, return non-zero from it"
                       : "a session belongs to one thread at a time: make one for each");
}

SessionUse::~SessionUse() {
  if (session_ == nullptr) return;
  {
    std::lock_guard lock(session_->mutex);
    session_->in_use = false;
    if (!session_->freed) return;
  }
  delete session_;
}

Status SessionUse::CheckNotFreed() const {
  std::lock_guard lock(session_->mutex);
  if (!session_->freed) return Status();
  return Status(Code::kInvalidArgument, "the session was freed while it was in use",
                "free a session when no call into it is under way, and not in its own callbacks");
}

}  // namespace eidetic::sdk

using eidetic::sdk::OwnedPassages;
using eidetic::sdk::OwnedString;

void eid_string_free(eid_string* string) {
  delete static_cast<OwnedString*>(string);
}

void eid_passages_free(eid_passages* passages) {
  delete static_cast<OwnedPassages*>(passages);
}

const char* eid_version(void) {
  static const std::string version = std::to_string(EID_VERSION_MAJOR) + "." +
                                     std::to_string(EID_VERSION_MINOR) + "." +
                                     std::to_string(EID_VERSION_PATCH);
  return version.c_str();
}

const char* eid_status_name(eid_status status) {
  switch (status) {
    case EID_OK:
      return "ok";
    case EID_INVALID_ARGUMENT:
      return "invalid argument";
    case EID_NOT_FOUND:
      return "not found";
    case EID_ALREADY_EXISTS:
      return "already exists";
    case EID_IO_ERROR:
      return "i/o error";
    case EID_NO_SPACE:
      return "no space";
    case EID_CORRUPTION:
      return "corruption";
    case EID_LOCKED:
      return "locked";
    case EID_FINGERPRINT_MISMATCH:
      return "fingerprint mismatch";
    case EID_UNSUPPORTED:
      return "unsupported";
    case EID_CANCELLED:
      return "cancelled";
    case EID_OUT_OF_MEMORY:
      return "out of memory";
    case EID_INTERNAL:
      return "internal error";
  }
  return "unknown status";
}
