// Forgetting documents, ranges of them, collections, and turns of sessions.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <thread>
#include <utility>

#include "memory/archive_impl.h"
#include "memory/file_search.h"
#include "memory/forget.h"
#include "memory/forgotten_bytes.h"
#include "memory/format.h"
#include "memory/hash.h"

namespace eidetic::memory {
namespace {

// Old tables go a moment after they were rewritten: a search that finds something looks again.
constexpr int kSearches = 4;
constexpr auto kBetweenSearches = std::chrono::milliseconds(250);

Status DoNotGoTogether(const std::string& what, const std::string& remedy) {
  return Status(Code::kInvalidArgument, what, remedy);
}

KeyRange PrefixRange(Family family, const std::string& prefix) {
  return {family, prefix, format::PrefixEnd(prefix)};
}

void AddLineageRanges(LineageId lineage, std::vector<KeyRange>* ranges) {
  for (const Family family : {Family::kBlocks, Family::kEmbeddings}) {
    ranges->push_back(PrefixRange(family, format::LineagePrefix(lineage)));
  }
}

uint64_t OriginalBytes(const DocumentRecord& document) {
  return document.original_bytes != 0 ? document.original_bytes : document.bytes;
}

// `ranges` stand in order and do not overlap.
bool OverlapsAny(ByteRange range, const std::vector<ByteRange>& ranges) {
  if (range.begin >= range.end) return false;
  const auto at =
      std::upper_bound(ranges.begin(), ranges.end(), range.begin,
                       [](uint64_t byte, const ByteRange& one) { return byte < one.end; });
  return at != ranges.end() && at->begin < range.end;
}

// Puts them in order; those that overlap or touch become one.
void Join(std::vector<ByteRange>* ranges) {
  std::sort(ranges->begin(), ranges->end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  std::vector<ByteRange> joined;
  for (const ByteRange& range : *ranges) {
    if (!joined.empty() && range.begin <= joined.back().end) {
      joined.back().end = std::max(joined.back().end, range.end);
    } else {
      joined.push_back(range);
    }
  }
  *ranges = std::move(joined);
}

// The ranges of the text that the bytes named to forget came to be.
Result<std::vector<ByteRange>> NamedText(const ForgetRequest& request,
                                         const DocumentRecord& document, const TextMap& map) {
  const std::string named = "bytes " + std::to_string(request.byte_begin) + ".." +
                            std::to_string(request.byte_end) + " were named to forget, ";
  constexpr const char* kRemedy = "`eidetic memory search` tells where a passage stands";
  const uint64_t bytes = OriginalBytes(document);
  if (request.byte_end > bytes) {
    return Status(Code::kInvalidArgument,
                  named + "document " + document.source + " has " + std::to_string(bytes), kRemedy);
  }
  std::vector<ByteRange> text = map.ToText({request.byte_begin, request.byte_end});
  if (text.empty()) {
    return Status(Code::kInvalidArgument,
                  named + "nothing of the text of document " + document.source + " came from there",
                  kRemedy);
  }
  return text;
}

}  // namespace

Status ForgetRequest::Validate() const {
  const bool of_session = !session.empty();
  if (of_session && !collection.empty()) {
    return DoNotGoTogether("a session and a collection were both named to forget",
                           "forget one, then the other");
  }
  if (!source.empty() && collection.empty()) {
    return DoNotGoTogether("document " + source + " was named to forget, but no collection",
                           "name the collection that it is in");
  }
  if (!sources.empty() && (collection.empty() || !source.empty())) {
    return DoNotGoTogether(collection.empty()
                               ? "documents were named to forget, but no collection"
                               : "one document and a list of them were both named to forget",
                           collection.empty() ? "name the collection that they are in"
                                              : "name all of them in the list");
  }
  if (has_range && source.empty()) {
    return DoNotGoTogether("a range of bytes was named to forget, but no document",
                           "name the document that they are of");
  }
  if (has_range && byte_begin >= byte_end) {
    return DoNotGoTogether("bytes " + std::to_string(byte_begin) + ".." + std::to_string(byte_end) +
                               " are no range: it must begin before it ends",
                           "give a first byte and the byte behind the last one");
  }
  if (turn != 0 && !of_session) {
    return DoNotGoTogether("turn " + std::to_string(turn) + " was named to forget, but no session",
                           "name the session that it is of");
  }
  if (collection.empty() && !of_session && before == 0) {
    return DoNotGoTogether("nothing was named to forget",
                           "name a collection, a document, a session, a turn or an age");
  }
  if (before < 0) {
    return DoNotGoTogether(
        "the time to forget before is " + std::to_string(before) + " ms, before 1970",
        "give a later one");
  }
  if (before != 0 && (turn != 0 || !source.empty() || !sources.empty())) {
    return DoNotGoTogether("an age and a single document or turn were both named to forget",
                           "an age goes alone, with a collection or with a session");
  }
  return {};
}

// What goes, as it is worked out before anything is written.
struct ArchiveImpl::Forgetting {
  explicit Forgetting(const ForgetRequest& wanted) : request(wanted) {}

