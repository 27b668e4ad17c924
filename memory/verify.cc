// Reads everything and checks it against everything else. Goes on after damage, so that one run
// names all of it.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/format.h"
#include "memory/hash.h"
#include "memory/verify_lineage.h"
#include "memory/verify_log.h"
#include "memory/verify_sessions.h"

namespace eidetic::memory {
namespace {

struct Contents {
  std::map<std::string, CollectionRecord> collections;
  std::map<DocumentId, DocumentRecord> documents;
  std::map<LineageId, LineageRecord> lineages;
  std::map<DocumentId, std::string> pointers;
  std::map<LineageId, DocumentId> document_of_lineage;
  std::set<DocumentId> unfinished_texts;
  std::set<DocumentId> dated;
  std::set<std::string> sessions;
  std::map<format::Counter, uint64_t> counters;
  bool format = false;
};

std::string Hashable(const Layout& layout) {
  std::string text = layout.fingerprint;
  text.append("/").append(kernels::CodecName(layout.codec));
  for (int number :
       {layout.kv_heads, layout.head_dim, layout.block_tokens, layout.representative_tokens}) {
    text.append("/").append(std::to_string(number));
  }
  for (int layer : layout.layers) text.append(",").append(std::to_string(layer));
  return text;
}

void HashNumber(uint64_t number, Sha256* hash) {
  hash->Update({reinterpret_cast<const char*>(&number), sizeof number});
}

class Verifier {
 public:
  Verifier(const RecordStore& records, const std::function<bool(const VerifyProgress&)>& progress)
      : records_(records), log_(progress), lineages_(records, &log_), sessions_(records, &log_) {}

  Result<VerifyReport> Run() {
    if (const std::string lost = records_.LogDamage(); !lost.empty()) Damaged(lost);
    EID_RETURN_IF_ERROR(ReadMeta());
    CheckReferences();
    EID_RETURN_IF_ERROR(ReadSessions());
    EID_RETURN_IF_ERROR(sessions_.Check(contents_.lineages));
    CheckOwners();
    LineageId past = 0;  // the first lineage that was not looked at
    DocumentId past_text = 0;
    for (const auto& [id, lineage] : contents_.lineages) {
      EID_RETURN_IF_ERROR(lineages_.ReadStrays(past, id));
      EID_RETURN_IF_ERROR(lineages_.Read(Subject(lineage), &digests_[id]));
      past = id + 1;
    }
    EID_RETURN_IF_ERROR(lineages_.ReadStrays(past, std::nullopt));
    for (const auto& [id, document] : contents_.documents) {
      EID_RETURN_IF_ERROR(ReadStrayTexts(past_text, id));
      EID_RETURN_IF_ERROR(ReadText(document));
      past_text = id + 1;
    }
    EID_RETURN_IF_ERROR(ReadStrayTexts(past_text, std::nullopt));
    CheckCounters();
    Digest();
    log_.Finish();
    return std::move(log_.report());
  }

 private:
  void Damaged(std::string what, DocumentId document = 0) {
    log_.Damaged(std::move(what), document);
  }

  // --- meta ---

  Status ReadMeta() {
    const Status status =
        records_.Scan(Family::kMeta, "", "", [&](std::string_view key, std::string_view value) {
          const Status record = ReadMetaRecord(key, value);
          if (!record.ok()) Damaged("meta: " + record.message());
          return log_.Count();
        });
    if (status.code() == Code::kCorruption) {
      Damaged("meta: " + status.message());
    } else if (!status.ok()) {
      return status;
    }
    for (const auto& [id, lineage] : contents_.lineages) {
      log_.Expect(lineage.committed_blocks * (1 + 2 * lineage.layout.layers.size()));
    }
    for (const auto& [id, document] : contents_.documents) {
      log_.Expect(document.bytes / format::kTextChunkBytes + 1);
    }
    log_.Expect(log_.report().records);
    return {};
  }

