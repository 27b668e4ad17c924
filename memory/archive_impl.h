// The archive's implementation, shared by its source files: archive.cc (opening, collections,
// sessions, index), archive_documents.cc (documents and text), archive_origins.cc (what texts were
// extracted from), archive_generations.cc (what another model reads of a collection),
// archive_forget.cc (forgetting), archive_words.cc (search by words), document_writer.cc,
// verify.cc.
#ifndef EIDETIC_MEMORY_ARCHIVE_IMPL_H_
#define EIDETIC_MEMORY_ARCHIVE_IMPL_H_

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <vector>

#include "memory/archive.h"
#include "memory/id_counter.h"
#include "memory/word_cache.h"

namespace eidetic::memory {

// Which bytes of a document's text a block holds.
struct TextRange {
  uint64_t position = 0;
  int tokens = 0;
  uint64_t text_begin = 0;
  uint64_t text_end = 0;
};
using TextRanges = std::vector<TextRange>;

// What is written at once of a text.
constexpr size_t kTextBatchBytes = 4u << 20;
// Giving back the space of removed records is a merge; it is worth its while from here on, and less
// is left to the merges that come anyway.
constexpr uint64_t kReclaimBytes = 8u << 20;

// Whether a byte of UTF-8 goes on with a character.
inline bool IsContinuation(char byte) {
  return (static_cast<uint8_t>(byte) & 0xc0) == 0x80;
}

class ArchiveImpl final : public Archive, public std::enable_shared_from_this<ArchiveImpl> {
 public:
  static Result<std::shared_ptr<Archive>> Make(std::shared_ptr<RecordStore> records,
                                               const ArchiveOptions& options,
                                               std::string words_folder);

  Result<CollectionRecord> EnsureCollection(const CollectionRecord& wanted) override;
  Result<CollectionRecord> Collection(const std::string& name) const override;
  Result<std::vector<CollectionRecord>> Collections() const override;

  Result<CollectionRecord> BeginGeneration(const CollectionRecord& wanted) override;
  Result<std::optional<CollectionRecord>> NextGeneration(
      const std::string& collection) const override;
  Result<bool> SwapGeneration(const std::string& collection) override;
  Status DropGeneration(const std::string& collection) override;

  Result<std::vector<DocumentRecord>> Documents(const std::string& collection) const override;
  Result<std::optional<DocumentRecord>> FindDocument(const std::string& collection,
                                                     const std::string& source) const override;
  Result<std::unique_ptr<DocumentWriter>> BeginDocument(const std::string& collection,
                                                        const std::string& source,
                                                        const std::string& content_hash,
                                                        std::string_view text, uint64_t tokens,
                                                        const DocumentOrigin& origin) override;
  Status UpdateOrigin(DocumentId document, const DocumentOrigin& origin) override;
  Result<TextMap> MapOf(const DocumentRecord& document) const override;
  Status RemoveDocument(DocumentId document) override;
  Result<ForgetReceipt> Forget(const ForgetRequest& request) override;
  Status RemoveUnfinished(const std::string& collection, const std::string& source,
                          const std::string& content_hash) override;
  Result<std::optional<DocumentRecord>> DocumentOfLineage(LineageId lineage) const override;
  Result<std::string> Text(DocumentId document, uint64_t begin, uint64_t end) const override;

  Result<std::shared_ptr<const RepresentativeIndex>> Index(const std::string& collection,
                                                           IndexKind kind, int threads) override;

  Result<std::vector<WordPlace>> SearchWords(const std::string& collection, std::string_view text,
                                             size_t limit) override;
  Status UpdateWords(const std::string& collection) override;

  SessionStore& sessions() override { return *sessions_; }
  const SessionStore& sessions() const override { return *sessions_; }
  Status CommitSession(const std::string& name, LineageWriter* lineage,
                       std::string record) override;
  Result<std::string> SessionRecord(const std::string& name) const override;
  Result<std::vector<std::string>> Sessions() const override;

