#include "memory/archive.h"

#include <algorithm>
#include <chrono>
#include <unordered_set>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/blob.h"
#include "memory/format.h"

#include <random>

namespace eidetic::memory {
namespace {

constexpr char kWordsFolder[] = "words";
constexpr std::string_view kSessionOwnerPrefix = "session/";

// Stops a scan after its first record.
Status Enough() {
  return Status(Code::kCancelled, "enough");
}

// The status of a record, under the name of what it is about.
Status Of(const char* kind, std::string_view name, const Status& status) {
  return Status(status.code(),
                std::string(kind) + " " + std::string(name) + ": " + status.message(),
                status.remedy());
}

Result<bool> Exists(const RecordStore& records, Family family, const std::string& prefix) {
  bool found = false;
  const Status status = records.Scan(family, prefix, format::PrefixEnd(prefix),
                                     [&](std::string_view, std::string_view) {
                                       found = true;
                                       return Enough();
                                     });
  if (!status.ok() && !found) return status;
  return found;
}

constexpr char kSettingsRemedy[] =
    "a collection's settings are fixed when it is made: leave them open to use its own, or use "
    "another collection";

template <typename T>
Status Differs(const std::string& collection, const char* field, const T& there, const T& wanted) {
  if (there == wanted) return {};
  return Status(Code::kInvalidArgument,
                "collection " + collection + " has " + field + " " + std::to_string(there) +
                    ", not " + std::to_string(wanted),
                kSettingsRemedy);
}

std::string LayerList(const std::vector<int>& layers) {
  std::string text = "{";
  for (int layer : layers) text += (text.size() > 1 ? ", " : "") + std::to_string(layer);
  return text + "}";
}

Status CompareCollections(const CollectionRecord& there, const CollectionRecord& wanted) {
  const std::string& name = there.name;
  if (there.layout.fingerprint != wanted.layout.fingerprint) {
    return Status(
        Code::kFingerprintMismatch,
        "collection " + name + " was made by the model with fingerprint " +
            there.layout.fingerprint + ", this one has " + wanted.layout.fingerprint,
        "use the model that made it or another collection, or have this one read it again: "
        "`eidetic archive migrate`");
  }
  if (there.layout.layers != wanted.layout.layers) {
    return Status(Code::kInvalidArgument,
                  "collection " + name + " stores the layers " + LayerList(there.layout.layers) +
                      ", not " + LayerList(wanted.layout.layers),
                  kSettingsRemedy);
  }
  if (there.layout.codec != wanted.layout.codec) {
    return Status(Code::kInvalidArgument,
                  "collection " + name + " is coded as " + kernels::CodecName(there.layout.codec) +
                      ", not " + kernels::CodecName(wanted.layout.codec),
                  kSettingsRemedy);
  }
  const Layout& a = there.layout;
  const Layout& b = wanted.layout;
  EID_RETURN_IF_ERROR(Differs(name, "kv_heads", a.kv_heads, b.kv_heads));
  EID_RETURN_IF_ERROR(Differs(name, "head_dim", a.head_dim, b.head_dim));
  EID_RETURN_IF_ERROR(Differs(name, "block_tokens", a.block_tokens, b.block_tokens));
  EID_RETURN_IF_ERROR(
      Differs(name, "representative_tokens", a.representative_tokens, b.representative_tokens));
  EID_RETURN_IF_ERROR(Differs<int>(name, "read_with_span", there.read_with_span ? 1 : 0,
                                   wanted.read_with_span ? 1 : 0));
  EID_RETURN_IF_ERROR(Differs(name, "window", there.window, wanted.window));
  EID_RETURN_IF_ERROR(Differs(name, "sinks", there.sinks, wanted.sinks));
  return Differs(name, "segment", there.segment, wanted.segment);
}

}  // namespace

Status CheckName(const char* kind, std::string_view name, size_t max_bytes) {
  if (name.empty() || name.size() > max_bytes) {
    return Status(Code::kInvalidArgument,
                  std::string("the name of a ") + kind + " has " + std::to_string(name.size()) +
                      " bytes, must be 1.." + std::to_string(max_bytes),
                  "choose a name of that length");
  }
  if (name.find('\0') != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  std::string("the name of a ") + kind + " holds a NUL byte",
                  "take it out: names end at the first NUL");
  }
  return {};
}

