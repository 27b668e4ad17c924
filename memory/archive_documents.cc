#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/format.h"

namespace eidetic::memory {
namespace {

constexpr std::string_view kDocumentOwnerPrefix = "document/";

}  // namespace

Result<std::vector<DocumentRecord>> ArchiveImpl::DocumentsAt(const std::string& prefix) const {
  std::vector<DocumentRecord> documents;
  EID_RETURN_IF_ERROR(records_->Scan(Family::kMeta, prefix, format::PrefixEnd(prefix),
                                     [&](std::string_view key, std::string_view value) -> Status {
                                       EID_ASSIGN_OR_RETURN(DocumentRecord document,
                                                            format::DecodeDocument(key, value));
                                       documents.push_back(std::move(document));
                                       return {};
                                     }));
  return documents;
}

Result<std::vector<DocumentRecord>> ArchiveImpl::Documents(const std::string& collection) const {
  EID_RETURN_IF_ERROR(CollectionOrGeneration(collection).status());
  return DocumentsAt(format::DocumentPrefix(collection));
}

Result<std::optional<DocumentRecord>> ArchiveImpl::FindDocument(const std::string& collection,
                                                                const std::string& source) const {
  EID_RETURN_IF_ERROR(CollectionOrGeneration(collection).status());
  EID_ASSIGN_OR_RETURN(std::vector<DocumentRecord> documents,
                       DocumentsAt(format::DocumentPrefix(collection, source)));
  for (DocumentRecord& document : documents) {
    if (document.complete) return std::optional<DocumentRecord>(std::move(document));
  }
  return std::optional<DocumentRecord>();
}

Result<DocumentRecord> ArchiveImpl::Document(DocumentId document) const {
  const Status absent(
      Code::kNotFound,
      "there is no document " + std::to_string(document) + " in the archive " + path(),
      "`eidetic memory list` shows the documents there are");
  const std::string pointer_key = format::DocumentPointerKey(document);
  Result<std::string> pointer = records_->Get(Family::kMeta, pointer_key);
  if (!pointer.ok()) {
    return pointer.status().code() == Code::kNotFound ? absent : pointer.status();
  }
  EID_ASSIGN_OR_RETURN(std::string_view key, format::DecodeBytes(pointer_key, *pointer));
  Result<std::string> value = records_->Get(Family::kMeta, key);
  if (!value.ok()) {
    if (value.status().code() != Code::kNotFound) return value.status();
    // Removed between the two reads, or damaged.
    return records_->Get(Family::kMeta, pointer_key).ok()
               ? Status(Code::kCorruption,
                        "the record of document " + std::to_string(document) + " is missing")
               : absent;
  }
  return format::DecodeDocument(key, *value);
}

Result<std::optional<DocumentRecord>> ArchiveImpl::DocumentOfLineage(LineageId lineage) const {
  const Result<LineageRecord> record = store_->Lineage(lineage);
  if (!record.ok()) {
    if (record.status().code() == Code::kNotFound) return std::optional<DocumentRecord>();
    return record.status();
  }
  const std::string_view owner = record->owner;
  if (!owner.starts_with(kDocumentOwnerPrefix)) return std::optional<DocumentRecord>();
  DocumentId document = 0;
  const std::string_view digits = owner.substr(kDocumentOwnerPrefix.size());
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), document);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size()) {
    return Status(Code::kCorruption, "lineage " + std::to_string(lineage) + " has the owner " +
                                         format::Printable(owner) + ", which is no document");
  }
  Result<DocumentRecord> found = Document(document);
  if (!found.ok()) {
    if (found.status().code() == Code::kNotFound) return std::optional<DocumentRecord>();
    return found.status();
  }
  return std::optional<DocumentRecord>(std::move(found).value());
}

Status ArchiveImpl::RemoveChanges(const DocumentRecord& document, RecordBatch* batch) const {
  EID_RETURN_IF_ERROR(store_->RemoveLineage(document.lineage, batch));
  const std::string text = format::TextPrefix(document.id);
  batch->DeleteRange(Family::kText, text, format::PrefixEnd(text));
  const std::string state = format::ReaderStatePrefix(document.id);
  batch->DeleteRange(Family::kSessions, state, format::PrefixEnd(state));
  batch->Delete(Family::kMeta,
                format::DocumentKey(document.collection, document.source, document.id));
  batch->Delete(Family::kMeta, format::DocumentPointerKey(document.id));
  batch->Delete(Family::kMeta, format::IngestedKey(document.id));
  return {};
}

Status ArchiveImpl::PutTimeOf(DocumentId older, DocumentId document, RecordBatch* batch) const {
  const std::string was = format::IngestedKey(older);
  const std::string is = format::IngestedKey(document);
  const Result<std::string> time = records_->Get(Family::kMeta, was);
  if (!time.ok()) {
    if (time.status().code() != Code::kNotFound) return time.status();
    batch->Delete(Family::kMeta, is);
    return {};
  }
  EID_ASSIGN_OR_RETURN(const uint64_t milliseconds, format::DecodeNumber(was, *time));
  batch->Put(Family::kMeta, is, format::EncodeNumber(is, milliseconds));
  return {};
}

