// A directory with one database: collections of documents, their texts and blocks, and saved
// sessions. What the rest of the library, and a program that wants memory without a model, uses.
#ifndef EIDETIC_MEMORY_ARCHIVE_H_
#define EIDETIC_MEMORY_ARCHIVE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memory/block_store.h"
#include "memory/forget.h"
#include "memory/representative_index.h"
#include "memory/session_store.h"
#include "memory/text_map.h"

namespace eidetic::memory {

using DocumentId = uint64_t;  // monotonic in one archive, never reused

struct CollectionRecord {
  std::string name;
  Layout layout;
  bool read_with_span = false;                  // whether documents were read with the span on
  int window = 1024, sinks = 0, segment = 512;  // how documents are read, in tokens

  // Ranges of every field; kInvalidArgument says which one is wrong.
  Status Validate() const;
};

struct DocumentRecord {
  DocumentId id = 0;
  std::string collection;
  std::string source;        // unique among complete documents of the collection
  std::string content_hash;  // hex SHA-256 of the bytes
  uint64_t bytes = 0;        // of the text that is kept
  uint64_t tokens = 0;       // of the whole document
  LineageId lineage = 0;
  bool complete = false;
  uint64_t committed_tokens = 0;
  uint64_t committed_blocks = 0;
  // What the text was extracted from. Empty and 0 when it is the original itself.
  std::string format;           // as the caller names it: "html", "markdown", ...
  uint64_t original_bytes = 0;  // 0: the text is the original
  std::string map_hash;         // hex SHA-256 of the map's bytes; empty: there is no map
};

// What a text was extracted from, and how it maps to it.
struct DocumentOrigin {
  std::string format;
  uint64_t original_bytes = 0;  // 0: the text is the original
  TextMap map;
};

// Whether two documents were extracted from the same original in the same way.
bool SameOrigin(const DocumentRecord& a, const DocumentRecord& b);

// A passage's text and where it stands.
struct PassageText {
  DocumentRecord document;
  std::string text;
};

// A place where a document speaks of the words that were searched: blocks that stand next to each
// other.
struct WordPlace {
  DocumentId document = 0;
  uint64_t byte_begin = 0;  // of the document's text
  uint64_t byte_end = 0;
  std::vector<IndexedBlock> blocks;
  double score = 0;  // BM25, above 0; comparable within one search
};

struct VerifyProgress {
  uint64_t records = 0;
  uint64_t total = 0;  // 0: not known
};

struct Damage {
  std::string what;  // one sentence naming collection, document, block, layer and part
  DocumentId document = 0;
  BlockId block = 0;
};

struct CollectionDigest {
  std::string collection;
  std::string
      digest;  // hex SHA-256 over sources, contents, tokens, ranges, payloads and
               // representatives of complete documents, in order of source; no ids, no times
  uint64_t documents = 0;
  uint64_t blocks = 0;
};

struct VerifyReport {
  uint64_t records = 0;
  std::vector<Damage> damage;
  std::vector<CollectionDigest> collections;
  bool clean() const { return damage.empty(); }
};

struct ArchiveOptions {
  std::string path;
  bool create = false;
  bool read_only = false;
  bool repair = false;  // a damaged log is no error: goes on without what it lost, for good
  uint64_t pool_bytes = 384u << 20;
  std::function<int64_t()> clock;  // milliseconds since 1970, UTC; empty: the system's
};

// Writes one document. Commits make progress durable; Finish makes the document visible and, in the
// same batch, removes an older version of the same source. Destroyed without Finish, the document
// stays as committed, invisible, and BeginDocument of the same content resumes it.
class DocumentWriter {
 public:
  virtual ~DocumentWriter() = default;
  virtual const DocumentRecord& document() const = 0;
  // Opaque state of the reader (window, recurrent state) as of the last commit; empty at the start.
  virtual Result<std::string> ResumeState() const = 0;
  virtual Status Append(Block block) = 0;
  // Blocks so far and the reader's state, atomically.
  virtual Status Commit(std::string reader_state) = 0;
  virtual Status Finish() = 0;
  virtual uint64_t bytes_written() const = 0;
};

// Thread-safe.
class Archive {
 public:
  // kNotFound (nothing there and not `create`), kLocked (names the process), kNoSpace, kCorruption,
  // kUnsupported (a newer format version). A damaged log is kCorruption when opened to write;
  // opened read-only, the archive is as it was before the damage, and Verify and LogDamage tell of
  // it. Damaged records of the archive's own (format, counters) are kCorruption when opened to
  // write; opened read-only, what is whole can be read, and Verify names the rest.
  static Result<std::shared_ptr<Archive>> Open(const ArchiveOptions& options);
  // The same over any record store: for tests, and for memory that lives in RAM only.
  static Result<std::shared_ptr<Archive>> OpenOver(std::shared_ptr<RecordStore> records,
                                                   const ArchiveOptions& options);
  virtual ~Archive() = default;

  // The collection, made with `wanted` when it is not there. kFingerprintMismatch or
  // kInvalidArgument when it is there with another layout (says what differs).
  virtual Result<CollectionRecord> EnsureCollection(const CollectionRecord& wanted) = 0;
  virtual Result<CollectionRecord> Collection(const std::string& name) const = 0;
  // Without generations that are being built.
  virtual Result<std::vector<CollectionRecord>> Collections() const = 0;