std::string DocumentOwner(DocumentId document) {
  return "document/" + std::to_string(document);
}
std::string SessionOwner(std::string_view name) {
  return std::string(kSessionOwnerPrefix).append(name);
}

Result<std::shared_ptr<Archive>> Archive::Open(const ArchiveOptions& options) {
  RocksOptions rocks;
  rocks.path = options.path;
  rocks.create = options.create;
  rocks.read_only = options.read_only;
  rocks.repair = options.repair;
  EID_ASSIGN_OR_RETURN(std::shared_ptr<RecordStore> records, OpenRocksRecordStore(rocks));
  return ArchiveImpl::Make(std::move(records), options, options.path + "/" + kWordsFolder);
}

Result<std::shared_ptr<Archive>> Archive::OpenOver(std::shared_ptr<RecordStore> records,
                                                   const ArchiveOptions& options) {
  return ArchiveImpl::Make(std::move(records), options, "");
}

Result<std::shared_ptr<Archive>> ArchiveImpl::Make(std::shared_ptr<RecordStore> records,
                                                   const ArchiveOptions& options,
                                                   std::string words_folder) {
  auto archive = std::shared_ptr<ArchiveImpl>(
      new ArchiveImpl(std::move(records), options, std::move(words_folder)));
  EID_RETURN_IF_ERROR(archive->EnsureFormat());
  EID_ASSIGN_OR_RETURN(archive->store_,
                       BlockStore::Open(archive->records_, options.pool_bytes, options.read_only));
  archive->sessions_ = std::make_unique<SessionStore>(
      archive->records_, archive->store_.get(), options.read_only,
      [self = archive.get()] { return self->LockCatalog(); },
      [self = archive.get()](const std::string& collection) {
        return self->DocumentLineages(collection);
      });
  if (!options.read_only) {
    EID_ASSIGN_OR_RETURN(archive->document_ids_,
                         IdCounter::Open(archive->records_.get(), format::Counter::kDocument, 1));
    EID_RETURN_IF_ERROR(archive->SweepOrphans());
    archive->FinishForgetting();
  }
  return std::shared_ptr<Archive>(std::move(archive));
}

Status ArchiveImpl::CheckWritable() const {
  if (!options_.read_only) return {};
  return Status(Code::kInvalidArgument, "the archive at " + path() + " was opened read-only",
                "open it without read_only to write");
}

Status ArchiveImpl::CheckNotVerifying() const {
  std::lock_guard lock(verifying_mutex_);
  if (!verifying_.contains(std::this_thread::get_id())) return {};
  return Status(Code::kInvalidArgument,
                "the archive at " + path() + " is being verified by this very thread",
                "do not write to it, nor verify it, in the progress callback of its verification");
}

Result<std::unique_lock<std::shared_mutex>> ArchiveImpl::LockCatalog() {
  EID_RETURN_IF_ERROR(CheckNotVerifying());
  return std::unique_lock(catalog_mutex_);
}

