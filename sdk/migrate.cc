#include "sdk/migrate.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "sdk/clock.h"
#include "sdk/document_reader.h"
#include "sdk/error_wall.h"
#include "sdk/session_record.h"
#include "sdk/turn_record.h"

namespace eidetic::sdk {

using memory::Code;
using memory::DocumentRecord;
using memory::Result;
using memory::Status;

namespace {

// --- sessions -----------------------------------------------------------------------------------

struct SessionOfModel {
  std::string fingerprint;
  std::vector<std::string> collections;  // that are attached when it is opened
};

Result<SessionOfModel> LookAtTurns(const memory::SessionStore& store,
                                   const memory::SessionHead& head) {
  EID_ASSIGN_OR_RETURN(const SessionSettings settings, DecodeSettings(head.settings, head.name));
  SessionOfModel session{settings.fingerprint, {}};
  const auto add = [&](const memory::TurnContent& content) -> Status {
    EID_ASSIGN_OR_RETURN(const TurnResume resume, DecodeResume(content.resume, head.name));
    session.collections.insert(session.collections.end(), resume.collections.begin(),
                               resume.collections.end());
    return Status();
  };
  EID_ASSIGN_OR_RETURN(const std::vector<memory::TurnHeader> turns, store.Turns(head.name));
  if (!turns.empty()) {
    EID_ASSIGN_OR_RETURN(const memory::TurnContent content, store.Content(turns.back()));
    EID_RETURN_IF_ERROR(add(content));
  }
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WaitingTurn> waiting, store.Waiting(head.name));
  for (const memory::WaitingTurn& turn : waiting) {
    if (!turn.forgotten) EID_RETURN_IF_ERROR(add(turn.content));
  }
  return session;
}

Result<SessionOfModel> LookAt(const memory::Archive& archive, const std::string& name) {
  const Result<memory::SessionHead> head = archive.sessions().Find(name);
  if (head.ok()) return LookAtTurns(archive.sessions(), *head);
  if (head.status().code() != Code::kNotFound) return head.status();
  EID_ASSIGN_OR_RETURN(const std::string bytes, archive.SessionRecord(name));
  EID_ASSIGN_OR_RETURN(SessionRecord record, DecodeSessionRecord(bytes, name));
  return SessionOfModel{std::move(record.fingerprint), std::move(record.collections)};
}

// Sessions that the new model cannot open, as they are now.
Status SortSessions(const memory::Archive& archive, MigrateReport* report) {
  report->sessions.clear();
  report->other_sessions.clear();
  EID_ASSIGN_OR_RETURN(const std::vector<std::string> names, archive.Sessions());
  for (const std::string& name : names) {
    const Result<SessionOfModel> session = LookAt(archive, name);
    if (session.status().code() == Code::kNotFound) continue;  // gone meanwhile
    EID_RETURN_IF_ERROR(session.status());
    if (session->fingerprint == report->to) continue;
    const auto& attached = session->collections;
    const bool recalls =
        std::find(attached.begin(), attached.end(), report->collection) != attached.end();
    (recalls ? report->sessions : report->other_sessions).push_back(name);
  }
  return Status();
}

Status Refused(const MigrateReport& report) {
  const size_t count = report.sessions.size();
  return Status(Code::kLocked,
                std::to_string(count) + (count == 1 ? " session recalls" : " sessions recall") +
                    " from collection '" + report.collection +
                    "' with the model that made both: '" + report.sessions.front() + "'" +
                    (count == 1 ? "" : " and others"),
                "delete them, or migrate with --leave-sessions (leave_sessions): they then go on "
                "with that model, without this collection");
}

// --- documents ----------------------------------------------------------------------------------

// Rounds in which nothing was missing and yet nothing could be swapped.
constexpr int kMostIdleRounds = 3;

using BySource = std::map<std::string, DocumentRecord>;

BySource Complete(const std::vector<DocumentRecord>& documents) {
  BySource complete;
  for (const DocumentRecord& document : documents) {
    if (document.complete) complete.emplace(document.source, document);
  }
  return complete;
}

bool Holds(const BySource& documents, const DocumentRecord& wanted) {
  const auto there = documents.find(wanted.source);
  return there != documents.end() && there->second.content_hash == wanted.content_hash;
}

// Begins a report: what the collection is, and whose sessions are in its way.
Result<MigrateReport> Begun(const memory::Archive& archive,
                            const memory::CollectionRecord& collection,
                            const std::string& fingerprint) {
  MigrateReport report;
  report.collection = collection.name;
  report.from = collection.layout.fingerprint;
  report.to = fingerprint;
  if (report.from != report.to) EID_RETURN_IF_ERROR(SortSessions(archive, &report));
  return report;
}

// Ends a report with what the collection is now.
Result<MigrateReport> Told(const memory::Archive& archive, MigrateOutcome outcome,
                           MigrateReport report, Clock::time_point start) {
  report.outcome = outcome;
  EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> documents,
                       archive.Documents(report.collection));
  for (const auto& [source, document] : Complete(documents)) {
    ++report.documents;
    report.tokens += document.tokens;
    report.text_bytes += document.bytes;
    report.blocks += document.committed_blocks;
  }
  report.seconds = SecondsSince(start);
  return report;
}