  Status ReadMetaRecord(std::string_view key, std::string_view value) {
    switch (static_cast<format::MetaTag>(key.empty() ? '\0' : key[0])) {
      case format::MetaTag::kFormat:
        contents_.format = true;
        return format::DecodeFormat(key, value).status();
      case format::MetaTag::kCounter: {
        EID_ASSIGN_OR_RETURN(uint64_t number, format::DecodeNumber(key, value));
        for (auto counter :
             {format::Counter::kBlock, format::Counter::kLineage, format::Counter::kDocument}) {
          if (key == format::CounterKey(counter)) contents_.counters[counter] = number;
        }
        return {};
      }
      case format::MetaTag::kCollection: {
        EID_ASSIGN_OR_RETURN(CollectionRecord record, format::DecodeCollection(key, value));
        contents_.collections.emplace(record.name, std::move(record));
        return {};
      }
      case format::MetaTag::kDocument: {
        EID_ASSIGN_OR_RETURN(DocumentRecord record, format::DecodeDocument(key, value));
        contents_.document_of_lineage.emplace(record.lineage, record.id);
        const DocumentId id = record.id;
        if (contents_.documents.emplace(id, std::move(record)).second) return {};
        return Status(Code::kCorruption, "document " + std::to_string(id) + " has two records");
      }
      case format::MetaTag::kDocumentKey: {
        EID_ASSIGN_OR_RETURN(uint64_t id,
                             format::ParseTaggedId(format::MetaTag::kDocumentKey, key));
        EID_ASSIGN_OR_RETURN(std::string_view target, format::DecodeBytes(key, value));
        contents_.pointers.emplace(id, target);
        return {};
      }
      case format::MetaTag::kLineage: {
        EID_ASSIGN_OR_RETURN(LineageRecord record, format::DecodeLineage(key, value));
        contents_.lineages.emplace(record.id, std::move(record));
        return {};
      }
      case format::MetaTag::kUncommitted: {
        EID_RETURN_IF_ERROR(format::ParseTaggedId(format::MetaTag::kUncommitted, key).status());
        return format::DecodeNumber(key, value).status();
      }
      case format::MetaTag::kUnfinishedText: {
        EID_ASSIGN_OR_RETURN(uint64_t id,
                             format::ParseTaggedId(format::MetaTag::kUnfinishedText, key));
        contents_.unfinished_texts.insert(id);
        return format::DecodeNumber(key, value).status();
      }
      case format::MetaTag::kIngested: {
        EID_ASSIGN_OR_RETURN(uint64_t id, format::ParseTaggedId(format::MetaTag::kIngested, key));
        contents_.dated.insert(id);
        return format::DecodeNumber(key, value).status();
      }
      case format::MetaTag::kPurge:
        return format::DecodeNumber(key, value).status();
    }
    return Status(Code::kCorruption, "the key " + format::Printable(key) + " is of no known kind");
  }

  static std::string Name(const DocumentRecord& document) {
    return "collection " + std::string(VisibleName(document.collection)) +
           (IsGeneration(document.collection) ? ", next generation" : "") + ", document " +
           std::to_string(document.id) + " (" + document.source + ")";
  }

  const DocumentRecord* DocumentOf(const LineageRecord& lineage) const {
    const auto found = contents_.document_of_lineage.find(lineage.id);
    return found == contents_.document_of_lineage.end() ? nullptr
                                                        : &contents_.documents.at(found->second);
  }

  LineageSubject Subject(const LineageRecord& lineage) const {
    LineageSubject subject;
    subject.lineage = &lineage;
    subject.name = lineage.owner + ", lineage " + std::to_string(lineage.id);
    if (const DocumentRecord* document = DocumentOf(lineage)) {
      subject.name = Name(*document);
      subject.document = document->id;
      subject.text_bytes = document->bytes;
    }
    return subject;
  }

  void CheckReferences() {
    for (const auto& [id, document] : contents_.documents) {
      const std::string key =
          format::DocumentKey(document.collection, document.source, document.id);
      auto pointer = contents_.pointers.find(id);
      if (pointer == contents_.pointers.end() || pointer->second != key) {
        Damaged(Name(document) + ": its pointer is missing or leads elsewhere", id);
      }
      auto collection = contents_.collections.find(document.collection);
      if (collection == contents_.collections.end()) {
        Damaged(Name(document) + ": there is no such collection", id);
      }
      auto lineage = contents_.lineages.find(document.lineage);
      if (lineage == contents_.lineages.end()) {
        Damaged(
            Name(document) + ": its lineage " + std::to_string(document.lineage) + " is missing",
            id);
        continue;
      }
      if (lineage->second.owner != DocumentOwner(id)) {
        Damaged(Name(document) + ": its lineage belongs to " + lineage->second.owner, id);
      }
      if (lineage->second.committed_tokens != document.committed_tokens ||
          lineage->second.committed_blocks != document.committed_blocks ||
          (document.complete && document.committed_tokens != document.tokens)) {
        Damaged(Name(document) + ": it has " + std::to_string(document.committed_tokens) + " of " +
                    std::to_string(document.tokens) + " tokens, its lineage " +
                    std::to_string(lineage->second.committed_tokens),
                id);
      }
      if (collection != contents_.collections.end() &&
          !(lineage->second.layout == collection->second.layout)) {
        Damaged(Name(document) + ": its layout is not that of its collection", id);
      }
    }
    for (const auto& [name, collection] : contents_.collections) {
      const std::string visible(VisibleName(name));
      if (IsGeneration(name) && !contents_.collections.contains(visible)) {
        Damaged("collection " + visible + " has a next generation, and is not there itself");
      }
    }
    for (const DocumentId id : contents_.dated) {
      if (!contents_.documents.contains(id)) {
        Damaged("document " + std::to_string(id) + " has a time and no record", id);
      }
    }
    for (const auto& [id, key] : contents_.pointers) {
      if (!contents_.documents.contains(id)) {
        Damaged("document " + std::to_string(id) + ": its record is missing or damaged", id);
      }
    }
  }