Status ArchiveImpl::EnsureFormat() {
  const std::string key = format::FormatKey();
  Result<std::string> value = records_->Get(Family::kMeta, key);
  if (value.status().code() != Code::kNotFound) {
    const Status status = value.ok() ? format::DecodeFormat(key, *value).status() : value.status();
    if (status.code() != Code::kCorruption) return status;
    // Every record has a version and a checksum of its own: what is whole can be read, and
    // verification names what is not.
    if (options_.read_only) return {};
    return Status(
        status.code(),
        "the format record of the archive at " + path() + " cannot be read: " + status.message(),
        "restore the archive from a backup; opened read-only, the rest can be read");
  }
  EID_ASSIGN_OR_RETURN(const bool used, Exists(*records_, Family::kMeta, ""));
  if (used) {
    return Status(Code::kCorruption,
                  "the database at " + path() + " has records but no format record",
                  "it is damaged, or no archive of eidetic: restore it from a copy");
  }
  if (const std::string lost = records_->LogDamage(); !lost.empty()) {
    return Status(Code::kCorruption, lost + ", all of it", "restore the archive from a backup");
  }
  if (!options_.create || options_.read_only) {
    return Status(Code::kNotFound, "there is no archive at " + path(),
                  "check the path, or ingest a document to make one");
  }
  format::FormatRecord record;
  std::random_device random;
  for (uint8_t& byte : record.store_id) byte = static_cast<uint8_t>(random());
  RecordBatch batch;
  batch.Put(Family::kMeta, key, format::EncodeFormat(key, record));
  return records_->Write(batch, true);
}

Status ArchiveImpl::SweepOrphans() {
  RecordBatch batch;
  const std::string unfinished = format::TagPrefix(format::MetaTag::kUnfinishedText);
  EID_RETURN_IF_ERROR(records_->Scan(
      Family::kMeta, unfinished, format::PrefixEnd(unfinished),
      [&](std::string_view key, std::string_view) -> Status {
        EID_ASSIGN_OR_RETURN(uint64_t document,
                             format::ParseTaggedId(format::MetaTag::kUnfinishedText, key));
        const std::string prefix = format::TextPrefix(document);
        batch.DeleteRange(Family::kText, prefix, format::PrefixEnd(prefix));
        batch.Delete(Family::kMeta, std::string(key));
        return {};
      }));

  std::unordered_set<std::string> owners;
  const std::string pointers = format::TagPrefix(format::MetaTag::kDocumentKey);
  EID_RETURN_IF_ERROR(records_->Scan(
      Family::kMeta, pointers, format::PrefixEnd(pointers),
      [&](std::string_view key, std::string_view) -> Status {
        EID_ASSIGN_OR_RETURN(uint64_t document,
                             format::ParseTaggedId(format::MetaTag::kDocumentKey, key));
        owners.insert(DocumentOwner(document));
        return {};
      }));
  EID_ASSIGN_OR_RETURN(const std::vector<std::string> saved, SavedSessions());
  for (const std::string& session : saved) owners.insert(SessionOwner(session));
  // Without all sessions' records nobody can say what they see.
  Result<std::vector<LineageId>> seen = sessions_->SeenLineages();
  if (!seen.ok() && seen.status().code() != Code::kCorruption) return seen.status();

  // A damaged record is verification's to report: it must not keep the rest from being read.
  Result<std::vector<LineageRecord>> lineages = store_->Lineages();
  if (lineages.ok()) {
    for (const LineageRecord& lineage : *lineages) {
      if (owners.contains(lineage.owner)) continue;
      if (lineage.owner.starts_with(kSessionOwnerPrefix)) {
        if (!seen.ok() || std::binary_search(seen->begin(), seen->end(), lineage.id)) continue;
        SessionStore::RemoveTurns(lineage.id, &batch);
      }
      EID_RETURN_IF_ERROR(store_->RemoveLineage(lineage.id, &batch));
    }
  } else if (lineages.status().code() != Code::kCorruption) {
    return lineages.status();
  }
  return batch.changes().empty() ? Status() : records_->Write(batch, true);
}

Status CollectionRecord::Validate() const {
  EID_RETURN_IF_ERROR(layout.Validate());
  const auto refuse = [](const char* what, int value, const std::string& range) {
    return Status(Code::kInvalidArgument,
                  std::string(what) + " is " + std::to_string(value) + ", must be " + range,
                  "correct it, or leave it open for the default");
  };
  if (window < 1 || window > format::kMaxReadTokens) {
    return refuse("the window", window, "1 to " + std::to_string(format::kMaxReadTokens));
  }
  if (sinks < 0 || sinks > format::kMaxSinks || sinks % layout.block_tokens != 0) {
    return refuse("the number of sinks", sinks,
                  "a multiple of " + std::to_string(layout.block_tokens) + " from 0 to " +
                      std::to_string(format::kMaxSinks));
  }
  if (segment < 1 || segment > format::kMaxReadTokens) {
    return refuse("the segment", segment, "1 to " + std::to_string(format::kMaxReadTokens));
  }
  return {};
}