// One collection on its way to another model.
class Migration {
 public:
  Migration(const Engine& engine, memory::Archive* archive, const MigrateOptions& options)
      : engine_(engine), archive_(archive), options_(options), start_(Clock::now()) {}

  Result<MigrateReport> Run() {
    EID_ASSIGN_OR_RETURN(memory::CollectionRecord collection,
                         archive_->Collection(options_.collection));
    EID_ASSIGN_OR_RETURN(report_, Begun(*archive_, collection, engine_.fingerprint()));
    if (report_.from == report_.to) {
      // What was begun for another model is given up.
      EID_RETURN_IF_ERROR(archive_->DropGeneration(options_.collection));
      return Told(*archive_, MigrateOutcome::kUnchanged, std::move(report_), start_);
    }
    EID_RETURN_IF_ERROR(CheckSessions());
    collection.layout = engine_.LayoutOf({}, collection.layout.codec);
    EID_ASSIGN_OR_RETURN(next_, archive_->BeginGeneration(collection));
    EID_RETURN_IF_ERROR(ReadAndSwap());
    return Told(*archive_, MigrateOutcome::kMigrated, std::move(report_), start_);
  }

 private:
  Status CheckSessions() const {
    return report_.sessions.empty() || options_.leave_sessions ? Status() : Refused(report_);
  }

  // Documents may come, change and go meanwhile: what is missing is read until nothing is.
  Status ReadAndSwap() {
    for (int idle = 0; idle < kMostIdleRounds; ++idle) {
      const uint64_t changes = changes_;
      EID_RETURN_IF_ERROR(ReadMissing());
      // Hours may have gone by: sessions began to recall from it meanwhile, or went.
      EID_RETURN_IF_ERROR(SortSessions(*archive_, &report_));
      EID_RETURN_IF_ERROR(CheckSessions());
      EID_ASSIGN_OR_RETURN(const bool swapped, archive_->SwapGeneration(options_.collection));
      if (swapped) return Status();
      if (changes_ != changes) idle = -1;
    }
    return Status(Code::kLocked,
                  "the documents of collection '" + options_.collection +
                      "' change faster than they can be compared",
                  "migrate it while nothing is ingested into it; what was read is kept");
  }

  Status ReadMissing() {
    EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> documents,
                         archive_->Documents(options_.collection));
    const BySource wanted = Complete(documents);
    report_.unfinished.clear();
    for (const DocumentRecord& document : documents) {
      if (!document.complete) report_.unfinished.push_back(document.source);
    }
    EID_RETURN_IF_ERROR(RemoveOthers(wanted));
    EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> read, archive_->Documents(next_.name));
    const BySource there = Complete(read);
    progress_.tokens = progress_.total = 0;
    for (const auto& [source, document] : wanted) {
      const bool done = Holds(there, document);
      const uint64_t tokens = done ? there.at(source).tokens : document.tokens;
      progress_.total += tokens;
      if (done) progress_.tokens += tokens;
    }
    progress_.committed = progress_.tokens;
    for (const auto& [source, document] : wanted) {
      Status status;
      if (!Holds(there, document)) {
        status = ReadOne(document);
      } else if (!memory::SameOrigin(there.at(source), document)) {
        status = CopyOrigin(document, there.at(source).id);
      }
      // It went meanwhile: the next round finds out.
      if (status.code() == Code::kNotFound && archive_->Collection(options_.collection).ok()) {
        ++changes_;
        continue;
      }
      EID_RETURN_IF_ERROR(status);
    }
    return Status();
  }

  // What the generation has of documents that went or changed.
  Status RemoveOthers(const BySource& wanted) {
    EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> read, archive_->Documents(next_.name));
    for (const DocumentRecord& document : read) {
      if (Holds(wanted, document)) continue;
      const Status removed = archive_->RemoveDocument(document.id);
      if (removed.code() != Code::kNotFound) EID_RETURN_IF_ERROR(removed);
      ++changes_;
    }
    return Status();
  }

  Result<memory::DocumentOrigin> OriginOf(const DocumentRecord& document) const {
    memory::DocumentOrigin origin{document.format, document.original_bytes, {}};
    EID_ASSIGN_OR_RETURN(origin.map, archive_->MapOf(document));
    return origin;
  }

  Status CopyOrigin(const DocumentRecord& document, memory::DocumentId to) {
    EID_ASSIGN_OR_RETURN(const memory::DocumentOrigin origin, OriginOf(document));
    ++changes_;
    return archive_->UpdateOrigin(to, origin);
  }

  Status ReadOne(const DocumentRecord& document) {
    EID_ASSIGN_OR_RETURN(const std::string text, archive_->Text(document.id, 0, document.bytes));
    IngestOptions reading;
    reading.source = document.source;
    reading.commit_seconds = options_.commit_seconds;
    EID_ASSIGN_OR_RETURN(reading.origin, OriginOf(document));
    const MigrateProgress before = progress_;
    reading.progress = [&](const IngestProgress& now) {
      progress_.source = document.source;
      progress_.tokens = before.tokens + now.tokens;
      progress_.total = before.total - document.tokens + now.total;
      progress_.blocks = before.blocks + now.blocks;
      progress_.bytes = before.bytes + now.bytes;
      progress_.committed = before.committed + now.committed;
      progress_.seconds = SecondsSince(start_);
      return !options_.progress || options_.progress(progress_);
    };
    EID_ASSIGN_OR_RETURN(const IngestResult read, ReadDocument(engine_, archive_, next_, text,
                                                               document.content_hash, reading));
    ++changes_;
    ++report_.documents_read;
    report_.tokens_read += read.tokens_read;
    report_.text_bytes_to_read += document.bytes;
    report_.bytes += read.bytes;
    progress_.committed = progress_.tokens;
    return Status();
  }

  const Engine& engine_;
  memory::Archive* archive_;
  const MigrateOptions& options_;
  Clock::time_point start_;
  memory::CollectionRecord next_;
  MigrateReport report_;
  MigrateProgress progress_;
  uint64_t changes_ = 0;  // of the generation, by this call
};

}  // namespace

