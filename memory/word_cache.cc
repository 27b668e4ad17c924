#include "memory/word_cache.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include "memory/hash.h"

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFileChunkBytes = 1u << 20;

std::string SumPath(const std::string& path) {
  return path + ".sum";
}

// Of a file's bytes, chunk upon chunk, as 16 hex digits; empty when it cannot be read.
std::string ChecksumOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string chunk(kFileChunkBytes, '\0');
  std::string sum = "eidetic words";
  while (file) {
    file.read(chunk.data(), kFileChunkBytes);
    const auto got = static_cast<size_t>(file.gcount());
    if (got == 0) break;
    char digits[17];
    std::snprintf(
        digits, sizeof(digits), "%016llx",
        static_cast<unsigned long long>(RecordChecksum(sum, std::string_view(chunk.data(), got))));
    sum = digits;
  }
  return file.eof() ? sum : "";
}

}  // namespace

WordCache::WordCache(std::string path, bool writable)
    : path_(std::move(path)), writable_(writable) {}

bool WordCache::FileIsWhole() const {
  std::ifstream file(SumPath(path_), std::ios::binary);
  std::string said;
  return std::getline(file, said) && !said.empty() && said == ChecksumOf(path_);
}

Status WordCache::WriteSum() const {
  std::ofstream file(SumPath(path_), std::ios::binary | std::ios::trunc);
  file << ChecksumOf(path_) << "\n";
  if (file.flush()) return {};
  return Status(Code::kIoError, "cannot write " + SumPath(path_));
}

void WordCache::Discard() {
  index_.reset();
  in_file_ = false;
  if (!writable_ || path_.empty()) return;
  std::error_code ignored;
  for (const std::string& name : {SumPath(path_), path_, path_ + "-journal"}) {
    fs::remove(name, ignored);
  }
}

// Leaves index_ null when the file cannot serve.
void WordCache::OpenFile() {
  if (path_.empty()) return;
  const bool whole = FileIsWhole();
  if (!whole && !writable_) return;
  if (!whole) Discard();
  std::error_code ignored;
  if (writable_) fs::create_directories(fs::path(path_).parent_path(), ignored);
  Result<std::unique_ptr<WordIndex>> opened = WordIndex::Open(path_, !writable_);
  if (!opened.ok() && writable_ && whole) {  // of another version
    Discard();
    opened = WordIndex::Open(path_, false);
  }
  if (!opened.ok()) return;
  index_ = std::move(opened).value();
  in_file_ = true;
}

Status WordCache::Update(const std::map<LineageId, std::string>& wanted,
                         const BlocksOf& blocks_of) {
  EID_ASSIGN_OR_RETURN(const auto held, index_->Lineages());
  std::vector<LineageId> superfluous, missing;
  for (const auto& [lineage, tag] : held) {
    const auto found = wanted.find(lineage);
    if (found == wanted.end() || found->second != tag) superfluous.push_back(lineage);
  }
  for (const auto& [lineage, tag] : wanted) {
    const auto found = held.find(lineage);
    if (found == held.end() || found->second != tag) missing.push_back(lineage);
  }
  const bool read_only = in_file_ && !writable_;
  if (read_only && !missing.empty()) {
    return Status(Code::kNotFound, "the word index " + path_ + " lacks documents");
  }
  if (read_only || (superfluous.empty() && missing.empty())) return {};
  if (in_file_) {
    // Until the new one is written, the file counts as damaged.
    std::error_code ignored;
    fs::remove(SumPath(path_), ignored);
  }
  if (!superfluous.empty()) EID_RETURN_IF_ERROR(index_->RemoveLineages(superfluous));
  for (const LineageId lineage : missing) {
    Result<std::vector<WordBlock>> blocks = blocks_of(lineage);
    if (!blocks.ok() && blocks.status().code() == Code::kNotFound) continue;
    EID_RETURN_IF_ERROR(blocks.status());
    EID_RETURN_IF_ERROR(index_->AddLineage(lineage, wanted.at(lineage), *blocks));
  }
  return in_file_ ? WriteSum() : Status();
}

Result<const WordIndex*> WordCache::Holding(const std::map<LineageId, std::string>& wanted,
                                            const BlocksOf& blocks_of) {
  // A file that served once may have been written by its owner meanwhile: that is seen anew.
  if (in_file_ && !writable_) Discard();
  if (index_ == nullptr) OpenFile();
  for (int attempt = 0; in_file_ && attempt < 2; ++attempt) {
    if (Update(wanted, blocks_of).ok()) return index_.get();
    Discard();
    if (writable_) OpenFile();
  }
  if (in_file_) Discard();
  if (index_ == nullptr) {
    EID_ASSIGN_OR_RETURN(index_, WordIndex::Open("", false));
  }
  const Status status = Update(wanted, blocks_of);
  if (status.ok()) return index_.get();
  Discard();
  return status;
}

}  // namespace eidetic::memory
