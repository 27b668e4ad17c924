#include <utility>

#include "memory/archive_impl.h"
#include "memory/hash.h"
#include "memory/word_cache.h"

namespace eidetic::memory {
namespace {

constexpr size_t kNameDigits = 32;

// What is indexed of a lineage changes with this.
std::string TagOf(const DocumentRecord& document) {
  return document.content_hash + "/" + std::to_string(document.committed_tokens) + "/" +
         std::to_string(document.committed_blocks);
}

}  // namespace

WordCache& ArchiveImpl::WordsOf(const std::string& collection) {
  std::unique_ptr<WordCache>& cache = words_[collection];
  if (cache == nullptr) {
    std::string path;
    if (!words_folder_.empty()) {
      path = words_folder_ + "/" + Sha256Hex(collection).substr(0, kNameDigits) + ".sqlite";
    }
    cache = std::make_unique<WordCache>(std::move(path), !options_.read_only);
  }
  return *cache;
}

Result<std::vector<WordBlock>> ArchiveImpl::WordBlocksOf(const DocumentRecord& document,
                                                         const TextRanges* known) const {
  EID_ASSIGN_OR_RETURN(const std::string text, Text(document.id, 0, document.bytes));
  std::vector<WordBlock> blocks;
  auto add = [&](const TextRange& range) {
    if (range.text_begin >= range.text_end || range.text_end > text.size()) return;
    blocks.push_back({range.position, range.tokens,
                      text.substr(range.text_begin, range.text_end - range.text_begin)});
  };
  if (known != nullptr) {
    for (const TextRange& range : *known) add(range);
    return blocks;
  }
  EID_RETURN_IF_ERROR(store_->ScanBlocks(
      document.lineage, [&](const BlockHeader& header, const std::vector<uint16_t>&) -> Status {
        add({header.position, static_cast<int>(header.tokens.size()), header.text_begin,
             header.text_end});
        return {};
      }));
  return blocks;
}

Result<const WordIndex*> ArchiveImpl::UpdatedWords(const std::string& collection,
                                                   LineageId known_lineage, const TextRanges* known,
                                                   std::map<LineageId, DocumentRecord>* documents) {
  EID_ASSIGN_OR_RETURN(std::vector<DocumentRecord> all, Documents(collection));
  std::map<LineageId, std::string> wanted;
  for (DocumentRecord& document : all) {
    if (!document.complete) continue;
    wanted[document.lineage] = TagOf(document);
    (*documents)[document.lineage] = std::move(document);
  }
  return WordsOf(collection).Holding(wanted, [&](LineageId lineage) {
    return WordBlocksOf(documents->at(lineage), lineage == known_lineage ? known : nullptr);
  });
}

void ArchiveImpl::KeepWords(const std::string& collection, LineageId known_lineage,
                            const TextRanges* known) {
  if (words_folder_.empty()) return;  // in RAM: made when it is asked for
  if (IsGeneration(collection)) return;
  std::lock_guard lock(words_mutex_);
  std::map<LineageId, DocumentRecord> documents;
  static_cast<void>(UpdatedWords(collection, known_lineage, known, &documents).ok());
}

Status ArchiveImpl::UpdateWords(const std::string& collection) {
  EID_RETURN_IF_ERROR(CheckWritable());
  EID_RETURN_IF_ERROR(Collection(collection).status());
  std::lock_guard lock(words_mutex_);
  std::map<LineageId, DocumentRecord> documents;
  return UpdatedWords(collection, 0, nullptr, &documents).status();
}

Result<std::optional<WordPlace>> ArchiveImpl::PlaceOf(const WordHit& hit,
                                                      const DocumentRecord& document) const {
  WordPlace place;
  place.document = document.id;
  place.score = hit.score;
  const uint64_t end = hit.position + static_cast<uint64_t>(hit.tokens);
  for (uint64_t position = hit.position; position < end;) {
    BlockHeader header;
    std::vector<uint16_t> representatives;
    const Status status = store_->ReadBlock(document.lineage, position, &header, &representatives);
    // Removed meanwhile, or the index spoke of a block that never was.
    if (status.code() == Code::kNotFound) return std::optional<WordPlace>();
    EID_RETURN_IF_ERROR(status);
    const auto tokens = static_cast<int>(header.tokens.size());
    place.blocks.push_back(
        {header.id, document.lineage, header.position, tokens, header.text_begin, header.text_end});
    position += static_cast<uint64_t>(tokens);
  }
  place.byte_begin = place.blocks.front().text_begin;
  place.byte_end = place.blocks.back().text_end;
  return std::optional<WordPlace>(std::move(place));
}

Result<std::vector<WordPlace>> ArchiveImpl::SearchWords(const std::string& collection,
                                                        std::string_view text, size_t limit) {
  EID_RETURN_IF_ERROR(Collection(collection).status());
  std::lock_guard lock(words_mutex_);
  std::map<LineageId, DocumentRecord> documents;
  const auto admits = [&](LineageId lineage) { return documents.contains(lineage); };
  EID_ASSIGN_OR_RETURN(const WordIndex* index, UpdatedWords(collection, 0, nullptr, &documents));
  Result<std::vector<WordHit>> hits = index->Search(text, limit, admits);
  if (!hits.ok()) {
    // Damaged since it was opened.
    WordsOf(collection).Discard();
    EID_ASSIGN_OR_RETURN(index, UpdatedWords(collection, 0, nullptr, &documents));
    hits = index->Search(text, limit, admits);
  }
  EID_RETURN_IF_ERROR(hits.status());
  std::vector<WordPlace> places;
  for (const WordHit& hit : *hits) {
    EID_ASSIGN_OR_RETURN(std::optional<WordPlace> place, PlaceOf(hit, documents.at(hit.lineage)));
    if (place) places.push_back(*std::move(place));
  }
  return places;
}

}  // namespace eidetic::memory