Result<CollectionRecord> ArchiveImpl::EnsureCollection(const CollectionRecord& wanted) {
  EID_RETURN_IF_ERROR(CheckName("collection", wanted.name, format::kMaxNameBytes));
  if (IsGeneration(wanted.name)) {
    return Status(Code::kInvalidArgument, "the name of a collection begins with the byte 0xff",
                  "choose a name in UTF-8");
  }
  EID_RETURN_IF_ERROR(wanted.Validate());
  EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
  Result<CollectionRecord> there = Collection(wanted.name);
  if (there.ok()) {
    EID_RETURN_IF_ERROR(CompareCollections(*there, wanted));
    return there;
  }
  if (there.status().code() != Code::kNotFound) return there;
  EID_RETURN_IF_ERROR(CheckWritable());
  const std::string key = format::CollectionKey(wanted.name);
  RecordBatch batch;
  batch.Put(Family::kMeta, key, format::EncodeCollection(key, wanted));
  EID_RETURN_IF_ERROR(records_->Write(batch, true));
  return wanted;
}

Result<CollectionRecord> ArchiveImpl::Collection(const std::string& name) const {
  // A generation that is being built is nobody's to search.
  if (!IsGeneration(name)) return CollectionOrGeneration(name);
  return NoCollection(name);
}

Status ArchiveImpl::NoCollection(const std::string& name) const {
  return Status(Code::kNotFound, "there is no collection " + name + " in the archive " + path(),
                "`eidetic memory list` shows the collections there are");
}

Result<CollectionRecord> ArchiveImpl::CollectionOrGeneration(const std::string& name) const {
  const std::string key = format::CollectionKey(name);
  Result<std::string> value = records_->Get(Family::kMeta, key);
  if (!value.ok()) {
    if (value.status().code() != Code::kNotFound) return value.status();
    return NoCollection(name);
  }
  Result<CollectionRecord> record = format::DecodeCollection(key, *value);
  if (!record.ok()) return Of("collection", name, record.status());
  return record;
}

Result<std::vector<CollectionRecord>> ArchiveImpl::Collections() const {
  std::vector<CollectionRecord> collections;
  const std::string prefix = format::TagPrefix(format::MetaTag::kCollection);
  EID_RETURN_IF_ERROR(records_->Scan(Family::kMeta, prefix, format::PrefixEnd(prefix),
                                     [&](std::string_view key, std::string_view value) -> Status {
                                       Result<CollectionRecord> record =
                                           format::DecodeCollection(key, value);
                                       if (!record.ok()) {
                                         return Of("collection", key.substr(1), record.status());
                                       }
                                       if (!IsGeneration(record->name)) {
                                         collections.push_back(std::move(record).value());
                                       }
                                       return {};
                                     }));
  return collections;
}

