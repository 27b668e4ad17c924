// Forgetting: what to forget, and the receipt of what went (docs/decisions/070, 071).
#ifndef EIDETIC_MEMORY_FORGET_H_
#define EIDETIC_MEMORY_FORGET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memory/block.h"
#include "memory/session_store.h"
#include "memory/status.h"

namespace eidetic::memory {

// One of these:
//   collection                       all of it, and its name
//   collection, source               a document with all its versions
//   collection, sources              several of them, all or none
//   collection, source, bytes        every block of it that overlaps the range
//   session                          all that the session says, in every fork
//   session, turn                    one turn, in every fork that sees it
//   before                           documents ingested, and turns read, before that time;
//                                    with `collection` or `session`: only there
struct ForgetRequest {
  std::string collection;
  std::string source;
  std::vector<std::string> sources;
  bool has_range = false;
  uint64_t byte_begin = 0, byte_end = 0;  // of the document's original; behind the last one
  std::string session;
  TurnNumber turn = 0;
  int64_t before = 0;  // milliseconds since 1970, UTC; 0: of any age

  bool dry_run = false;  // tells what would go; nothing is written
  // Once gone, looks through all files for what was forgotten.
  bool verify_files = false;

  // kInvalidArgument says which fields do not go together.
  Status Validate() const;
};

struct ForgottenDocument {
  uint64_t document = 0;  // its id
  std::string collection, source;
  bool whole = true;
  uint64_t byte_begin = 0, byte_end = 0;  // of its original that were forgotten: whole blocks
  uint64_t blocks = 0;
};

// A session that saw something of what was forgotten.
struct TouchedSession {
  std::string name;
  bool removed = false;      // nothing was left of it
  uint64_t turns = 0;        // of its turns that were forgotten
  TurnNumber stands_at = 0;  // the last turn whose state is untouched
  uint64_t waiting = 0;      // later turns that are read again when the session is opened next
};

// A session that could recall from what was forgotten: its state may have seen it.
struct SeenBy {
  std::string session;
  TurnNumber turn = 0;  // the first such turn
};

// What a search of all files found. Samples are pieces of what was forgotten.
struct FileScan {
  uint64_t files = 0;
  uint64_t bytes = 0;    // that were looked through, compressed tables unpacked
  uint64_t samples = 0;  // that were looked for
  uint64_t elsewhere =
      0;  // that are left out, since something that was not forgotten says the same
  std::vector<std::string> found;  // "file, byte"; at most kMostFindings
  bool clean() const { return found.empty(); }
};
inline constexpr size_t kMostFindings = 16;

struct ForgetReceipt {
  bool dry_run = false;
  std::vector<ForgottenDocument> documents;
  std::vector<std::string> collections;  // whose names went, too
  std::vector<TouchedSession> sessions;
  std::vector<SeenBy> seen;
  uint64_t blocks = 0;           // with those that touched sessions make again when they are read
  uint64_t representatives = 0;  // vectors of one layer and head
  uint64_t text_bytes = 0;       // of documents and of turns
  uint64_t turns = 0;            // each counts once, however many forks saw it
  uint64_t snapshots = 0;        // recurrent states of touched sessions
  uint64_t word_entries = 0;     // blocks in the word index
  uint64_t undated = 0;          // documents and sessions of unknown age, which `before` left alone
  std::optional<FileScan> scan;

  // Nothing matched an age; anything else that matches nothing is kNotFound.
  bool empty() const { return documents.empty() && collections.empty() && turns == 0; }
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_FORGET_H_
