#include <utility>

#include "memory/archive_impl.h"
#include "memory/blob.h"
#include "memory/format.h"
#include "memory/hash.h"

namespace eidetic::memory {
class DocumentWriterImpl final : public DocumentWriter {
 public:
  DocumentWriterImpl(std::shared_ptr<ArchiveImpl> archive, DocumentRecord document,
                     std::unique_ptr<LineageWriter> lineage, uint64_t text_bytes)
      : archive_(std::move(archive)),
        document_(std::move(document)),
        lineage_(std::move(lineage)),
        text_bytes_(text_bytes),
        // A resumed one has states of an earlier process.
        state_bytes_(document_.committed_tokens > 0 ? kReclaimBytes : 0) {}

  ~DocumentWriterImpl() override {
    std::lock_guard lock(archive_->writing_mutex_);
    archive_->writing_.erase(document_.id);
  }

  const DocumentRecord& document() const override { return document_; }

  Result<std::string> ResumeState() const override {
    Result<std::string> state =
        ReadBlob(*archive_->records_, Family::kSessions, format::ReaderStatePrefix(document_.id));
    if (!state.ok() && state.status().code() == Code::kNotFound) return std::string();
    return state;
  }

  Status Append(Block block) override {
    EID_RETURN_IF_ERROR(CheckOpen());
    if (block.header.text_end > document_.bytes) {
      return Status(Code::kInvalidArgument, "a block of document " + std::to_string(document_.id) +
                                                " ends at byte " +
                                                std::to_string(block.header.text_end) + " of " +
                                                std::to_string(document_.bytes));
    }
    if (lineage_->position() + block.header.tokens.size() > document_.tokens) {
      return Status(Code::kInvalidArgument,
                    "document " + std::to_string(document_.id) + " has " +
                        std::to_string(document_.tokens) + " tokens, a block ends at " +
                        std::to_string(lineage_->position() + block.header.tokens.size()));
    }
    const TextRange range{block.header.position, static_cast<int>(block.header.tokens.size()),
                          block.header.text_begin, block.header.text_end};
    EID_RETURN_IF_ERROR(lineage_->Append(std::move(block)));
    ranges_.push_back(range);
    return {};
  }

  Status Commit(std::string reader_state) override {
    EID_RETURN_IF_ERROR(CheckOpen());
    const DocumentRecord advanced = Advanced(false);
    RecordBatch batch;
    EID_RETURN_IF_ERROR(PutBlob(*archive_->records_, Family::kSessions,
                                format::ReaderStatePrefix(document_.id), reader_state, &batch));
    const uint64_t state_bytes = reader_state.size();
    std::string().swap(reader_state);
    PutDocument(advanced, &batch);
    EID_RETURN_IF_ERROR(lineage_->Commit(std::move(batch)));
    state_bytes_ += state_bytes;
    document_ = advanced;
    return {};
  }

  Status Finish() override {
    EID_RETURN_IF_ERROR(CheckOpen());
    if (lineage_->position() != document_.tokens) {
      return Status(Code::kInvalidArgument,
                    "document " + std::to_string(document_.id) + " (" + document_.source +
                        ") has " + std::to_string(document_.tokens) + " tokens, its blocks hold " +
                        std::to_string(lineage_->position()),
                    "append the tail, the sinks and the last partial block before finishing");
    }
    const DocumentRecord finished = Advanced(true);
    const std::string state = format::ReaderStatePrefix(document_.id);
    std::vector<DocumentRecord> replaced;
    {
      EID_ASSIGN_OR_RETURN(const auto lock, archive_->LockCatalog());
      RecordBatch batch;
      EID_ASSIGN_OR_RETURN(
          const std::vector<DocumentRecord> others,
          archive_->DocumentsAt(format::DocumentPrefix(document_.collection, document_.source)));
      // What the next generation made of the old text must not outlive it.
      EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> next,
                           archive_->InNextGeneration(document_));
      for (const DocumentRecord& copy : next) {
        if (copy.content_hash == document_.content_hash || archive_->IsBeingWritten(copy.id)) {
          continue;
        }
        EID_RETURN_IF_ERROR(archive_->RemoveChanges(copy, &batch));
        replaced.push_back(copy);
      }
      for (const DocumentRecord& other : others) {
        if (other.id == document_.id) continue;
        EID_RETURN_IF_ERROR(archive_->RemoveChanges(other, &batch));
        replaced.push_back(other);
      }
      batch.DeleteRange(Family::kSessions, state, format::PrefixEnd(state));
      PutDocument(finished, &batch);
      const std::string ingested = format::IngestedKey(document_.id);
      batch.Put(Family::kMeta, ingested,
                format::EncodeNumber(ingested, static_cast<uint64_t>(archive_->Now())));
      EID_RETURN_IF_ERROR(lineage_->Commit(std::move(batch)));
      document_ = finished;
    }
    archive_->CollectionChanged(document_.collection);
    for (const DocumentRecord& other : replaced) archive_->AfterRemoval(other);
    archive_->KeepWords(document_.collection, document_.lineage,
                        ranges_.size() == document_.committed_blocks ? &ranges_ : nullptr);
    if (state_bytes_ >= kReclaimBytes) {
      static_cast<void>(
          archive_->records_->Reclaim(Family::kSessions, state, format::PrefixEnd(state)).ok());
    }
    return {};
  }

  uint64_t bytes_written() const override { return text_bytes_ + lineage_->bytes_appended(); }

 private:
  Status CheckOpen() const {
    if (!document_.complete) return {};
    return Status(
        Code::kInvalidArgument,
        "document " + std::to_string(document_.id) + " (" + document_.source + ") is finished",
        "begin it again to write another version");
  }

