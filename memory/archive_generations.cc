// What another model reads of a collection: built beside it, and put in its place at once
// (docs/decisions/087). A generation is kept as a collection of a name that nobody else can give.
#include <initializer_list>
#include <map>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/format.h"

namespace eidetic::memory {
namespace {

Status BeingWritten(const DocumentRecord& document) {
  return Status(Code::kLocked,
                "document " + document.source + " of collection " +
                    std::string(VisibleName(document.collection)) +
                    " is being written by this process",
                "wait for that ingest or migration to end");
}

Status NoGeneration(const std::string& collection) {
  return Status(Code::kNotFound, "collection " + collection + " has no next generation",
                "begin one first");
}

bool SameSettings(const CollectionRecord& a, const CollectionRecord& b) {
  return a.layout == b.layout && a.read_with_span == b.read_with_span && a.window == b.window &&
         a.sinks == b.sinks && a.segment == b.segment;
}

}  // namespace

std::string GenerationName(std::string_view collection) {
  return std::string(1, format::kGenerationMark).append(collection);
}

bool IsGeneration(std::string_view name) {
  return !name.empty() && name.front() == format::kGenerationMark;
}

std::string_view VisibleName(std::string_view name) {
  return IsGeneration(name) ? name.substr(1) : name;
}

Result<std::vector<DocumentRecord>> ArchiveImpl::InNextGeneration(
    const DocumentRecord& document) const {
  if (IsGeneration(document.collection)) return std::vector<DocumentRecord>();
  return DocumentsAt(format::DocumentPrefix(GenerationName(document.collection), document.source));
}

Status ArchiveImpl::RemoveGeneration(const std::string& collection, RecordBatch* batch,
                                     std::vector<DocumentRecord>* removed) {
  const std::string name = GenerationName(collection);
  EID_ASSIGN_OR_RETURN(*removed, DocumentsAt(format::DocumentPrefix(name)));
  for (const DocumentRecord& document : *removed) {
    if (IsBeingWritten(document.id)) return BeingWritten(document);
    EID_RETURN_IF_ERROR(RemoveChanges(document, batch));
  }
  batch->Delete(Family::kMeta, format::CollectionKey(name));
  return {};
}

Result<CollectionRecord> ArchiveImpl::BeginGeneration(const CollectionRecord& wanted) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(wanted.Validate());
  std::vector<DocumentRecord> removed;
  CollectionRecord generation = wanted;
  generation.name = GenerationName(wanted.name);
  {
    EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
    EID_RETURN_IF_ERROR(Collection(wanted.name).status());
    EID_ASSIGN_OR_RETURN(const std::optional<CollectionRecord> begun, NextGeneration(wanted.name));
    if (begun && SameSettings(*begun, generation)) return *begun;
    RecordBatch batch;
    if (begun) EID_RETURN_IF_ERROR(RemoveGeneration(wanted.name, &batch, &removed));
    const std::string key = format::CollectionKey(generation.name);
    batch.Put(Family::kMeta, key, format::EncodeCollection(key, generation));
    EID_RETURN_IF_ERROR(records_->Write(batch, true));
  }
  for (const DocumentRecord& document : removed) AfterRemoval(document);
  return generation;
}

Result<std::optional<CollectionRecord>> ArchiveImpl::NextGeneration(
    const std::string& collection) const {
  Result<CollectionRecord> generation = CollectionOrGeneration(GenerationName(collection));
  if (generation.ok()) return std::optional<CollectionRecord>(std::move(generation).value());
  if (generation.status().code() != Code::kNotFound) return generation.status();
  return std::optional<CollectionRecord>();
}

Status ArchiveImpl::DropGeneration(const std::string& collection) {
  EID_RETURN_IF_ERROR(CheckWritable());
  std::vector<DocumentRecord> removed;
  {
    EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
    EID_ASSIGN_OR_RETURN(const std::optional<CollectionRecord> begun, NextGeneration(collection));
    if (!begun) return {};
    RecordBatch batch;
    EID_RETURN_IF_ERROR(RemoveGeneration(collection, &batch, &removed));
    EID_RETURN_IF_ERROR(records_->Write(batch, true));
  }
  for (const DocumentRecord& document : removed) AfterRemoval(document);
  return {};
}

bool ArchiveImpl::SameContents(const std::vector<DocumentRecord>& now,
                               const std::vector<DocumentRecord>& next) {
  std::map<std::string, const DocumentRecord*> wanted;
  for (const DocumentRecord& document : now) {
    if (document.complete) wanted.emplace(document.source, &document);
  }
  size_t found = 0;
  for (const DocumentRecord& document : next) {
    if (!document.complete) continue;
    const auto same = wanted.find(document.source);
    if (same == wanted.end() || same->second->content_hash != document.content_hash ||
        !SameOrigin(*same->second, document)) {
      return false;
    }
    ++found;
  }
  return found == wanted.size();
}

Status ArchiveImpl::TakePlace(const DocumentRecord& now, const DocumentRecord& next,
                              RecordBatch* batch) const {
  DocumentRecord document = next;
  document.collection = std::string(VisibleName(next.collection));
  batch->Delete(Family::kMeta, format::DocumentKey(next.collection, next.source, next.id));
  const std::string key = format::DocumentKey(document.collection, document.source, document.id);
  batch->Put(Family::kMeta, key, format::EncodeDocument(key, document));
  const std::string pointer = format::DocumentPointerKey(document.id);
  batch->Put(Family::kMeta, pointer, format::EncodeBytes(pointer, key));
  return PutTimeOf(now.id, document.id, batch);
}

Result<bool> ArchiveImpl::SwapGeneration(const std::string& collection) {
  EID_RETURN_IF_ERROR(CheckWritable());
  std::vector<DocumentRecord> now;
  {
    EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
    EID_ASSIGN_OR_RETURN(std::optional<CollectionRecord> generation, NextGeneration(collection));
    if (!generation) return NoGeneration(collection);
    EID_ASSIGN_OR_RETURN(now, DocumentsAt(format::DocumentPrefix(collection)));
    EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> next,
                         DocumentsAt(format::DocumentPrefix(generation->name)));
    for (const std::vector<DocumentRecord>* documents :
         std::initializer_list<const std::vector<DocumentRecord>*>{&now, &next}) {
      for (const DocumentRecord& document : *documents) {
        if (IsBeingWritten(document.id)) return BeingWritten(document);
      }
    }
    if (!SameContents(now, next)) return false;

    RecordBatch batch;
    std::map<std::string, const DocumentRecord*> by_source;
    for (const DocumentRecord& document : now) {
      if (document.complete) by_source.emplace(document.source, &document);
    }
    for (const DocumentRecord& document : next) {
      EID_RETURN_IF_ERROR(document.complete
                              ? TakePlace(*by_source.at(document.source), document, &batch)
                              : RemoveChanges(document, &batch));
    }
    for (const DocumentRecord& document : now) EID_RETURN_IF_ERROR(RemoveChanges(document, &batch));
    batch.Delete(Family::kMeta, format::CollectionKey(generation->name));
    generation->name = collection;
    const std::string key = format::CollectionKey(collection);
    batch.Put(Family::kMeta, key, format::EncodeCollection(key, *generation));
    // No index is made of one's layout and the other's documents.
    std::lock_guard index_lock(index_mutex_);
    EID_RETURN_IF_ERROR(records_->Write(batch, true));
    CollectionChanged(collection);
  }
  for (const DocumentRecord& document : now) AfterRemoval(document);
  KeepWords(collection, 0, nullptr);
  return true;
}

}  // namespace eidetic::memory
