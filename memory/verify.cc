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

namespace eidetic::memory {
namespace {

constexpr uint64_t kProgressEvery = 512;

// Where a block of a lineage must be.
struct Place {
  uint64_t position = 0;
  int tokens = 0;  // 0: its header is damaged
  BlockId id = 0;
};

struct Contents {
  std::map<std::string, CollectionRecord> collections;
  std::map<DocumentId, DocumentRecord> documents;
  std::map<LineageId, LineageRecord> lineages;
  std::map<DocumentId, std::string> pointers;
  std::set<LineageId> uncommitted;
  std::set<DocumentId> unfinished_texts;
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
      : records_(records), progress_(progress) {}

  Result<VerifyReport> Run() {
    EID_RETURN_IF_ERROR(ReadMeta());
    CheckReferences();
    EID_RETURN_IF_ERROR(ReadSessions());
    CheckOwners();
    LineageId past = 0;  // the first lineage that was not looked at
    DocumentId past_text = 0;
    for (const auto& [id, lineage] : contents_.lineages) {
      EID_RETURN_IF_ERROR(ReadStrays(past, id));
      EID_RETURN_IF_ERROR(ReadLineage(lineage));
      past = id + 1;
    }
    EID_RETURN_IF_ERROR(ReadStrays(past, std::nullopt));
    for (const auto& [id, document] : contents_.documents) {
      EID_RETURN_IF_ERROR(ReadStrayTexts(past_text, id));
      EID_RETURN_IF_ERROR(ReadText(document));
      past_text = id + 1;
    }
    EID_RETURN_IF_ERROR(ReadStrayTexts(past_text, std::nullopt));
    CheckCounters();
    Digest();
    return std::move(report_);
  }

 private:
  Status Count() {
    if (++report_.records % kProgressEvery != 0 || !progress_) return {};
    if (progress_({report_.records, std::max(total_, report_.records)})) return {};
    return Status(Code::kCancelled,
                  "verification was stopped after " + std::to_string(report_.records) + " records");
  }

  void Damaged(std::string what, DocumentId document = 0, BlockId block = 0) {
    report_.damage.push_back({std::move(what), document, block});
  }

  // --- meta ---

  Status ReadMeta() {
    const Status status =
        records_.Scan(Family::kMeta, "", "", [&](std::string_view key, std::string_view value) {
          const Status record = ReadMetaRecord(key, value);
          if (!record.ok()) Damaged("meta: " + record.message());
          return Count();
        });
    if (status.code() == Code::kCorruption) {
      Damaged("meta: " + status.message());
    } else if (!status.ok()) {
      return status;
    }
    for (const auto& [id, lineage] : contents_.lineages) {
      total_ += lineage.committed_blocks * (1 + 2 * lineage.layout.layers.size());
    }
    for (const auto& [id, document] : contents_.documents) {
      total_ += document.bytes / format::kTextChunkBytes + 1;
    }
    total_ += report_.records;
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
        contents_.documents.emplace(record.id, std::move(record));
        return {};
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
        EID_ASSIGN_OR_RETURN(uint64_t id,
                             format::ParseTaggedId(format::MetaTag::kUncommitted, key));
        contents_.uncommitted.insert(id);
        return format::DecodeNumber(key, value).status();
      }
      case format::MetaTag::kUnfinishedText: {
        EID_ASSIGN_OR_RETURN(uint64_t id,
                             format::ParseTaggedId(format::MetaTag::kUnfinishedText, key));
        contents_.unfinished_texts.insert(id);
        return format::DecodeNumber(key, value).status();
      }
    }
    return Status(Code::kCorruption, "the key " + format::Printable(key) + " is of no known kind");
  }

  static std::string Name(const DocumentRecord& document) {
    return "collection " + document.collection + ", document " + std::to_string(document.id) +
           " (" + document.source + ")";
  }

  std::string Name(const LineageRecord& lineage) const {
    if (const DocumentRecord* document = DocumentOf(lineage)) return Name(*document);
    return lineage.owner + ", lineage " + std::to_string(lineage.id);
  }

