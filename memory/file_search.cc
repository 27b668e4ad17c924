#include "memory/file_search.h"

#include <rocksdb/sst_file_reader.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 4u << 20;

Status SearchFile(const ForgottenBytes& samples, const fs::path& path, const std::string& name,
                  FileScan* scan) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (!fs::exists(path)) return {};  // it went meanwhile, and what was in it with it
    return Status(Code::kIoError,
                  "cannot read " + path.string() + " to look for what was forgotten",
                  "see that its owner may read it, and verify again");
  }
  ++scan->files;
  std::string chunk;
  uint64_t offset = 0;  // of the chunk
  size_t kept = 0;      // bytes of the chunk before: a sample may lie across the edge
  for (;;) {
    chunk.resize(kept + kChunkBytes);
    file.read(chunk.data() + kept, kChunkBytes);
    const auto got = static_cast<size_t>(file.gcount());
    if (got == 0) break;
    chunk.resize(kept + got);
    scan->bytes += got;
    SearchBytes(samples, name, chunk, scan, offset);
    const size_t keep = std::min(chunk.size(), ForgottenBytes::kLong - 1);
    offset += chunk.size() - keep;
    chunk.erase(0, chunk.size() - keep);
    kept = keep;
  }
  return {};
}

// Record by record, unpacked; also those that a deletion in the same table hides.
Status SearchTable(const ForgottenBytes& samples, const fs::path& path, const std::string& name,
                   FileScan* scan) {
  rocksdb::SstFileReader table{rocksdb::Options()};
  rocksdb::Status status = table.Open(path.string());
  if (!status.ok()) {
    if (!fs::exists(path)) return {};
    return Status(Code::kCorruption,
                  "cannot read the table " + path.string() +
                      " to look for what was forgotten: " + status.ToString(),
                  "run `eidetic memory verify`");
  }
  rocksdb::ReadOptions options;
  options.ignore_range_deletions = true;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> at(table.NewIterator(options));
  for (at->SeekToFirst(); at->Valid(); at->Next()) {
    scan->bytes += at->key().size() + at->value().size();
    SearchBytes(samples, name + ", a record's key", at->key().ToStringView(), scan);
    SearchBytes(samples, name + ", a record", at->value().ToStringView(), scan);
  }
  status = at->status();
  if (status.ok()) return {};
  return Status(Code::kCorruption,
                "cannot read the table " + path.string() +
                    " to look for what was forgotten: " + status.ToString(),
                "run `eidetic memory verify`");
}

}  // namespace

void SearchBytes(const ForgottenBytes& samples, const std::string& name, std::string_view bytes,
                 FileScan* scan, uint64_t offset) {
  samples.Search(bytes, [&](size_t at, const std::string&) {
    const std::string told = name + ", byte " + std::to_string(offset + at);
    if (scan->found.size() < kMostFindings) scan->found.push_back(told);
    return scan->found.size() < kMostFindings;
  });
}

Status SearchFolder(const ForgottenBytes& samples, const std::string& folder, FileScan* scan) {
  std::error_code error;
  std::vector<fs::path> files;
  fs::recursive_directory_iterator at(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    std::error_code gone;
    if (at->is_regular_file(gone)) files.push_back(at->path());
  }
  if (error) return Status(Code::kIoError, "cannot list " + folder + ": " + error.message());
  for (const fs::path& path : files) {
    const std::string name = path.lexically_relative(folder).string();
    EID_RETURN_IF_ERROR(SearchFile(samples, path, name, scan));
    if (path.extension() == ".sst") {
      EID_RETURN_IF_ERROR(SearchTable(samples, path, name, scan));
    }
  }
  return {};
}

}  // namespace eidetic::memory