  Result<VerifyReport> Verify(
      const std::function<bool(const VerifyProgress&)>& progress) const override;
  std::string LogDamage() const override { return records_->LogDamage(); }
  Result<uint64_t> SizeOnDisk() const override { return records_->SizeOnDisk(); }
  Status Compact() override { return records_->Compact(); }

  BlockStore& store() override { return *store_; }
  const BlockStore& store() const override { return *store_; }
  const std::string& path() const override { return options_.path; }
  bool read_only() const override { return options_.read_only; }

 private:
  friend class DocumentWriterImpl;
  ArchiveImpl(std::shared_ptr<RecordStore> records, const ArchiveOptions& options,
              std::string words_folder)
      : records_(std::move(records)), options_(options), words_folder_(std::move(words_folder)) {}

  Status CheckWritable() const;
  // The catalog for whoever changes it. kInvalidArgument on a thread that is in the middle of a
  // verification, in its progress callback: it would wait for itself.
  Result<std::unique_lock<std::shared_mutex>> LockCatalog();
  Status CheckNotVerifying() const;
  // Makes or checks the format record.
  Status EnsureFormat();
  // Removes what an interrupted process left behind: texts without a document, lineages without an
  // owner.
  Status SweepOrphans();
  // Names of sessions that were saved as records.
  Result<std::vector<std::string>> SavedSessions() const;
  Result<std::vector<LineageId>> DocumentLineages(const std::string& collection) const;

  Result<DocumentRecord> Document(DocumentId document) const;
  // Of documents as they were listed.
  bool AnyIsGone(const std::vector<DocumentRecord>& documents) const;
  // All documents whose keys begin with `prefix`.
  Result<std::vector<DocumentRecord>> DocumentsAt(const std::string& prefix) const;
  // Adds the removal of everything of a document.
  Status RemoveChanges(const DocumentRecord& document, RecordBatch* batch) const;
  // Removes a document for good. Needs catalog_mutex_ exclusively.
  Status RemoveNow(const DocumentRecord& document);
  bool IsBeingWritten(DocumentId document);
  // After that batch was written: the pool, the index and the disk follow.
  void AfterRemoval(const DocumentRecord& document);
  // Adds what makes `origin` the document's, in the record and beside it.
  Status PutOrigin(const DocumentOrigin& origin, DocumentRecord* document,
                   RecordBatch* batch) const;
  // Adds what makes `document` as old as `older`.
  Status PutTimeOf(DocumentId older, DocumentId document, RecordBatch* batch) const;
  Result<std::unique_ptr<LineageWriter>> StoreNewDocument(const CollectionRecord& collection,
                                                          std::string_view text,
                                                          const DocumentOrigin& origin,
                                                          DocumentRecord* document);
  void CollectionChanged(const std::string& collection);

  // Also the generation of a collection, by the name that it has.
  Result<CollectionRecord> CollectionOrGeneration(const std::string& name) const;
  Status NoCollection(const std::string& name) const;

  // archive_generations.cc
  // Adds the removal of a collection's next generation, when there is one. kLocked while a document
  // of it is being written. Needs catalog_mutex_ exclusively.
  Status RemoveGeneration(const std::string& collection, RecordBatch* batch,
                          std::vector<DocumentRecord>* removed);
  // What the next generation of a document's collection has of its source.
  Result<std::vector<DocumentRecord>> InNextGeneration(const DocumentRecord& document) const;
  // Whether the generation's `next` are the complete documents of `now`, with what they say.
  static bool SameContents(const std::vector<DocumentRecord>& now,
                           const std::vector<DocumentRecord>& next);
  // Adds what makes `next` a document of its visible collection, as old as `now`.
  Status TakePlace(const DocumentRecord& now, const DocumentRecord& next, RecordBatch* batch) const;
  int64_t Now() const;