  // A collection's next generation: its documents once more, as another model reads them. It is
  // built beside the collection, which stays as it is until all of it is swapped at once; what is
  // forgotten meanwhile is forgotten there, too (docs/decisions/087).
  //
  // Begins one with the layout and settings of `wanted`, whose name is the collection's, or goes on
  // with the one that was begun so; one that was begun with others is removed first. The record's
  // name is the one under which BeginDocument, Documents and FindDocument know the generation; no
  // other call does. kNotFound when there is no such collection, kLocked while a document of the
  // generation to remove is being written.
  virtual Result<CollectionRecord> BeginGeneration(const CollectionRecord& wanted) = 0;
  // The one that was begun; empty when there is none.
  virtual Result<std::optional<CollectionRecord>> NextGeneration(
      const std::string& collection) const = 0;
  // Puts the generation in the collection's place, in one durable batch; the old one is then gone,
  // unfinished documents among it. Documents are as old as they were. False, and nothing is done,
  // while the generation does not hold exactly the collection's complete documents, with the same
  // texts and origins. kNotFound when none was begun, kLocked while a document of either is being
  // written.
  virtual Result<bool> SwapGeneration(const std::string& collection) = 0;
  // Removes it, when there is one. kLocked as above.
  virtual Status DropGeneration(const std::string& collection) = 0;

  // All documents of a collection, also incomplete ones, by source.
  virtual Result<std::vector<DocumentRecord>> Documents(const std::string& collection) const = 0;
  // The complete document of a source; empty when there is none, also while its first ingest is
  // unfinished.
  virtual Result<std::optional<DocumentRecord>> FindDocument(const std::string& collection,
                                                             const std::string& source) const = 0;
  // Begins, or resumes, an ingest. A leftover of other content for the same source is removed. A
  // complete version, of the same content or not, stays until this one is finished.
  virtual Result<std::unique_ptr<DocumentWriter>> BeginDocument(
      const std::string& collection, const std::string& source, const std::string& content_hash,
      std::string_view text, uint64_t tokens, const DocumentOrigin& origin) = 0;
  Result<std::unique_ptr<DocumentWriter>> BeginDocument(const std::string& collection,
                                                        const std::string& source,
                                                        const std::string& content_hash,
                                                        std::string_view text, uint64_t tokens) {
    return BeginDocument(collection, source, content_hash, text, tokens, {});
  }
  // Of a document whose text stayed the same: what it is extracted from now. Nothing is written
  // when that stayed the same too.
  virtual Status UpdateOrigin(DocumentId document, const DocumentOrigin& origin) = 0;
  // How the document's text maps to its original; the identity for a text that is its original.
  virtual Result<TextMap> MapOf(const DocumentRecord& document) const = 0;
  virtual Status RemoveDocument(DocumentId document) = 0;
  // Forgets for good: one durable batch, after which nothing finds it any more, and then the files
  // are rid of its bytes. Killed between, the next opening does that. kNotFound when there is no
  // such thing, kLocked while a document of it is being written. After a failed `verify_files` the
  // receipt tells what was found where.
  virtual Result<ForgetReceipt> Forget(const ForgetRequest& request) = 0;
  // Removes what interrupted ingests of a source left behind, but for those of the content
  // `content_hash`, which may be resumed, and those under way. Nothing when opened read-only.
  virtual Status RemoveUnfinished(const std::string& collection, const std::string& source,
                                  const std::string& content_hash) = 0;
  // The document of a lineage; empty when it belongs to a session, or was removed.
  virtual Result<std::optional<DocumentRecord>> DocumentOfLineage(LineageId lineage) const = 0;
  // Bytes begin..end of the document's text, widened to whole UTF-8 characters.
  virtual Result<std::string> Text(DocumentId document, uint64_t begin, uint64_t end) const = 0;

  // The index over all complete documents of a collection; built from the store on first use, kept
  // while somebody holds it and up to date with documents finished or removed meanwhile: call again
  // to get the newer one.
  virtual Result<std::shared_ptr<const RepresentativeIndex>> Index(const std::string& collection,
                                                                   IndexKind kind, int threads) = 0;

  // The places of complete documents that hold words of `text`, best first: BM25 over stemmed words
  // (memory/word_index.h). Places share no block. Any bytes may stand in `text`: nothing of it is
  // query syntax. The index is a file beside the database, a pure cache (rule 1): made again when
  // it is missing, old or damaged; opened read-only, in RAM, nothing is written.
  virtual Result<std::vector<WordPlace>> SearchWords(const std::string& collection,
                                                     std::string_view text, size_t limit) = 0;
  // Brings that file up to date. Finishing and removing a document do so; only a file that was
  // lost or damaged since needs it, or the next search does it.
  virtual Status UpdateWords(const std::string& collection) = 0;

  // Sessions that are kept turn by turn.
  virtual SessionStore& sessions() = 0;
  virtual const SessionStore& sessions() const = 0;
  // Session records, as sessions were saved before there were turns: opaque bytes by name, written
  // together with the session's lineage.
  virtual Status CommitSession(const std::string& name, LineageWriter* lineage,
                               std::string record) = 0;
  virtual Result<std::string> SessionRecord(const std::string& name) const = 0;
  // The names of all sessions, of either kind.
  virtual Result<std::vector<std::string>> Sessions() const = 0;

  // `progress` must neither throw, nor write documents or collections, nor verify
  // (kInvalidArgument); what other threads want to write waits.
  virtual Result<VerifyReport> Verify(
      const std::function<bool(const VerifyProgress&)>& progress) const = 0;
  // What is lost because the database's log was damaged; empty when nothing is.
  virtual std::string LogDamage() const = 0;
  virtual Result<uint64_t> SizeOnDisk() const = 0;
  virtual Status Compact() = 0;

  virtual BlockStore& store() = 0;
  virtual const BlockStore& store() const = 0;
  virtual const std::string& path() const = 0;
  virtual bool read_only() const = 0;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_ARCHIVE_H_