int64_t ArchiveImpl::Now() const {
  if (options_.clock) return options_.clock();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

void ArchiveImpl::CollectionChanged(const std::string& collection) {
  std::lock_guard lock(epoch_mutex_);
  ++epochs_[collection];
}

bool ArchiveImpl::AnyIsGone(const std::vector<DocumentRecord>& documents) const {
  return std::any_of(documents.begin(), documents.end(), [&](const DocumentRecord& document) {
    const std::string key = format::DocumentKey(document.collection, document.source, document.id);
    return records_->Get(Family::kMeta, key).status().code() == Code::kNotFound;
  });
}

Result<std::shared_ptr<const RepresentativeIndex>> ArchiveImpl::Index(const std::string& collection,
                                                                      IndexKind kind, int threads) {
  EID_RETURN_IF_ERROR(Collection(collection).status());
  std::lock_guard lock(index_mutex_);
  CachedIndex& cached = indexes_[IndexName(collection, kind, threads)];
  // A document that is removed while we read makes its lineage disappear: begin again.
  for (;;) {
    uint64_t epoch = 0;
    {
      std::lock_guard epoch_lock(epoch_mutex_);
      epoch = epochs_[collection];
    }
    if (cached.epoch == epoch) {
      if (auto index = cached.index.lock()) return index;
    }
    // Under the lock, which a generation's swap takes, too: the layout is that of the documents.
    EID_ASSIGN_OR_RETURN(const CollectionRecord record, Collection(collection));
    EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> documents, Documents(collection));
    auto index = std::make_shared<RepresentativeIndex>(record.layout, kind, threads);
    Status status;
    for (const DocumentRecord& document : documents) {
      if (!document.complete) continue;
      status = index->AddLineage(*store_, document.lineage, IndexedBlocks::kWithText);
      if (!status.ok()) break;
    }
    if (!status.ok()) {
      // The epoch follows a removal a moment later: what was listed is looked for again.
      if (status.code() == Code::kNotFound && AnyIsGone(documents)) continue;
      std::lock_guard epoch_lock(epoch_mutex_);
      if (epochs_[collection] == epoch) return status;
      continue;
    }
    cached.epoch = epoch;
    cached.index = index;
    return std::shared_ptr<const RepresentativeIndex>(std::move(index));
  }
}

Status ArchiveImpl::CommitSession(const std::string& name, LineageWriter* lineage,
                                  std::string record) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(CheckName("session", name, format::kMaxNameBytes));
  RecordBatch batch;
  EID_RETURN_IF_ERROR(
      PutBlob(*records_, Family::kSessions, format::SessionPrefix(name), record, &batch));
  std::string().swap(record);
  if (lineage != nullptr) return lineage->Commit(std::move(batch));
  return records_->Write(batch, true);
}

Result<std::string> ArchiveImpl::SessionRecord(const std::string& name) const {
  EID_RETURN_IF_ERROR(CheckName("session", name, format::kMaxNameBytes));
  Result<std::string> record = ReadBlob(*records_, Family::kSessions, format::SessionPrefix(name));
  if (record.ok()) return record;
  if (record.status().code() == Code::kNotFound) {
    return Status(Code::kNotFound, "there is no session " + name + " in the archive " + path(),
                  "`eidetic memory list` shows the sessions there are");
  }
  return Of("session", name, record.status());
}

Result<std::vector<LineageId>> ArchiveImpl::DocumentLineages(const std::string& collection) const {
  EID_ASSIGN_OR_RETURN(const std::vector<DocumentRecord> documents,
                       DocumentsAt(format::DocumentPrefix(collection)));
  std::vector<LineageId> lineages;
  for (const DocumentRecord& document : documents) {
    if (document.complete) lineages.push_back(document.lineage);
  }
  std::sort(lineages.begin(), lineages.end());
  return lineages;
}

Result<std::vector<std::string>> ArchiveImpl::Sessions() const {
  EID_ASSIGN_OR_RETURN(std::vector<std::string> names, SavedSessions());
  EID_ASSIGN_OR_RETURN(const std::vector<SessionHead> heads, sessions_->List());
  for (const SessionHead& head : heads) names.push_back(head.name);
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::vector<std::string>> ArchiveImpl::SavedSessions() const {
  std::vector<std::string> names;
  std::string begin = format::TagPrefix(format::SessionTag::kSession);
  const std::string end = format::PrefixEnd(begin);
  // From head to head: a session's chunks are not read for its name.
  for (;;) {
    std::string name;
    const Status status = records_->Scan(Family::kSessions, begin, end,
                                         [&](std::string_view key, std::string_view) -> Status {
                                           EID_ASSIGN_OR_RETURN(name, format::ParseSessionKey(key));
                                           return Enough();
                                         });
    if (name.empty()) {
      if (!status.ok()) return status;
      return names;
    }
    begin = format::PrefixEnd(format::SessionPrefix(name));
    names.push_back(std::move(name));
  }
}

}  // namespace eidetic::memory