  // archive_forget.cc
  struct Forgetting;
  // Of a request's collection: all, or those that it names. kNotFound names the one that is not
  // there.
  Result<std::vector<DocumentRecord>> NamedDocuments(const ForgetRequest& request) const;
  Status SelectDocuments(const ForgetRequest& request, Forgetting* plan) const;
  // The same documents in the next generations of their collections.
  Status SelectInGenerations(Forgetting* plan) const;
  Status CheckNotWritten(const Forgetting& plan);
  Status TellDocument(const DocumentRecord& document, Forgetting* plan) const;
  Status TellRange(const DocumentRecord& document, Forgetting* plan) const;
  static void BlankRange(const DocumentRecord& document, const TextMap& map, Forgetting* plan);
  Status TellSeen(Forgetting* plan) const;
  // Writes `document` anew without the blocks and bytes of the plan's range, and with it `batch`.
  Status WriteWithoutRange(const Forgetting& plan, RecordBatch batch);
  Status WriteText(DocumentId document, std::string_view text);
  Status CopyBlocks(const Forgetting& plan, LineageWriter* to) const;
  void AfterForgetting(const Forgetting& plan);
  // Rids the files of what was forgotten, and then takes the mark away that says that this is due.
  Status PurgeForgotten(const std::vector<KeyRange>& ranges);
  // What an earlier process was killed before.
  void FinishForgetting();
  Status VerifyForgotten(ForgottenBytes samples, FileScan* scan) const;

  // The word index's file follows after documents came or went; it is a cache: a failure leaves it
  // to the next search. `known` (may be null) are the ranges of one lineage, which spares reading
  // them.
  void KeepWords(const std::string& collection, LineageId known_lineage, const TextRanges* known);
  // Under words_mutex_, like all that follow.
  WordCache& WordsOf(const std::string& collection);
  // Up to date; `documents` gets all complete ones.
  Result<const WordIndex*> UpdatedWords(const std::string& collection, LineageId known_lineage,
                                        const TextRanges* known,
                                        std::map<LineageId, DocumentRecord>* documents);
  Result<std::vector<WordBlock>> WordBlocksOf(const DocumentRecord& document,
                                              const TextRanges* known) const;
  // Empty when the document went meanwhile.
  Result<std::optional<WordPlace>> PlaceOf(const WordHit& hit,
                                           const DocumentRecord& document) const;

  std::shared_ptr<RecordStore> records_;
  ArchiveOptions options_;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<IdCounter> document_ids_;
  std::unique_ptr<SessionStore> sessions_;

  // Exclusive: documents and collections come and go. Shared: verification, which must see them
  // all with everything of theirs.
  mutable std::shared_mutex catalog_mutex_;
  mutable std::mutex verifying_mutex_;
  mutable std::set<std::thread::id> verifying_;  // threads that hold the catalog to verify
  // Guards writing_. Taken after catalog_mutex_.
  std::mutex writing_mutex_;
  std::set<DocumentId> writing_;  // documents with a writer

  struct CachedIndex {
    uint64_t epoch = 0;
    std::weak_ptr<const RepresentativeIndex> index;
  };
  using IndexName = std::tuple<std::string, IndexKind, int>;
  std::mutex index_mutex_;  // held while an index is built
  std::map<IndexName, CachedIndex> indexes_;
  std::mutex epoch_mutex_;
  std::map<std::string, uint64_t> epochs_;  // by collection: changes so far

  std::string words_folder_;  // empty: word indexes in RAM only
  std::mutex words_mutex_;    // held while a word index is made or searched
  std::map<std::string, std::unique_ptr<WordCache>> words_;
};

// The same checks for every name that becomes part of a key.
Status CheckName(const char* kind, std::string_view name, size_t max_bytes);
std::string DocumentOwner(DocumentId document);
// The identity for a document without a map; kNotFound or kCorruption when it is not there as its
// record says.
Result<TextMap> ReadTextMap(const RecordStore& records, const DocumentRecord& document);
std::string SessionOwner(std::string_view name);
// The name under which a collection's next generation is kept; whether a name is such a one; and
// the collection's name again, of any name.
std::string GenerationName(std::string_view collection);
bool IsGeneration(std::string_view name);
std::string_view VisibleName(std::string_view name);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_ARCHIVE_IMPL_H_
