// Has another model read a collection: from the texts that are stored, beside the memory that is
// there, which serves until all of it can be swapped (docs/decisions/087).
#ifndef EIDETIC_SDK_MIGRATE_H_
#define EIDETIC_SDK_MIGRATE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memory/archive.h"
#include "sdk/engine.h"

namespace eidetic::sdk {

struct MigrateProgress {
  std::string source;      // the document at hand
  uint64_t tokens = 0;     // of the collection that are read, by earlier calls too
  uint64_t total = 0;      // of the collection; exact once all of it is read
  uint64_t blocks = 0;     // written by this call
  uint64_t bytes = 0;      // likewise
  uint64_t committed = 0;  // tokens of the collection that a kill can no longer lose
  double seconds = 0;      // since the call began
};

struct MigrateOptions {
  std::string collection;
  double commit_seconds = 2;
  // Migrates also when sessions of another model recall from the collection: they lose it.
  bool leave_sessions = false;
  // Called on the caller's thread after each segment and document. Returns false to stop; what was
  // read so far is then committed.
  std::function<bool(const MigrateProgress&)> progress;
};

enum class MigrateOutcome {
  kMigrated,
  kUnchanged,  // it is this model's already
  kPlanned     // nothing was done: the report tells what would be
};
const char* MigrateOutcomeName(MigrateOutcome outcome);

struct MigrateReport {
  std::string collection;
  MigrateOutcome outcome = MigrateOutcome::kUnchanged;
  std::string from, to;             // fingerprints
  uint64_t documents = 0;           // complete ones
  uint64_t documents_read = 0;      // by this call, or that it would read
  uint64_t tokens = 0;              // of all documents: as they were in a plan, else as read
  uint64_t tokens_read = 0;         // by this call
  uint64_t text_bytes = 0;          // of all documents
  uint64_t text_bytes_to_read = 0;  // of those that this call reads, or would read
  uint64_t blocks = 0;              // of all documents, as they are now
  uint64_t bytes = 0;               // written by this call
  double seconds = 0;
  // Documents whose ingest was interrupted. They go with the old memory.
  std::vector<std::string> unfinished;
  // Sessions of another model that recall from the collection: with the model that made them they
  // go on without it. Turns of theirs that recalled from it and have no state are lost.
  std::vector<std::string> sessions;
  // Other sessions of another model: they stay as they are, that model's.
  std::vector<std::string> other_sessions;
};

// Goes on where an earlier call for the same model was stopped, or killed. kLocked when sessions
// recall from the collection and are not to be left, also ones that began while it was read;
// kCorruption when a text is damaged (names the document); kCancelled; errors of reading and of the
// archive. After any of them the collection is as it was, and what was read is kept for the next
// call. Thread-safe.
memory::Result<MigrateReport> MigrateCollection(const Engine& engine, memory::Archive* archive,
                                                const MigrateOptions& options);

// What MigrateCollection would do for a model of that fingerprint: kPlanned or kUnchanged. No model
// is needed, and the archive may be read-only. Thread-safe.
memory::Result<MigrateReport> PlanMigration(const memory::Archive& archive,
                                            const std::string& collection,
                                            const std::string& fingerprint);

// The fields are in docs/reports.md.
std::string MigrateJson(const MigrateReport& report);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_MIGRATE_H_