  const ForgetRequest& request;
  std::vector<DocumentRecord> whole;
  std::optional<CollectionRecord> collection;  // whose name goes, too
  // A document of which only a range goes.
  std::optional<DocumentRecord> part;
  std::set<uint64_t> gone_positions;  // of its blocks
  uint64_t gone_tokens = 0;
  std::vector<ByteRange> gone_text;  // of its text: whole blocks, whole characters
  std::string text;                  // what is left of its text, of the same length
  ForgetReceipt receipt;
  ForgottenBytes samples;
  std::vector<KeyRange> ranges;  // of records that go
};

Result<std::vector<DocumentRecord>> ArchiveImpl::NamedDocuments(
    const ForgetRequest& request) const {
  std::set<std::string> sources(request.sources.begin(), request.sources.end());
  if (!request.source.empty()) sources.insert(request.source);
  if (sources.empty()) return DocumentsAt(format::DocumentPrefix(request.collection));
  std::vector<DocumentRecord> documents;
  for (const std::string& source : sources) {
    EID_ASSIGN_OR_RETURN(std::vector<DocumentRecord> versions,
                         DocumentsAt(format::DocumentPrefix(request.collection, source)));
    if (versions.empty()) {
      return Status(Code::kNotFound,
                    "there is no document " + source + " in collection " + request.collection,
                    "`eidetic memory list` shows the documents there are");
    }
    std::move(versions.begin(), versions.end(), std::back_inserter(documents));
  }
  return documents;
}

Status ArchiveImpl::SelectDocuments(const ForgetRequest& request, Forgetting* plan) const {
  if (!request.session.empty()) return {};
  std::vector<DocumentRecord> documents;
  if (request.collection.empty()) {
    EID_ASSIGN_OR_RETURN(documents, DocumentsAt(format::TagPrefix(format::MetaTag::kDocument)));
    std::erase_if(documents,
                  [](const DocumentRecord& document) { return IsGeneration(document.collection); });
  } else {
    EID_ASSIGN_OR_RETURN(CollectionRecord collection, Collection(request.collection));
    EID_ASSIGN_OR_RETURN(documents, NamedDocuments(request));
    const bool whole = request.source.empty() && request.sources.empty() && request.before == 0;
    if (whole) plan->collection = std::move(collection);
  }
  for (DocumentRecord& document : documents) {
    if (request.before != 0) {
      const std::string key = format::IngestedKey(document.id);
      const Result<std::string> value = records_->Get(Family::kMeta, key);
      if (!value.ok()) {
        if (value.status().code() != Code::kNotFound) return value.status();
        plan->receipt.undated += document.complete ? 1 : 0;
        continue;
      }
      EID_ASSIGN_OR_RETURN(const uint64_t time, format::DecodeNumber(key, *value));
      if (time >= static_cast<uint64_t>(request.before)) continue;
    }
    if (request.has_range && document.complete) {
      plan->part = std::move(document);
    } else {
      plan->whole.push_back(std::move(document));
    }
  }
  if (request.has_range && !plan->part) {
    return Status(Code::kNotFound,
                  "document " + request.source + " of collection " + request.collection +
                      " is not finished: no range of it can be forgotten",
                  "forget all of it, or finish its ingest first");
  }
  return SelectInGenerations(plan);
}

Status ArchiveImpl::SelectInGenerations(Forgetting* plan) const {
  std::vector<DocumentRecord> copies;
  if (plan->collection) {
    EID_ASSIGN_OR_RETURN(
        copies, DocumentsAt(format::DocumentPrefix(GenerationName(plan->collection->name))));
  } else {
    std::set<std::string> prefixes;  // a document may have several versions
    const auto add = [&](const DocumentRecord& document) {
      prefixes.insert(format::DocumentPrefix(GenerationName(document.collection), document.source));
    };
    for (const DocumentRecord& document : plan->whole) add(document);
    if (plan->part) add(*plan->part);
    for (const std::string& prefix : prefixes) {
      EID_ASSIGN_OR_RETURN(std::vector<DocumentRecord> of_source, DocumentsAt(prefix));
      std::move(of_source.begin(), of_source.end(), std::back_inserter(copies));
    }
  }
  std::move(copies.begin(), copies.end(), std::back_inserter(plan->whole));
  return {};
}

Status ArchiveImpl::CheckNotWritten(const Forgetting& plan) {
  const auto check = [&](const DocumentRecord& document) -> Status {
    if (!IsBeingWritten(document.id)) return {};
    return Status(Code::kLocked,
                  "document " + document.source + " of collection " +
                      std::string(VisibleName(document.collection)) +
                      " is being written by this process",
                  "stop that ingest or migration first");
  };
  for (const DocumentRecord& document : plan.whole) EID_RETURN_IF_ERROR(check(document));
  if (plan.part) EID_RETURN_IF_ERROR(check(*plan.part));
  return {};
}

// Counts a document that goes as a whole. Damaged ones go, too, as far as they can be counted.
Status ArchiveImpl::TellDocument(const DocumentRecord& document, Forgetting* plan) const {
  ForgetReceipt& receipt = plan->receipt;
  ForgottenDocument told{document.id,
                         std::string(VisibleName(document.collection)),
                         document.source,
                         true,
                         0,
                         OriginalBytes(document),
                         0};
  const Result<LineageRecord> lineage = store_->Lineage(document.lineage);
  const auto head_dim = static_cast<size_t>(lineage.ok() ? lineage->layout.head_dim : 1);
  const Status scanned = store_->ScanBlocks(
      document.lineage, [&](const BlockHeader& header, const std::vector<uint16_t>& means) {
        ++told.blocks;
        receipt.word_entries += header.text_begin < header.text_end ? 1 : 0;
        receipt.representatives += means.size() / head_dim;
        if (plan->request.verify_files) {
          plan->samples.Add({reinterpret_cast<const char*>(header.tokens.data()),
                             header.tokens.size() * sizeof(int32_t)},
                            2 * ForgottenBytes::kLong);
        }
        return Status();
      });
  if (!scanned.ok() && scanned.code() != Code::kCorruption && scanned.code() != Code::kNotFound) {
    return scanned;
  }
  receipt.blocks += told.blocks;
  receipt.text_bytes += document.bytes;
  if (plan->request.verify_files) {
    const Result<std::string> text = Text(document.id, 0, document.bytes);
    if (text.ok()) {
      const size_t most = ForgottenBytes::kMostSamples / 2;
      plan->samples.Add(*text, std::max(ForgottenBytes::kShort, text->size() / most));
    }
  }
  AddLineageRanges(document.lineage, &plan->ranges);
  plan->ranges.push_back(PrefixRange(Family::kText, format::TextPrefix(document.id)));
  if (!document.complete) {
    plan->ranges.push_back(PrefixRange(Family::kSessions, format::ReaderStatePrefix(document.id)));
  }
  receipt.documents.push_back(std::move(told));
  return {};
}

// Works out which blocks of a document overlap the range, and what is left of its text.
Status ArchiveImpl::TellRange(const DocumentRecord& document, Forgetting* plan) const {
  const ForgetRequest& request = plan->request;
  EID_ASSIGN_OR_RETURN(const TextMap map, MapOf(document));
  EID_ASSIGN_OR_RETURN(const std::vector<ByteRange> named, NamedText(request, document, map));
  ForgetReceipt& receipt = plan->receipt;
  plan->gone_text = named;
  EID_ASSIGN_OR_RETURN(const LineageRecord lineage, store_->Lineage(document.lineage));
  bool some_stay = false;
  EID_RETURN_IF_ERROR(store_->ScanBlocks(
      document.lineage, [&](const BlockHeader& header, const std::vector<uint16_t>& means) {
        const ByteRange text{header.text_begin, header.text_end};
        if (!OverlapsAny(text, named)) {
          some_stay |= text.begin < text.end;
          return Status();
        }
        plan->gone_positions.insert(header.position);
        plan->gone_tokens += header.tokens.size();
        plan->gone_text.push_back(text);
        receipt.representatives += means.size() / static_cast<size_t>(lineage.layout.head_dim);
        if (request.verify_files) {
          plan->samples.Add({reinterpret_cast<const char*>(header.tokens.data()),
                             header.tokens.size() * sizeof(int32_t)});
        }
        return Status();
      }));
  if (!some_stay) {
    receipt.representatives = 0;
    plan->whole.push_back(*std::exchange(plan->part, std::nullopt));
    return TellDocument(plan->whole.back(), plan);
  }
  EID_ASSIGN_OR_RETURN(plan->text, Text(document.id, 0, document.bytes));
  BlankRange(document, map, plan);
  receipt.blocks += plan->gone_positions.size();
  receipt.word_entries += plan->gone_positions.size();
  AddLineageRanges(document.lineage, &plan->ranges);
  plan->ranges.push_back(PrefixRange(Family::kText, format::TextPrefix(document.id)));
  return {};
}

// Puts spaces where the text goes, and tells where that stood in the original.
void ArchiveImpl::BlankRange(const DocumentRecord& document, const TextMap& map, Forgetting* plan) {
  std::string& text = plan->text;
  for (ByteRange& gone : plan->gone_text) {
    // A character that is cut by the edge of a block goes as a whole.
    while (gone.begin > 0 && IsContinuation(text[gone.begin])) --gone.begin;
    while (gone.end < text.size() && IsContinuation(text[gone.end])) ++gone.end;
  }
  Join(&plan->gone_text);
  ForgottenDocument told{
      document.id, document.collection,        document.source, false, UINT64_MAX,
      0,           plan->gone_positions.size()};
  for (const ByteRange& gone : plan->gone_text) {
    const size_t bytes = gone.end - gone.begin;
    if (plan->request.verify_files) {
      plan->samples.Add(std::string_view(text).substr(gone.begin, bytes));
    }
    text.replace(gone.begin, bytes, bytes, ' ');
    const ByteRange original = map.ToOriginal(gone);
    told.byte_begin = std::min(told.byte_begin, original.begin);
    told.byte_end = std::max(told.byte_end, original.end);
    plan->receipt.text_bytes += bytes;
  }
  plan->receipt.documents.push_back(std::move(told));
}

Status ArchiveImpl::TellSeen(Forgetting* plan) const {
  std::map<std::string, std::set<LineageId>> lineages;
  for (const DocumentRecord& document : plan->whole) {
    lineages[document.collection].insert(document.lineage);
  }
  if (plan->part) lineages[plan->part->collection].insert(plan->part->lineage);
  std::map<std::string, TurnNumber> first;
  for (const auto& [collection, of] : lineages) {
    EID_ASSIGN_OR_RETURN(const auto recallers, sessions_->RecallersOf(collection, of));
    for (const auto& [session, turn] : recallers) {
      const auto [at, is_new] = first.emplace(session, turn);
      if (!is_new) at->second = std::min(at->second, turn);
    }
  }
  for (const auto& [session, turn] : first) plan->receipt.seen.push_back({session, turn});
  return {};
}

// Text without a document yet: marked in the same batch, so that a crash leaves none.
Status ArchiveImpl::WriteText(DocumentId document, std::string_view text) {
  RecordBatch batch;
  const std::string mark = format::UnfinishedTextKey(document);
  batch.Put(Family::kMeta, mark, format::EncodeNumber(mark, document));
  uint32_t chunk = 0;
  for (uint64_t at = 0; at < text.size(); at += format::kTextChunkBytes) {
    const std::string key = format::TextKey(document, chunk++);
    batch.Put(Family::kText, key,
              format::EncodeBytes(key, text.substr(at, format::kTextChunkBytes)));
    if (batch.bytes() < kTextBatchBytes) continue;
    EID_RETURN_IF_ERROR(records_->Write(batch, false));
    batch.Clear();
  }
  return batch.changes().empty() ? Status() : records_->Write(batch, false);
}

Status ArchiveImpl::CopyBlocks(const Forgetting& plan, LineageWriter* to) const {
  const LineageId from = plan.part->lineage;
  const Layout& layout = to->layout();
  return store_->ScanBlocks(
      from, [&](const BlockHeader& header, const std::vector<uint16_t>& means) -> Status {
        if (plan.gone_positions.contains(header.position)) return {};
        Block block;
        block.header = header;
        block.header.position = to->position();
        block.representatives = means;
        for (const int layer : layout.layers) {
          EID_ASSIGN_OR_RETURN(Payload keys, store_->ReadPayloadUncached(
                                                 {from, layer, Part::kKeys, header.position}));
          EID_ASSIGN_OR_RETURN(Payload values, store_->ReadPayloadUncached(
                                                   {from, layer, Part::kValues, header.position}));
          block.keys.push_back(std::move(keys.bytes));
          block.values.push_back(std::move(values.bytes));
        }
        return to->Append(std::move(block));
      });
}

// A new version of the document: lineages never change, and what was recalled from this one can
// tell that it is gone.
Status ArchiveImpl::WriteWithoutRange(const Forgetting& plan, RecordBatch batch) {
  DocumentRecord document = *plan.part;
  EID_ASSIGN_OR_RETURN(document.id, document_ids_->Next());
  EID_ASSIGN_OR_RETURN(const LineageRecord old, store_->Lineage(plan.part->lineage));
  EID_ASSIGN_OR_RETURN(std::unique_ptr<LineageWriter> lineage,
                       store_->NewLineage(old.layout, DocumentOwner(document.id)));
  Status copied = WriteText(document.id, plan.text);
  if (copied.ok()) copied = CopyBlocks(plan, lineage.get());
  if (!copied.ok()) {
    RecordBatch undo;
    const std::string text = format::TextPrefix(document.id);
    undo.DeleteRange(Family::kText, text, format::PrefixEnd(text));
    undo.Delete(Family::kMeta, format::UnfinishedTextKey(document.id));
    EID_RETURN_IF_ERROR(store_->RemoveLineage(lineage->lineage(), &undo));
    static_cast<void>(records_->Write(undo, true).ok());
    return copied;
  }
  document.lineage = lineage->lineage();
  document.content_hash = Sha256Hex(plan.text);
  document.tokens = document.committed_tokens = lineage->position();
  document.committed_blocks = lineage->blocks_appended();

  // Text keeps its length, so the map to the original is what it was.
  EID_ASSIGN_OR_RETURN(TextMap map, MapOf(*plan.part));
  const DocumentOrigin origin{document.format, document.original_bytes, std::move(map)};
  document.format.clear();
  document.original_bytes = 0;
  document.map_hash.clear();
  EID_RETURN_IF_ERROR(PutOrigin(origin, &document, &batch));
  batch.Delete(Family::kMeta, format::UnfinishedTextKey(document.id));
  const std::string key = format::DocumentKey(document.collection, document.source, document.id);
  batch.Put(Family::kMeta, key, format::EncodeDocument(key, document));
  const std::string pointer = format::DocumentPointerKey(document.id);
  batch.Put(Family::kMeta, pointer, format::EncodeBytes(pointer, key));
  EID_RETURN_IF_ERROR(PutTimeOf(plan.part->id, document.id, &batch));
  return lineage->Commit(std::move(batch));
}

void ArchiveImpl::AfterForgetting(const Forgetting& plan) {
  std::vector<DocumentRecord> gone = plan.whole;
  if (plan.part) gone.push_back(*plan.part);
  std::set<std::string> changed;
  for (const DocumentRecord& document : gone) {
    store_->ForgetPooled(document.lineage);
    if (!IsGeneration(document.collection)) changed.insert(document.collection);
  }
  if (plan.collection) changed.insert(plan.collection->name);
  std::lock_guard lock(words_mutex_);
  for (const std::string& collection : changed) {
    CollectionChanged(collection);
    std::map<LineageId, DocumentRecord> documents;
    if (plan.collection || words_folder_.empty() ||
        !UpdatedWords(collection, 0, nullptr, &documents).ok() || !WordsOf(collection).on_disk()) {
      // A file that could not follow must not stay.
      WordsOf(collection).Discard();
    }
    if (plan.collection) words_.erase(collection);
  }
}

Status ArchiveImpl::PurgeForgotten(const std::vector<KeyRange>& ranges) {
  EID_RETURN_IF_ERROR(records_->Purge(ranges));
  RecordBatch batch;
  batch.Delete(Family::kMeta, format::PurgeKey());
  return records_->Write(batch, true);
}

void ArchiveImpl::FinishForgetting() {
  if (!records_->Get(Family::kMeta, format::PurgeKey()).ok()) return;
  std::error_code ignored;
  if (!words_folder_.empty()) std::filesystem::remove_all(words_folder_, ignored);
  // A failure leaves the mark, and this to the next opening.
  static_cast<void>(PurgeForgotten({}).ok());
}

// Looks for the samples in all files, but for those that what is left says, too.
Status ArchiveImpl::VerifyForgotten(ForgottenBytes samples, FileScan* scan) const {
  scan->samples = samples.size();
  std::vector<std::string> alive;
  for (int family = 0; family < kFamilyCount; ++family) {
    EID_RETURN_IF_ERROR(records_->Scan(
        static_cast<Family>(family), "", "", [&](std::string_view key, std::string_view value) {
          for (const std::string_view bytes : {key, value}) {
            samples.Search(bytes, [&](size_t, const std::string& sample) {
              alive.push_back(sample);
              return true;
            });
          }
          return Status();
        }));
    samples.Remove(alive);
    alive.clear();
  }
  scan->elsewhere = scan->samples - samples.size();
  for (int search = 1;; ++search) {
    scan->files = scan->bytes = 0;
    scan->found.clear();
    EID_RETURN_IF_ERROR(records_->SearchFiles(samples, scan));
    if (scan->clean() || search == kSearches) return {};
    std::this_thread::sleep_for(kBetweenSearches);
    EID_RETURN_IF_ERROR(records_->Purge({}));
  }
}

Result<ForgetReceipt> ArchiveImpl::Forget(const ForgetRequest& request) {
  if (!request.dry_run) EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(request.Validate());
  Forgetting plan(request);
  plan.receipt.dry_run = request.dry_run;
  {
    EID_ASSIGN_OR_RETURN(const auto lock, LockCatalog());
    EID_RETURN_IF_ERROR(SelectDocuments(request, &plan));
    EID_RETURN_IF_ERROR(CheckNotWritten(plan));
    for (const DocumentRecord& document : plan.whole) {
      EID_RETURN_IF_ERROR(TellDocument(document, &plan));
    }
    if (plan.part) EID_RETURN_IF_ERROR(TellRange(*plan.part, &plan));
    EID_RETURN_IF_ERROR(TellSeen(&plan));

    RecordBatch batch;
    for (const DocumentRecord& document : plan.whole) {
      EID_RETURN_IF_ERROR(RemoveChanges(document, &batch));
    }
    if (plan.part) EID_RETURN_IF_ERROR(RemoveChanges(*plan.part, &batch));
    if (plan.collection) {
      batch.Delete(Family::kMeta, format::CollectionKey(plan.collection->name));
      batch.Delete(Family::kMeta, format::CollectionKey(GenerationName(plan.collection->name)));
      plan.receipt.collections.push_back(plan.collection->name);
    }
    const std::string mark = format::PurgeKey();
    batch.Put(Family::kMeta, mark, format::EncodeNumber(mark, 1));
    if (plan.part && !request.dry_run) {
      EID_RETURN_IF_ERROR(WriteWithoutRange(plan, std::move(batch)));
    } else {
      EID_ASSIGN_OR_RETURN(const std::vector<LineageId> shortened,
                           sessions_->Forget(request, std::move(batch), &plan.receipt,
                                             request.verify_files ? &plan.samples : nullptr));
      for (const LineageId lineage : shortened) AddLineageRanges(lineage, &plan.ranges);
    }
  }
  if (request.dry_run) return std::move(plan.receipt);
  AfterForgetting(plan);
  plan.ranges.push_back({Family::kMeta, {}, {}});
  if (!plan.receipt.sessions.empty()) plan.ranges.push_back({Family::kSessions, {}, {}});
  EID_RETURN_IF_ERROR(PurgeForgotten(request.verify_files ? std::vector<KeyRange>() : plan.ranges));
  if (request.verify_files) {
    plan.receipt.scan.emplace();
    EID_RETURN_IF_ERROR(VerifyForgotten(std::move(plan.samples), &*plan.receipt.scan));
  }
  return std::move(plan.receipt);
}

}  // namespace eidetic::memory