  DocumentRecord Advanced(bool complete) const {
    DocumentRecord record = document_;
    record.committed_tokens = lineage_->position();
    record.committed_blocks = lineage_->blocks_appended();
    record.complete = complete;
    return record;
  }

  static void PutDocument(const DocumentRecord& document, RecordBatch* batch) {
    const std::string key = format::DocumentKey(document.collection, document.source, document.id);
    batch->Put(Family::kMeta, key, format::EncodeDocument(key, document));
  }

  std::shared_ptr<ArchiveImpl> archive_;
  DocumentRecord document_;
  std::unique_ptr<LineageWriter> lineage_;
  uint64_t text_bytes_;   // of text written by this writer
  uint64_t state_bytes_;  // of reader states to give back
  TextRanges ranges_;     // of blocks that this writer appended
};

Result<std::unique_ptr<LineageWriter>> ArchiveImpl::StoreNewDocument(
    const CollectionRecord& collection, std::string_view text, const DocumentOrigin& origin,
    DocumentRecord* document) {
  EID_ASSIGN_OR_RETURN(document->id, document_ids_->Next());
  EID_ASSIGN_OR_RETURN(std::unique_ptr<LineageWriter> lineage,
                       store_->NewLineage(collection.layout, DocumentOwner(document->id)));
  document->lineage = lineage->lineage();

  RecordBatch batch;
  const std::string mark = format::UnfinishedTextKey(document->id);
  bool marked = false;
  uint32_t chunk = 0;
  for (uint64_t at = 0; at < text.size(); at += format::kTextChunkBytes) {
    if (batch.bytes() >= kTextBatchBytes) {
      // In the same batch as the text that has no document yet, so that it is swept after a crash.
      if (!marked) batch.Put(Family::kMeta, mark, format::EncodeNumber(mark, document->id));
      marked = true;
      EID_RETURN_IF_ERROR(records_->Write(batch, false));
      batch.Clear();
    }
    const std::string key = format::TextKey(document->id, chunk++);
    batch.Put(Family::kText, key,
              format::EncodeBytes(key, text.substr(at, format::kTextChunkBytes)));
  }
  EID_RETURN_IF_ERROR(PutOrigin(origin, document, &batch));
  if (marked) batch.Delete(Family::kMeta, mark);
  const std::string key = format::DocumentKey(document->collection, document->source, document->id);
  batch.Put(Family::kMeta, key, format::EncodeDocument(key, *document));
  const std::string pointer = format::DocumentPointerKey(document->id);
  batch.Put(Family::kMeta, pointer, format::EncodeBytes(pointer, key));
  EID_RETURN_IF_ERROR(lineage->Commit(std::move(batch)));
  return lineage;
}

Result<std::unique_ptr<DocumentWriter>> ArchiveImpl::BeginDocument(
    const std::string& collection, const std::string& source, const std::string& content_hash,
    std::string_view text, uint64_t tokens, const DocumentOrigin& origin) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(CheckName("document", source, format::kMaxSourceBytes));
  if (tokens == 0 || text.empty()) {
    return Status(Code::kInvalidArgument, "document " + source +
                                              " is empty: " + std::to_string(text.size()) +
                                              " bytes, " + std::to_string(tokens) + " tokens");
  }
  if (text.size() / format::kTextChunkBytes >= UINT32_MAX) {
    return Status(Code::kInvalidArgument, "document " + source + " has " +
                                              std::to_string(text.size()) + " bytes, too many");
  }
  if (Sha256Hex(text) != content_hash) {
    return Status(Code::kInvalidArgument, "the content hash given for document " + source + ", " +
                                              content_hash + ", is not the SHA-256 of its text");
  }

  EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
  // Under the lock: it may just have been forgotten.
  EID_ASSIGN_OR_RETURN(const CollectionRecord record, CollectionOrGeneration(collection));
  EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> versions,
                       DocumentsAt(format::DocumentPrefix(collection, source)));
  DocumentRecord document;
  std::unique_ptr<LineageWriter> lineage;
  uint64_t text_bytes = 0;
  for (const DocumentRecord& version : versions) {
    if (version.complete) continue;
    if (IsBeingWritten(version.id)) {
      return Status(Code::kLocked,
                    "document " + source + " of collection " + collection +
                        " is already being written by this process",
                    "wait for that ingest to end");
    }
    if (version.content_hash == content_hash && version.tokens == tokens && lineage == nullptr) {
      document = version;
      RecordBatch batch;
      EID_RETURN_IF_ERROR(PutOrigin(origin, &document, &batch));
      if (!batch.changes().empty()) EID_RETURN_IF_ERROR(records_->Write(batch, true));
      EID_ASSIGN_OR_RETURN(lineage, store_->ResumeLineage(version.lineage));
      continue;
    }
    EID_RETURN_IF_ERROR(RemoveNow(version));
  }
  if (lineage == nullptr) {
    document.collection = collection;
    document.source = source;
    document.content_hash = content_hash;
    document.bytes = text.size();
    document.tokens = tokens;
    EID_ASSIGN_OR_RETURN(lineage, StoreNewDocument(record, text, origin, &document));
    text_bytes = text.size();
  }
  {
    std::lock_guard writing_lock(writing_mutex_);
    writing_.insert(document.id);
  }
  return std::unique_ptr<DocumentWriter>(std::make_unique<DocumentWriterImpl>(
      shared_from_this(), std::move(document), std::move(lineage), text_bytes));
}

}  // namespace eidetic::memory
