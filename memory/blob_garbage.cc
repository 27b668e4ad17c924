#include "memory/blob_garbage.h"

#include <rocksdb/db.h>
#include <rocksdb/metadata.h>
#include <rocksdb/options.h>

#include <algorithm>
#include <string>
#include <system_error>

namespace eidetic::memory {
namespace {

bool IsLeftAlone(uint64_t bytes, uint64_t garbage) {
  return garbage <= kBlobGarbageLeft + (bytes - std::min(bytes, garbage)) / 2;
}

}  // namespace

size_t BlobFilesToRewrite(const std::vector<BlobFile>& files) {
  uint64_t bytes = 0, garbage = 0;
  int64_t gain = 0, best_gain = 0;
  size_t best = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    bytes += files[i].bytes;
    garbage += files[i].garbage;
    const auto dead = static_cast<int64_t>(files[i].garbage);
    gain += dead - (static_cast<int64_t>(files[i].bytes) - dead) / 2;
    if (gain > best_gain) {
      best_gain = gain;
      best = i + 1;
    }
  }
  return IsLeftAlone(bytes, garbage) ? 0 : best;
}

BlobCollector::~BlobCollector() {
  cancelled_ = true;
  if (thread_.joinable()) thread_.join();
}

uint64_t BlobCollector::Property(const char* name) const {
  uint64_t value = 0;
  return db_->GetIntProperty(family_, name, &value) ? value : 0;
}

void BlobCollector::Collect() {
  if (running_) return;
  const uint64_t garbage = Property("rocksdb.live-blob-file-garbage-size");
  if (garbage < left_ + kBlobGarbageLeft ||
      IsLeftAlone(Property("rocksdb.live-blob-file-size"), garbage)) {
    return;
  }
  if (thread_.joinable()) thread_.join();
  running_ = true;
  try {
    thread_ = std::thread([this] {
      Rewrite();
      running_ = false;
    });
  } catch (const std::system_error&) {
    running_ = false;  // no thread to be had: a later commit tries again
  }
}

void BlobCollector::Rewrite() {
  rocksdb::ColumnFamilyMetaData meta;
  db_->GetColumnFamilyMetaData(family_, &meta);
  std::sort(meta.blob_files.begin(), meta.blob_files.end(),
            [](const auto& a, const auto& b) { return a.blob_file_number < b.blob_file_number; });
  std::vector<BlobFile> files;
  for (const rocksdb::BlobMetaData& file : meta.blob_files) {
    files.push_back({file.blob_file_size, file.garbage_blob_bytes});
  }
  const size_t count = BlobFilesToRewrite(files);
  if (count == 0) return;
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.canceled = &cancelled_;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
  // The share of files, by which RocksDB wants to be told; a half more, as it rounds down.
  options.blob_garbage_collection_age_cutoff =
      std::min(1.0, (static_cast<double>(count) + 0.5) /
                        static_cast<double>(std::max<size_t>(1, files.size())));
  if (db_->CompactRange(options, family_, nullptr, nullptr).ok()) {
    left_ = Property("rocksdb.live-blob-file-garbage-size");
  }
}

}  // namespace eidetic::memory