  void CheckOwners() {
    for (const auto& [id, lineage] : contents_.lineages) {
      if (DocumentOf(lineage) == nullptr && !contents_.sessions.contains(lineage.owner) &&
          !sessions_.Sees(id)) {
        Damaged("lineage " + std::to_string(id) + ": its owner " + lineage.owner + " is missing");
      }
    }
  }

  // An id at or past its counter would be given again.
  void CheckCounter(format::Counter counter, const char* what, uint64_t largest) {
    const auto found = contents_.counters.find(counter);
    const uint64_t next = found == contents_.counters.end() ? 1 : found->second;
    if (largest < next) return;
    Damaged(std::string("meta: the counter of ") + what + " stands at " + std::to_string(next) +
            ", an id of " + std::to_string(largest) + " is in use");
  }

  void CheckCounters() {
    if (!contents_.format) Damaged("meta: the format record is missing");
    CheckCounter(format::Counter::kBlock, "blocks", lineages_.largest_block());
    CheckCounter(format::Counter::kLineage, "lineages",
                 contents_.lineages.empty() ? 0 : contents_.lineages.rbegin()->first);
    CheckCounter(format::Counter::kDocument, "documents",
                 contents_.documents.empty() ? 0 : contents_.documents.rbegin()->first);
  }

  // --- sessions ---

  // Head and chunks of one blob, as the scan meets them.
  struct Blob {
    std::string prefix;
    std::string name;
    format::BlobHead head;
    uint32_t next = 0;
    uint64_t bytes = 0;
  };

  void EndBlob(const Blob& blob) {
    if (blob.next == 0) return;
    if (blob.next != blob.head.chunks + 1 || blob.bytes != blob.head.bytes) {
      Damaged(blob.name + ": " + std::to_string(blob.bytes) + " of " +
              std::to_string(blob.head.bytes) + " bytes are there");
    } else if (blob.prefix[0] == static_cast<char>(format::SessionTag::kSnapshot)) {
      sessions_.SawSnapshot(blob.prefix);
    }
  }

  Status ReadSessionRecord(std::string_view key, std::string_view value, Blob* blob) {
    if (SessionVerifier::Knows(key)) {
      EndBlob(*blob);
      *blob = Blob();
      return sessions_.Read(key, value);
    }
    constexpr size_t kChunkBytes = sizeof(uint32_t);
    if (key.size() <= kChunkBytes) {
      return Status(Code::kCorruption, "the key " + format::Printable(key) + " is too short");
    }
    const std::string prefix(key.substr(0, key.size() - kChunkBytes));
    if (prefix != blob->prefix) {
      EndBlob(*blob);
      *blob = Blob();
      blob->prefix = prefix;
      if (key[0] == static_cast<char>(format::SessionTag::kSession)) {
        EID_ASSIGN_OR_RETURN(const std::string session, format::ParseSessionKey(key));
        blob->name = "session " + session;
        contents_.sessions.insert(SessionOwner(session));
      } else if (key[0] == static_cast<char>(format::SessionTag::kSnapshot)) {
        blob->name = "the state of a turn at " + format::Printable(prefix);
      } else {
        blob->name = "the reader's state at " + format::Printable(prefix);
        CheckReaderState(prefix);
      }
    }
    if (key != format::BlobKey(prefix, blob->next)) {
      return Status(Code::kCorruption, "chunk " + std::to_string(blob->next) +
                                           " is missing before " + format::Printable(key));
    }
    if (blob->next++ == 0) {
      EID_ASSIGN_OR_RETURN(blob->head, format::DecodeBlobHead(key, value));
    } else {
      EID_ASSIGN_OR_RETURN(std::string_view chunk, format::DecodeBytes(key, value));
      blob->bytes += chunk.size();
    }
    return {};
  }

  void CheckReaderState(const std::string& prefix) {
    for (const auto& [id, document] : contents_.documents) {
      if (!document.complete && prefix == format::ReaderStatePrefix(id)) return;
    }
    Damaged("sessions: a reader's state at " + format::Printable(prefix) +
            " belongs to no unfinished document");
  }

