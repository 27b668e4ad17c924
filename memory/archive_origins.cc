// What a document's text was extracted from, and how it maps to it.
#include <string>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/blob.h"
#include "memory/format.h"
#include "memory/hash.h"

namespace eidetic::memory {

bool SameOrigin(const DocumentRecord& a, const DocumentRecord& b) {
  return a.format == b.format && a.original_bytes == b.original_bytes && a.map_hash == b.map_hash;
}

Result<TextMap> ReadTextMap(const RecordStore& records, const DocumentRecord& document) {
  if (document.map_hash.empty()) return TextMap();
  EID_ASSIGN_OR_RETURN(const std::string bytes,
                       ReadBlob(records, Family::kText, format::TextMapPrefix(document.id)));
  if (Sha256Hex(bytes) != document.map_hash) {
    return Status(Code::kCorruption, "the map of document " + std::to_string(document.id) +
                                         " is not the one of its record");
  }
  return TextMap::Parse(bytes);
}

Status ArchiveImpl::PutOrigin(const DocumentOrigin& origin, DocumentRecord* document,
                              RecordBatch* batch) const {
  if (origin.format.size() > format::kMaxOriginFormatBytes) {
    return Status(Code::kInvalidArgument,
                  "the name of a document's format has " + std::to_string(origin.format.size()) +
                      " bytes, at most " + std::to_string(format::kMaxOriginFormatBytes),
                  "use a short name, such as html");
  }
  DocumentRecord changed = *document;
  changed.format = origin.format;
  changed.original_bytes = origin.original_bytes;
  changed.map_hash.clear();
  std::string map;
  if (!origin.map.identity()) {
    map = origin.map.Serialize();
    changed.map_hash = Sha256Hex(map);
  }
  if (SameOrigin(changed, *document)) return {};
  const std::string prefix = format::TextMapPrefix(document->id);
  if (!map.empty()) {
    EID_RETURN_IF_ERROR(PutBlob(*records_, Family::kText, prefix, map, batch));
  } else if (!document->map_hash.empty()) {
    batch->DeleteRange(Family::kText, prefix, format::PrefixEnd(prefix));
  }
  *document = std::move(changed);
  const std::string key = format::DocumentKey(document->collection, document->source, document->id);
  batch->Put(Family::kMeta, key, format::EncodeDocument(key, *document));
  return {};
}

Status ArchiveImpl::UpdateOrigin(DocumentId document, const DocumentOrigin& origin) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
  EID_ASSIGN_OR_RETURN(DocumentRecord record, Document(document));
  RecordBatch batch;
  EID_RETURN_IF_ERROR(PutOrigin(origin, &record, &batch));
  if (batch.changes().empty()) return {};
  return records_->Write(batch, true);
}

Result<TextMap> ArchiveImpl::MapOf(const DocumentRecord& document) const {
  Result<TextMap> map = ReadTextMap(*records_, document);
  if (map.ok()) return map;
  // Between the two reads the document may have gone, or come from another original.
  Result<DocumentRecord> now = Document(document.id);
  if (!now.ok()) return now.status();
  if (SameOrigin(*now, document)) return map;
  return ReadTextMap(*records_, *now);
}

}  // namespace eidetic::memory
