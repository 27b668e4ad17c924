// Reading again what came after something that was forgotten (docs/decisions/070).
#include <utility>
#include <vector>

#include "sdk/clock.h"
#include "sdk/error_wall.h"
#include "sdk/session.h"
#include "sdk/turn_record.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

// Whether each token of a turn was read with a span.
std::vector<bool> SpanOfTokens(const memory::TurnContent& content) {
  std::vector<bool> with_span;
  for (const memory::PassRun& run : content.passes) {
    with_span.insert(with_span.end(), size_t{run.tokens} * run.times, run.use_span);
  }
  return with_span;
}

}  // namespace

// Those that were forgotten, or migrated to another model, since are left out.
Status Session::AttachThere(const std::vector<std::string>& collections) {
  for (const std::string& collection : collections) {
    EID_ASSIGN_OR_RETURN(const bool there, IsOfThisModel(*archive_, collection));
    if (there) EID_RETURN_IF_ERROR(Attach(archive_, collection));
  }
  return Status();
}

// --- progress -----------------------------------------------------------------------------------

void Session::TellOpeningTo(std::function<bool(const AppendProgress&)> progress) {
  opening_.reset();
  if (progress) opening_ = OpeningProgress{std::move(progress)};
}

// All that will be read, so that the total stays what it is.
Status Session::CountOpening(const std::vector<memory::TurnContent>& to_read) {
  if (!opening_) return Status();
  for (const memory::TurnContent& content : to_read) {
    opening_->progress.total += content.tokens.size();
  }
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WaitingTurn> waiting,
                       archive_->sessions().Waiting(options_.name));
  for (const memory::WaitingTurn& turn : waiting) {
    opening_->progress.total += turn.content.tokens.size();
  }
  return Status();
}

Status Session::TellOpening(uint64_t tokens) {
  if (!opening_) return Status();
  AppendProgress& progress = opening_->progress;
  progress.tokens += tokens;
  progress.seconds = SecondsSince(opening_->start);
  return opening_->tell(progress) ? Status() : OpeningStopped();
}

Status Session::OpeningStopped() const {
  return Status(Code::kCancelled,
                "opening session '" + options_.name + "' was stopped after " +
                    std::to_string(opening_->progress.tokens) + " of " +
                    std::to_string(opening_->progress.total) + " tokens that it reads again",
                "open it again: nothing of it is lost");
}

// For a call that reads several segments.
std::function<bool(const AppendProgress&)> Session::OpeningCallback() {
  if (!opening_) return {};
  return [this, before = uint64_t{0}](const AppendProgress& read) mutable {
    const bool go_on = TellOpening(read.tokens - before).ok();
    before = read.tokens;
    return go_on;
  };
}

// --- turns that wait ----------------------------------------------------------------------------

// Every turn is one of its own again once it is read. An archive that was opened read-only keeps
// them waiting.
Status Session::ReadWaitingTurns() {
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WaitingTurn> waiting,
                       archive_->sessions().Waiting(options_.name));
  for (const memory::WaitingTurn& turn : waiting) {
    EID_RETURN_IF_ERROR(CheckSaved(options_, turn.content.tokens));
    if (!turn.forgotten) {
      const Status read = ReadAgain(turn.content);
      if (read.code() == Code::kCancelled && opening_) return OpeningStopped();
      EID_RETURN_IF_ERROR(read);
    }
    if (archive_->read_only()) {
      recall_->ForgetLastChoice();  // as where it is committed
      continue;
    }
    EID_RETURN_IF_ERROR(CommitLogged("", /*waiting=*/true).status());
  }
  if (waiting.empty()) return Status();
  record_open_ = false;
  recall_->ClearRecord();
  dirty_ = false;
  return Status();
}

// As it was said, part by part: what was generated is read, too. It recalls from what is there now.
Status Session::ReadAgain(const memory::TurnContent& content) {
  EID_ASSIGN_OR_RETURN(const TurnResume resume, DecodeResume(content.resume, options_.name));
  for (const memory::RecallView& view : content.views) {
    std::vector<std::string> collections;
    for (const memory::CollectionView& one : view.collections) {
      collections.push_back(one.collection);
    }
    EID_RETURN_IF_ERROR(AttachThere(collections));
  }
  EID_RETURN_IF_ERROR(AttachThere(resume.collections));
  const std::vector<bool> with_span = SpanOfTokens(content);
  size_t at = 0;
  for (const memory::TurnPart& part : content.parts) {
    const size_t end = at + part.tokens;
    while (at < end) {
      size_t run = at + 1;
      while (run < end && with_span[run] == with_span[at]) ++run;
      const std::vector<int32_t> tokens(content.tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                        content.tokens.begin() + static_cast<std::ptrdiff_t>(run));
      const auto progress = OpeningCallback();
      EID_RETURN_IF_ERROR(part.generated
                              ? AppendTokens(tokens, with_span[at], progress)
                              : Read(tokens, with_span[at], progress, part.text, nullptr));
      at = run;
    }
    log_.AddPart(part.role, part.generated, part.text);
  }
  sampler_.Restore(resume.sampler);
  sampler_seeded_ = resume.sampler_seeded;
  turn_open_ = resume.turn_open;
  record_open_ = false;
  return Status();
}

}  // namespace eidetic::sdk