void ArchiveImpl::AfterRemoval(const DocumentRecord& document) {
  store_->ForgetPooled(document.lineage);
  CollectionChanged(document.collection);
  const Result<CollectionRecord> collection = Collection(document.collection);
  if (collection.ok() &&
      collection->layout.PayloadBytes(document.committed_tokens) < kReclaimBytes) {
    return;
  }
  // Gives the space back. A failure leaves only space behind, which the next merge finds.
  const std::string lineage = format::LineagePrefix(document.lineage);
  for (Family family : {Family::kBlocks, Family::kEmbeddings}) {
    static_cast<void>(records_->Reclaim(family, lineage, format::PrefixEnd(lineage)).ok());
  }
  const std::string text = format::TextPrefix(document.id);
  static_cast<void>(records_->Reclaim(Family::kText, text, format::PrefixEnd(text)).ok());
}

bool ArchiveImpl::IsBeingWritten(DocumentId document) {
  std::lock_guard lock(writing_mutex_);
  return writing_.contains(document);
}

Status ArchiveImpl::RemoveNow(const DocumentRecord& document) {
  RecordBatch batch;
  EID_RETURN_IF_ERROR(RemoveChanges(document, &batch));
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  AfterRemoval(document);
  return {};
}

Status ArchiveImpl::RemoveUnfinished(const std::string& collection, const std::string& source,
                                     const std::string& content_hash) {
  if (options_.read_only) return {};
  EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
  EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> versions,
                       DocumentsAt(format::DocumentPrefix(collection, source)));
  for (const DocumentRecord& version : versions) {
    if (version.complete || version.content_hash == content_hash) continue;
    if (!IsBeingWritten(version.id)) EID_RETURN_IF_ERROR(RemoveNow(version));
  }
  return {};
}

Status ArchiveImpl::RemoveDocument(DocumentId document) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_ASSIGN_OR_RETURN(const DocumentRecord record, Document(document));
  std::vector<DocumentRecord> removed;
  {
    EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
    if (IsBeingWritten(document)) {
      return Status(Code::kLocked,
                    "document " + std::to_string(document) + " (" + record.source +
                        ") is being written by this process",
                    "stop that ingest first");
    }
    EID_ASSIGN_OR_RETURN(removed, InNextGeneration(record));
    // One that is just being written stays until the swap sees that it has gone here.
    std::erase_if(removed, [&](const DocumentRecord& copy) { return IsBeingWritten(copy.id); });
    removed.push_back(record);
    RecordBatch batch;
    for (const DocumentRecord& one : removed) EID_RETURN_IF_ERROR(RemoveChanges(one, &batch));
    EID_RETURN_IF_ERROR(records_->Write(batch, true));
  }
  for (const DocumentRecord& one : removed) AfterRemoval(one);
  KeepWords(record.collection, 0, nullptr);
  return {};
}

Result<std::string> ArchiveImpl::Text(DocumentId document, uint64_t begin, uint64_t end) const {
  EID_ASSIGN_OR_RETURN(const DocumentRecord record, Document(document));
  if (begin > end || end > record.bytes) {
    return Status(Code::kInvalidArgument,
                  "bytes " + std::to_string(begin) + ".." + std::to_string(end) + " of document " +
                      std::to_string(document) + ", which has " + std::to_string(record.bytes));
  }
  if (begin == end) return std::string();
  // A UTF-8 character has at most three bytes more on either side.
  const uint64_t first = begin - std::min<uint64_t>(begin, 3);
  const uint64_t last = std::min(record.bytes, end + 3);
  const uint64_t first_chunk = first / format::kTextChunkBytes;
  const uint64_t last_chunk = (last - 1) / format::kTextChunkBytes;
  std::vector<std::string> keys;
  for (uint64_t chunk = first_chunk; chunk <= last_chunk; ++chunk) {
    keys.push_back(format::TextKey(document, static_cast<uint32_t>(chunk)));
  }
  std::string text;
  std::vector<Result<std::string>> values = records_->MultiGet(Family::kText, keys);
  for (size_t i = 0; i < keys.size(); ++i) {
    const std::string where = "the text of document " + std::to_string(document) + " (" +
                              record.source + "), chunk " + std::to_string(first_chunk + i);
    if (!values[i].ok()) {
      const bool missing = values[i].status().code() == Code::kNotFound;
      // Nothing is missing when the document was removed meanwhile.
      if (missing) EID_RETURN_IF_ERROR(Document(document).status());
      return Status(missing ? Code::kCorruption : values[i].status().code(),
                    where + ": " + values[i].status().message(), values[i].status().remedy());
    }
    Result<std::string_view> chunk = format::DecodeBytes(keys[i], *values[i]);
    if (!chunk.ok()) {
      return Status(chunk.status().code(), where + ": " + chunk.status().message(),
                    chunk.status().remedy());
    }
    text.append(*chunk);
  }
  const uint64_t base = first_chunk * format::kTextChunkBytes;
  if (text.size() < last - base) {
    return Status(Code::kCorruption, "the text of document " + std::to_string(document) + " (" +
                                         record.source + ") is shorter than its record says");
  }
  while (begin > first && IsContinuation(text[begin - base])) --begin;
  while (end < last && IsContinuation(text[end - base])) ++end;
  return text.substr(begin - base, end - begin);
}

}  // namespace eidetic::memory