const char* MigrateOutcomeName(MigrateOutcome outcome) {
  switch (outcome) {
    case MigrateOutcome::kMigrated:
      return "migrated";
    case MigrateOutcome::kUnchanged:
      return "unchanged";
    case MigrateOutcome::kPlanned:
      return "planned";
  }
  return "unknown";
}

Result<MigrateReport> MigrateCollection(const Engine& engine, memory::Archive* archive,
                                        const MigrateOptions& options) {
  return BehindWall([&]() -> Result<MigrateReport> {
    if (!(options.commit_seconds >= 0)) {
      return Status(Code::kInvalidArgument,
                    "commit_seconds is " + std::to_string(options.commit_seconds) +
                        ", must be 0 (after every segment) or more",
                    "correct it, or leave it 0 for the default");
    }
    return Migration(engine, archive, options).Run();
  });
}

Result<MigrateReport> PlanMigration(const memory::Archive& archive, const std::string& collection,
                                    const std::string& fingerprint) {
  return BehindWall([&]() -> Result<MigrateReport> {
    const Clock::time_point start = Clock::now();
    EID_ASSIGN_OR_RETURN(const memory::CollectionRecord record, archive.Collection(collection));
    EID_ASSIGN_OR_RETURN(MigrateReport report, Begun(archive, record, fingerprint));
    if (report.from == report.to) {
      return Told(archive, MigrateOutcome::kUnchanged, std::move(report), start);
    }
    EID_ASSIGN_OR_RETURN(const auto begun, archive.NextGeneration(collection));
    BySource there;
    if (begun && begun->layout.fingerprint == fingerprint) {
      EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> read, archive.Documents(begun->name));
      there = Complete(read);
    }
    EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> documents,
                         archive.Documents(collection));
    for (const DocumentRecord& document : documents) {
      if (!document.complete) {
        report.unfinished.push_back(document.source);
      } else if (!Holds(there, document)) {
        ++report.documents_read;
        report.text_bytes_to_read += document.bytes;
      }
    }
    return Told(archive, MigrateOutcome::kPlanned, std::move(report), start);
  });
}

std::string MigrateJson(const MigrateReport& report) {
  const nlohmann::json told = {{"collection", report.collection},
                               {"outcome", MigrateOutcomeName(report.outcome)},
                               {"from", report.from},
                               {"to", report.to},
                               {"documents", report.documents},
                               {"documents_read", report.documents_read},
                               {"tokens", report.tokens},
                               {"tokens_read", report.tokens_read},
                               {"text_bytes", report.text_bytes},
                               {"text_bytes_to_read", report.text_bytes_to_read},
                               {"blocks", report.blocks},
                               {"bytes", report.bytes},
                               {"seconds", report.seconds},
                               {"unfinished", report.unfinished},
                               {"sessions", report.sessions},
                               {"other_sessions", report.other_sessions}};
  return told.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace eidetic::sdk