  const DocumentRecord* DocumentOf(const LineageRecord& lineage) const {
    for (const auto& [id, document] : contents_.documents) {
      if (document.lineage == lineage.id) return &document;
    }
    return nullptr;
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
    for (const auto& [id, key] : contents_.pointers) {
      if (!contents_.documents.contains(id)) {
        Damaged("document " + std::to_string(id) + ": its record is missing or damaged", id);
      }
    }
  }

  void CheckOwners() {
    for (const auto& [id, lineage] : contents_.lineages) {
      if (DocumentOf(lineage) == nullptr && !contents_.sessions.contains(lineage.owner)) {
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
    CheckCounter(format::Counter::kBlock, "blocks", largest_block_);
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
    }
  }

  Status ReadSessionRecord(std::string_view key, std::string_view value, Blob* blob) {
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
            Damaged((blob.name.empty() ? "sessions" : blob.name) + ": " + record.message());
            // One record's damage is told once: what follows is taken as it comes.
            blob.next = 0;
            blob.head = {};
          }
          return Count();
        });
    EndBlob(blob);
    if (status.code() == Code::kCorruption) {
      Damaged((blob.name.empty() ? "sessions" : blob.name) + ": " + status.message());
      return {};
    }
    return status;
  }

  // --- blocks ---

  std::string Name(const LineageRecord& lineage, const Place& place) const {
    return Name(lineage) + ", block " +
           (place.id == 0 ? std::string("of unknown id") : std::to_string(place.id)) +
           " at position " + std::to_string(place.position);
  }

  Status ReadLineage(const LineageRecord& lineage) {
    const DocumentRecord* document = DocumentOf(lineage);
    Sha256 hash;
    std::vector<Place> places;
    EID_RETURN_IF_ERROR(ReadEmbeddings(lineage, document, &places, &hash));
    EID_RETURN_IF_ERROR(ReadPayloads(lineage, document, places, &hash));
    digests_[lineage.id] = hash.Finish();
    return {};
  }

  Status ReadEmbeddings(const LineageRecord& lineage, const DocumentRecord* document,
                        std::vector<Place>* places, Sha256* hash) {
    const DocumentId document_id = document == nullptr ? 0 : document->id;
    BlockHeader header;
    std::vector<uint16_t> representatives;
    uint64_t position = 0;
    const auto guess_next = [&] {
      const uint64_t left = lineage.committed_tokens - position;
      position += std::min<uint64_t>(left, static_cast<uint64_t>(lineage.layout.block_tokens));
    };
    const auto missing = [&](const std::string& what) {
      const Place place{position, 0, 0};
      Damaged(Name(lineage, place) + ", embeddings: " + what, document_id);
      places->push_back(place);
      guess_next();
    };
    while (position < lineage.committed_tokens) {
      const Status status = records_.Scan(
          Family::kEmbeddings, format::EmbeddingKey(lineage.id, position),
          format::EmbeddingKey(lineage.id, lineage.committed_tokens),
          [&](std::string_view key, std::string_view value) -> Status {
            EID_RETURN_IF_ERROR(Count());
            Result<format::EmbeddingKeyParts> parts = format::ParseEmbeddingKey(key);
            if (!parts.ok()) {
              Damaged(Name(lineage) + ", embeddings: " + parts.status().message(), document_id);
              return {};
            }
            while (position < parts->position) missing("the record is missing");
            if (position > parts->position) {
              Damaged(Name(lineage, {parts->position, 0, 0}) +
                          ", embeddings: it overlaps the block before it",
                      document_id);
              return {};
            }
            const Status decoded =
                format::DecodeEmbedding(key, value, lineage.layout, &header, &representatives);
            if (!decoded.ok()) {
              missing(decoded.message());
              return {};
            }
            const Place place{position, header.token_count(), header.id};
            if (document != nullptr && header.text_end > document->bytes) {
              Damaged(Name(lineage, place) + ": its text ends at byte " +
                          std::to_string(header.text_end) + " of " +
                          std::to_string(document->bytes),
                      document_id, header.id);
            }
            largest_block_ = std::max(largest_block_, header.id);
            places->push_back(place);
            position += header.tokens.size();
            for (uint64_t number : {header.position, header.text_begin, header.text_end,
                                    static_cast<uint64_t>(header.tokens.size())}) {
              HashNumber(number, hash);
            }
            hash->Update({reinterpret_cast<const char*>(header.tokens.data()),
                          header.tokens.size() * sizeof(int32_t)});
            hash->Update({reinterpret_cast<const char*>(representatives.data()),
                          representatives.size() * sizeof(uint16_t)});
            return {};
          });
      if (status.code() == Code::kCorruption) {
        missing(status.message());  // and go on behind it
      } else if (!status.ok()) {
        return status;
      } else {
        while (position < lineage.committed_tokens) missing("the record is missing");
      }
    }
    if (places->size() != lineage.committed_blocks || position != lineage.committed_tokens) {
      Damaged(Name(lineage) + ": " + std::to_string(places->size()) + " blocks up to position " +
                  std::to_string(position) + ", not " + std::to_string(lineage.committed_blocks) +
                  " up to " + std::to_string(lineage.committed_tokens),
              document_id);
    }
    if (contents_.uncommitted.contains(lineage.id)) return {};
    return CountStrays(Family::kEmbeddings,
                       format::EmbeddingKey(lineage.id, lineage.committed_tokens),
                       format::PrefixEnd(format::LineagePrefix(lineage.id)), Name(lineage));
  }

  // Walks over all keys that must be there, beside a scan over those that are.
  struct Walk {
    const LineageRecord* lineage;
    const std::vector<Place>* places;
    size_t layer = 0;
    int part = 0;
    size_t place = 0;

    bool done() const { return places->empty() || layer == lineage->layout.layers.size(); }
    PayloadKey key() const {
      return {lineage->id, lineage->layout.layers[layer], static_cast<Part>(part),
              (*places)[place].position};
    }
    const Place& at() const { return (*places)[place]; }
    void Next() {
      if (++place < places->size()) return;
      place = 0;
      if (++part < 2) return;
      part = 0;
      ++layer;
    }
  };

  Status ReadPayloads(const LineageRecord& lineage, const DocumentRecord* document,
                      const std::vector<Place>& places, Sha256* hash) {
    const DocumentId document_id = document == nullptr ? 0 : document->id;
    const bool tail = contents_.uncommitted.contains(lineage.id);
    Walk walk{&lineage, &places};
    const auto damaged = [&](const std::string& what) {
      Damaged(Name(lineage, walk.at()) + ", layer " + std::to_string(walk.key().layer) + ", " +
                  (walk.key().part == Part::kKeys ? "keys" : "values") + ": " + what,
              document_id, walk.at().id);
      walk.Next();
    };
    const std::string end = format::PrefixEnd(format::LineagePrefix(lineage.id));
    std::string begin = format::LineagePrefix(lineage.id);
    for (;;) {
      const Status status = records_.Scan(
          Family::kBlocks, begin, end, [&](std::string_view key, std::string_view value) -> Status {
            EID_RETURN_IF_ERROR(Count());
            while (!walk.done() && format::PayloadRecordKey(walk.key()) < key) {
              damaged("the record is missing");
            }
            if (walk.done() || format::PayloadRecordKey(walk.key()) != key) {
              const Result<PayloadKey> parts = format::ParsePayloadKey(key);
              if (tail && parts.ok() && parts->position >= lineage.committed_tokens) return {};
              Damaged(Name(lineage) + ", blocks: the record " + format::Printable(key) +
                          " belongs to no block",
                      document_id);
              return {};
            }
            Result<Payload> payload = format::DecodePayload(key, value);
            if (!payload.ok()) {
              damaged(payload.status().message());
              return {};
            }
            const Layout& layout = lineage.layout;
            const int tokens = walk.at().tokens;
            if (payload->codec != layout.codec || (tokens != 0 && payload->tokens != tokens) ||
                payload->bytes.size() != kernels::PayloadBytes(layout.codec, payload->tokens,
                                                               layout.kv_heads, layout.head_dim)) {
              damaged("codec, tokens or length differ from its block's header");
              return {};
            }
            hash->Update(payload->bytes);
            walk.Next();
            return {};
          });
      if (status.code() != Code::kCorruption) {
        EID_RETURN_IF_ERROR(status);
        break;
      }
      if (walk.done()) {
        Damaged(Name(lineage) + ", blocks: " + status.message(), document_id);
        break;
      }
      damaged(status.message());
      if (walk.done()) break;
      begin = format::PayloadRecordKey(walk.key());  // and go on behind it
    }
    while (!walk.done()) damaged("the record is missing");
    return {};
  }

  Status CountStrays(Family family, const std::string& begin, const std::string& end,
                     const std::string& whose) {
    uint64_t strays = 0;
    std::string first;
    const Status status =
        records_.Scan(family, begin, end, [&](std::string_view key, std::string_view) {
          if (strays++ == 0) first = format::Printable(key);
          return Count();
        });
    if (strays > 0) {
      Damaged(whose + ": " + std::to_string(strays) + " records of " + FamilyName(family) +
              " from " + first + " on belong to nothing");
    }
    if (status.code() != Code::kCorruption) return status;
    Damaged(std::string(FamilyName(family)) + ": " + status.message());
    return {};
  }

  // Records of lineages from `begin` to before `end` that have no lineage record.
  Status ReadStrays(LineageId begin, std::optional<LineageId> end) {
    for (Family family : {Family::kEmbeddings, Family::kBlocks}) {
      LineageId at = begin;
      for (auto live = contents_.uncommitted.lower_bound(begin);
           live != contents_.uncommitted.end() && (!end || *live < *end); ++live) {
        // A lineage whose first commit is still to come.
        EID_RETURN_IF_ERROR(CountStrays(family, format::LineagePrefix(at),
                                        format::LineagePrefix(*live), "lineages without a record"));
        at = *live + 1;
      }
      if (end && at >= *end) continue;
      EID_RETURN_IF_ERROR(CountStrays(family, format::LineagePrefix(at),
                                      end ? format::LineagePrefix(*end) : std::string(),
                                      "lineages without a record"));
    }
    return {};
  }

  // --- text ---

  Status ReadText(const DocumentRecord& document) {
    Sha256 hash;
    uint64_t bytes = 0;
    uint32_t next = 0;
    bool damaged = false;
    const std::string prefix = format::TextPrefix(document.id);
    const Status status = records_.Scan(
        Family::kText, prefix, format::PrefixEnd(prefix),
        [&](std::string_view key, std::string_view value) -> Status {
          EID_RETURN_IF_ERROR(Count());
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
    return {};
  }

  Status ReadStrayTexts(DocumentId begin, std::optional<DocumentId> end) {
    if (!contents_.unfinished_texts.empty()) return {};  // a document is just being made
    if (end && begin >= *end) return {};
    return CountStrays(Family::kText, format::TextPrefix(begin),
                       end ? format::TextPrefix(*end) : std::string(),
                       "documents without a record");
  }

  // --- digest ---

  void Digest() {
    for (const auto& [name, collection] : contents_.collections) {
      std::map<std::string, const DocumentRecord*> by_source;
      for (const auto& [id, document] : contents_.documents) {
        if (document.collection == name && document.complete)
          by_source[document.source] = &document;
      }
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
      report_.collections.push_back(std::move(digest));
    }
  }

  const RecordStore& records_;
  const std::function<bool(const VerifyProgress&)>& progress_;
  VerifyReport report_;
  Contents contents_;
  uint64_t total_ = 0;
  BlockId largest_block_ = 0;
  std::map<LineageId, std::string> digests_;
};

}  // namespace

Result<VerifyReport> ArchiveImpl::Verify(
    const std::function<bool(const VerifyProgress&)>& progress) const {
  // Documents must not go while their parts are compared.
  std::shared_lock lock(catalog_mutex_);
  return Verifier(*records_, progress).Run();
}

}  // namespace eidetic::memory