  Status ReadSessions() {
    Blob blob;
    const Status status =
        records_.Scan(Family::kSessions, "", "", [&](std::string_view key, std::string_view value) {
          const Status record = ReadSessionRecord(key, value, &blob);
          if (!record.ok()) {
            sessions_.SawDamage();
            Damaged((blob.name.empty() ? "sessions" : blob.name) + ": " + record.message());
            // One record's damage is told once: what follows is taken as it comes.
            blob.next = 0;
            blob.head = {};
          }
          return log_.Count();
        });
    EndBlob(blob);
    if (status.code() == Code::kCorruption) {
      sessions_.SawDamage();
      Damaged((blob.name.empty() ? "sessions" : blob.name) + ": " + status.message());
      return {};
    }
    return status;
  }
  // --- text ---

  Status ReadText(const DocumentRecord& document) {
    Sha256 hash;
    uint64_t bytes = 0;
    uint32_t next = 0;
    bool damaged = false;
    const std::string prefix = format::TextPrefix(document.id);
    const std::string map_prefix = format::TextMapPrefix(document.id);
    uint64_t map_records = 0;
    const Status status = records_.Scan(
        Family::kText, prefix, format::PrefixEnd(prefix),
        [&](std::string_view key, std::string_view value) -> Status {
          EID_RETURN_IF_ERROR(log_.Count());
          if (!document.map_hash.empty() && key.starts_with(map_prefix)) {
            ++map_records;
            return {};  // looked at as a whole
          }
          Result<std::string_view> chunk = format::DecodeBytes(key, value);
          if (!chunk.ok() || key != format::TextKey(document.id, next)) {
            damaged = true;
            Damaged(Name(document) + ", text chunk " + std::to_string(next) + ": " +
                        (chunk.ok() ? "the record is missing" : chunk.status().message()),
                    document.id);
          } else {
            hash.Update(*chunk);
            bytes += chunk->size();
          }
          ++next;
          return {};
        });
    if (status.code() == Code::kCorruption) {
      damaged = true;
      Damaged(Name(document) + ", text: " + status.message(), document.id);
    } else if (!status.ok()) {
      return status;
    }
    if (!damaged && (bytes != document.bytes || hash.Finish() != document.content_hash)) {
      Damaged(Name(document) + ": its text is not what was ingested", document.id);
    }
    if (const Status map = ReadTextMap(records_, document).status(); !map.ok()) {
      if (map.code() != Code::kCorruption && map.code() != Code::kNotFound) return map;
      Damaged(Name(document) + ", the map to its original: " + map.message(), document.id);
    }
    return {};
  }

  Status ReadStrayTexts(DocumentId begin, std::optional<DocumentId> end) {
    if (!contents_.unfinished_texts.empty()) return {};  // a document is just being made
    if (end && begin >= *end) return {};
    return lineages_.CountStrays(Family::kText, format::TextPrefix(begin),
                                 end ? format::TextPrefix(*end) : std::string(), std::nullopt,
                                 "documents without a record");
  }

  // --- digest ---

  void Digest() {
    for (const auto& [name, collection] : contents_.collections) {
      std::map<std::string, const DocumentRecord*> by_source;
      for (const auto& [id, document] : contents_.documents) {
        if (document.collection != name || !document.complete) continue;
        if (!by_source.emplace(document.source, &document).second) {
          Damaged(Name(document) + ": its source has two complete versions", id);
        }
      }
      if (IsGeneration(name)) continue;  // no collection yet
      CollectionDigest digest;
      digest.collection = name;
      Sha256 hash;
      hash.Update(Hashable(collection.layout));
      for (const auto& [source, document] : by_source) {
        HashNumber(source.size(), &hash);
        hash.Update(source);
        hash.Update(document->content_hash);
        HashNumber(document->bytes, &hash);
        HashNumber(document->tokens, &hash);
        hash.Update(digests_[document->lineage]);
        ++digest.documents;
        digest.blocks += document->committed_blocks;
      }
      digest.digest = hash.Finish();
      log_.report().collections.push_back(std::move(digest));
    }
  }

  const RecordStore& records_;
  VerifyLog log_;
  Contents contents_;
  LineageVerifier lineages_;
  SessionVerifier sessions_;
  std::map<LineageId, std::string> digests_;
};

}  // namespace

Result<VerifyReport> ArchiveImpl::Verify(
    const std::function<bool(const VerifyProgress&)>& progress) const {
  EID_RETURN_IF_ERROR(CheckNotVerifying());
  // Documents must not go while their parts are compared.
  std::shared_lock lock(catalog_mutex_);
  {
    std::lock_guard verifying_lock(verifying_mutex_);
    verifying_.insert(std::this_thread::get_id());
  }
  Result<VerifyReport> report = Verifier(*records_, progress).Run();
  std::lock_guard verifying_lock(verifying_mutex_);
  verifying_.erase(std::this_thread::get_id());
  return report;
}

}  // namespace eidetic::memory
