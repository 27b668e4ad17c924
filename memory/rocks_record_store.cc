// RocksDB as a store: only this file knows it, but for the bytes of its log (write_log.h) and what
// is done about garbage in blob files (blob_garbage.h). Why it is tuned like this:
// docs/decisions/020.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <filesystem>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <utility>

#include "memory/blob_garbage.h"
#include "memory/file_search.h"
#include "memory/format.h"
#include "memory/record_store.h"
#include "memory/write_log.h"
#include "memory/writer_lock.h"

namespace eidetic::memory {
namespace {

namespace fs = std::filesystem;

constexpr char kDatabaseFolder[] = "db";
constexpr char kLockFile[] = "writer.lock";
constexpr std::array<Family, kFamilyCount> kFamilies = {
    Family::kMeta, Family::kBlocks, Family::kEmbeddings, Family::kText, Family::kSessions};
constexpr char kVerifyRemedy[] =
    "run `eidetic memory verify` to see what is damaged, and ingest the named documents again";

rocksdb::Slice ToSlice(std::string_view text) {
  return {text.data(), text.size()};
}
std::string_view ToView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

Status FromRocks(const rocksdb::Status& status, const std::string& doing, const std::string& path) {
  if (status.ok()) return {};
  const std::string what = doing + " in " + path + ": " + status.ToString();
  if (status.IsNoSpace()) {
    return Status(Code::kNoSpace,
                  "disk is full while " + doing + " to " + path +
                      "; nothing acknowledged is lost (" + status.ToString() + ")",
                  "free space and run again");
  }
  if (status.IsNotFound()) return Status(Code::kNotFound, what);
  if (status.IsCorruption()) return Status(Code::kCorruption, what, kVerifyRemedy);
  if (status.IsMemoryLimit()) return Status(Code::kOutOfMemory, what);
  return Status(Code::kIoError, what);
}

struct ReadOnlyWrite {
  Status operator()(const std::string& path) const {
    return Status(Code::kInvalidArgument, "the archive at " + path + " was opened read-only",
                  "open it without read_only to write");
  }
};

// An open database with its families.
struct Database {
  Database() = default;
  Database(Database&&) = default;
  ~Database() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      static_cast<void>(db->DestroyColumnFamilyHandle(handle).ok());
    }
    static_cast<void>(db->Close().ok());
  }
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
};

class RocksRecordStore : public RecordStore {
 public:
  RocksRecordStore(RocksOptions options, std::unique_ptr<WriterLock> lock, Database database,
                   std::string damage)
      : options_(std::move(options)),
        lock_(std::move(lock)),
        database_(std::move(database)),
        db_(database_.db.get()),
        damage_(std::move(damage)),
        collector_(db_, Handle(Family::kSessions)) {}

  ~RocksRecordStore() override {
    // RocksDB writes by path: not into what may be another archive there.
    if (!options_.read_only && lock_->IsInPlace()) {
      // Empties the log: what is left on disk is tables alone. A failure loses nothing, since what
      // was acknowledged is in the log.
      static_cast<void>(db_->Flush(rocksdb::FlushOptions(), database_.handles).ok());
    }
  }

  Status Write(const RecordBatch& batch, bool durable) override {
    if (options_.read_only) return ReadOnlyWrite()(options_.path);
    std::lock_guard lock(write_mutex_);
    if (!write_error_.ok()) return write_error_;
    if (const Status there = CheckInPlace(); !there.ok()) return write_error_ = there;
    rocksdb::WriteBatch changes(batch.bytes() + 64 * batch.changes().size());
    rocksdb::Status status;
    for (const RecordBatch::Change& change : batch.changes()) {
      rocksdb::ColumnFamilyHandle* handle = Handle(change.family);
      switch (change.kind) {
        case RecordBatch::Kind::kPut:
          status = changes.Put(handle, change.key, change.value);
          break;
        case RecordBatch::Kind::kDelete:
          status = changes.Delete(handle, change.key);
          break;
        case RecordBatch::Kind::kDeleteRange:
          if (change.key < change.value) {
            status = changes.DeleteRange(handle, change.key, change.value);
          }
          break;
      }
      if (!status.ok()) break;
    }
    if (status.ok()) {
      rocksdb::WriteOptions options;
      options.sync = durable;
      status = db_->Write(options, &changes);
    }
    if (!status.ok()) {
      write_error_ =
          FromRocks(status, "writing " + std::to_string(batch.bytes()) + " bytes", options_.path);
      return write_error_;
    }
    if (!durable) return {};
    // What went to files without a name is not durable.
    if (const Status there = CheckInPlace(); !there.ok()) return write_error_ = there;
    Acknowledge();
    collector_.Collect();
    return {};
  }

  Result<std::string> Get(Family family, std::string_view key) const override {
    std::string value;
    const rocksdb::Status status =
        db_->Get(ReadOptions(family), Handle(family), ToSlice(key), &value);
    if (!status.ok()) return ReadError(status, family, key);
    return value;
  }

  std::vector<Result<std::string>> MultiGet(Family family,
                                            const std::vector<std::string>& keys) const override {
    std::vector<rocksdb::Slice> slices(keys.begin(), keys.end());
    std::vector<rocksdb::PinnableSlice> values(keys.size());
    std::vector<rocksdb::Status> statuses(keys.size());
    db_->MultiGet(ReadOptions(family), Handle(family), keys.size(), slices.data(), values.data(),
                  statuses.data());
    std::vector<Result<std::string>> results;
    results.reserve(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      if (statuses[i].ok()) {
        results.emplace_back(values[i].ToString());
      } else {
        results.emplace_back(ReadError(statuses[i], family, keys[i]));
      }
      values[i].Reset();
    }
    return results;
  }

  Status Scan(
      Family family, std::string_view begin, std::string_view end,
      const std::function<Status(std::string_view, std::string_view)>& visit) const override {
    rocksdb::ReadOptions options = ReadOptions(family);
    options.fill_cache = false;
    options.readahead_size = 2u << 20;
    const rocksdb::Slice bound = ToSlice(end);
    if (!end.empty()) options.iterate_upper_bound = &bound;
    std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(options, Handle(family)));
    for (at->Seek(ToSlice(begin)); at->Valid(); at->Next()) {
      EID_RETURN_IF_ERROR(visit(ToView(at->key()), ToView(at->value())));
    }
    return FromRocks(at->status(), std::string("scanning ") + FamilyName(family), options_.path);
  }

  std::string LogDamage() const override { return damage_; }

  Result<uint64_t> SizeOnDisk() const override {
    uint64_t bytes = 0;
    std::error_code error;
    fs::recursive_directory_iterator at(options_.path, error);
    if (error) {
      return Status(Code::kIoError, "cannot list " + options_.path + ": " + error.message());
    }
    // Files come and go while the database works: one that has gone counts nothing.
    for (; at != fs::recursive_directory_iterator(); at.increment(error)) {
      struct stat status {};
      if (stat(at->path().c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
        bytes += static_cast<uint64_t>(status.st_blocks) * 512;
      }
      if (error) break;
    }
    return bytes;
  }

  Status Compact() override {
    if (options_.read_only) return ReadOnlyWrite()(options_.path);
    for (Family family : kFamilies) {
      rocksdb::CompactRangeOptions options;
      if (family == Family::kSessions) RewriteBlobs(&options);
      EID_RETURN_IF_ERROR(Merge(family, nullptr, nullptr, options));
    }
    return {};
  }

  Status Reclaim(Family family, std::string_view begin, std::string_view end) override {
    if (options_.read_only) return ReadOnlyWrite()(options_.path);
    const rocksdb::Slice first = ToSlice(begin);
    const rocksdb::Slice last = ToSlice(end);
    return Merge(family, &first, end.empty() ? nullptr : &last);
  }

  Status Purge(const std::vector<KeyRange>& ranges) override {
    if (options_.read_only) return ReadOnlyWrite()(options_.path);
    // The log of before is needed no more, and goes.
    EID_RETURN_IF_ERROR(FromRocks(db_->Flush(rocksdb::FlushOptions(), database_.handles),
                                  "writing out the log", options_.path));
    rocksdb::CompactRangeOptions options;
    options.exclusive_manual_compaction = false;
    RewriteBlobs(&options);
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
    std::vector<KeyRange> all;
    if (ranges.empty()) {
      for (Family family : kFamilies) all.push_back({family, {}, {}});
    }
    for (const KeyRange& range : ranges.empty() ? all : ranges) {
      const rocksdb::Slice begin = ToSlice(range.begin), end = ToSlice(range.end);
      EID_RETURN_IF_ERROR(FromRocks(
          db_->CompactRange(options, Handle(range.family), range.begin.empty() ? nullptr : &begin,
                            range.end.empty() ? nullptr : &end),
          std::string("rewriting ") + FamilyName(range.family), options_.path));
    }
    // Files that nobody needs go now, not when the next merge ends.
    EID_RETURN_IF_ERROR(
        FromRocks(db_->DisableFileDeletions(), "removing old files", options_.path));
    return FromRocks(db_->EnableFileDeletions(/*force=*/true), "removing old files", options_.path);
  }

  Status SearchFiles(const ForgottenBytes& samples, FileScan* scan) const override {
    return SearchFolder(samples, options_.path, scan);
  }

 private:
  rocksdb::ColumnFamilyHandle* Handle(Family family) const {
    return database_.handles[static_cast<size_t>(family)];
  }

  Status CheckInPlace() const {
    if (lock_->IsInPlace()) return {};
    return Status(Code::kIoError,
                  "the archive at " + options_.path + " was removed or exchanged while it was open",
                  "put it back and open it again, or make it anew");
  }

  // Marks the log behind a batch that is durable: damage before the mark is then never taken for
  // what a crash has left (write_log.h). Lost with the power, it is not missed: the next opening
  // empties the log. The batch is durable all the same when this fails; later ones are refused.
  void Acknowledge() {
    rocksdb::WriteBatch mark;
    rocksdb::Status status = mark.PutLogData(ToSlice(kAcknowledgement));
    if (status.ok()) status = db_->Write(rocksdb::WriteOptions(), &mark);
    write_error_ = FromRocks(status, "marking the log", options_.path);
  }

  static rocksdb::ReadOptions ReadOptions(Family family) {
    rocksdb::ReadOptions options;
    options.verify_checksums = true;
    // Payloads have a pool of their own, above; here they would only push out table indexes.
    options.fill_cache = family == Family::kMeta;
    return options;
  }

  Status ReadError(const rocksdb::Status& status, Family family, std::string_view key) const {
    return FromRocks(
        status, std::string("reading ") + FamilyName(family) + " record " + format::Printable(key),
        options_.path);
  }

  // What is live in blob files goes to new ones.
  static void RewriteBlobs(rocksdb::CompactRangeOptions* options) {
    options->bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    options->blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
    options->blob_garbage_collection_age_cutoff = 1.0;
  }

  Status Merge(Family family, const rocksdb::Slice* begin, const rocksdb::Slice* end,
               rocksdb::CompactRangeOptions options = {}) {
    options.exclusive_manual_compaction = false;
    return FromRocks(db_->CompactRange(options, Handle(family), begin, end),
                     std::string("merging ") + FamilyName(family), options_.path);
  }

  RocksOptions options_;
  std::unique_ptr<WriterLock> lock_;  // outlives the database
  Database database_;
  rocksdb::DB* db_;
  std::string damage_;
  std::mutex write_mutex_;
  Status write_error_;       // of the first failed write; guarded by write_mutex_
  BlobCollector collector_;  // likewise
};

rocksdb::ColumnFamilyOptions FamilyOptions(Family family, const RocksOptions& options,
                                           const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;

  rocksdb::ColumnFamilyOptions family_options;
  family_options.compression = rocksdb::kNoCompression;
  family_options.write_buffer_size = options.write_buffer_bytes / 4;
  family_options.max_write_buffer_number = 2;
  family_options.target_file_size_base = 32u << 20;
  switch (family) {
    case Family::kMeta:
      break;
    case Family::kBlocks:
      family_options.write_buffer_size = options.write_buffer_bytes;
      // Twice the usual patience: fewer rewrites of a document that is being read, at the price of
      // a few more filters to ask.
      family_options.level0_file_num_compaction_trigger = 8;
      break;
    case Family::kEmbeddings:
      table.block_size = 64u << 10;
      break;
    case Family::kText:
      family_options.compression = rocksdb::kZSTD;
      table.block_size = 64u << 10;
      break;
    case Family::kSessions:
      // Large values that are overwritten at every commit: kept in blob files of their own, which
      // are dropped as a whole when their last value has been overwritten, and otherwise by the
      // collector.
      family_options.enable_blob_files = true;
      family_options.min_blob_size = 4096;
      family_options.enable_blob_garbage_collection = false;
      family_options.level0_file_num_compaction_trigger = 2;
      break;
  }
  family_options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return family_options;
}

// RocksDB's own log is not kept: what goes wrong reaches the caller as a status. On a full disk an
// append to that log fails, and the next one trips an assertion in the packaged RocksDB, which
// would end the process (rule 10).
class NoLog : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::DBOptions DatabaseOptions(const RocksOptions& options) {
  rocksdb::DBOptions db;
  db.create_if_missing = options.create && !options.read_only;
  db.create_missing_column_families = db.create_if_missing;
  db.max_open_files = 256;
  db.max_background_jobs = 4;
  db.max_total_wal_size = 64u << 20;
  db.bytes_per_sync = 1u << 20;
  db.wal_bytes_per_sync = 1u << 20;
  db.manifest_preallocation_size = 64u << 10;
  db.info_log = std::make_shared<NoLog>();
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  return db;
}

std::string DatabaseFolder(const fs::path& folder) {
  return (folder / kDatabaseFolder).string();
}

bool IsDatabase(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kDatabaseFolder / "CURRENT", error);
}

// Whether the database's folder has files of one of these kinds.
bool HasFiles(const RocksOptions& options, std::initializer_list<const char*> kinds) {
  std::error_code absent;
  for (fs::directory_iterator at(DatabaseFolder(options.path), absent), end; at != end;
       at.increment(absent)) {
    const std::string kind = at->path().extension().string();
    if (std::find(kinds.begin(), kinds.end(), kind) != kinds.end()) return true;
  }
  return false;
}

Status Lost(const RocksOptions& options, const std::string& what) {
  return Status(Code::kCorruption,
                "the archive at " + options.path + " has lost " + what +
                    ", without which its tables cannot be read",
                "restore the archive from a backup");
}

// The making of a database ends with CURRENT, and only then come tables and logs: without it they
// are a damaged one's, and a new one in their place would delete them.
Status RefuseRemains(const RocksOptions& options) {
  if (!HasFiles(options, {".sst", ".blob", ".log"})) return {};
  return Lost(options, std::string("the file ") + kDatabaseFolder + "/CURRENT");
}

// Families are made one after the other, before the first table is: where tables are and a family
// is not, the list of both is damaged, and a new family would come with the loss of its tables.
Status CheckFamilies(const RocksOptions& options) {
  std::vector<std::string> names;
  const std::string folder = DatabaseFolder(options.path);
  EID_RETURN_IF_ERROR(
      FromRocks(rocksdb::DB::ListColumnFamilies(rocksdb::DBOptions(), folder, &names),
                "opening the database", options.path));
  if (names.size() >= kFamilyCount) return {};
  if (HasFiles(options, {".sst", ".blob"})) {
    return Lost(options, std::string("part of ") + kDatabaseFolder + "/MANIFEST");
  }
  if (options.create && !options.read_only) return {};
  return Status(Code::kNotFound,
                "the archive at " + options.path + " is not finished: its making was interrupted",
                "ingest a document to finish it; nothing is in it yet");
}

// The folder is there, has nothing of others in it, or the reason why it cannot be used.
Status PrepareFolder(const RocksOptions& options) {
  const fs::path folder = options.path;
  std::error_code error;
  if (IsDatabase(folder)) return {};
  const bool exists = fs::exists(folder, error);
  if (exists && !fs::is_directory(folder, error)) {
    return Status(Code::kInvalidArgument, options.path + " is a file, not an archive's folder",
                  "give the path of an archive, or of a folder that is empty or does not exist");
  }
  EID_RETURN_IF_ERROR(RefuseRemains(options));
  if (exists) {
    fs::directory_iterator at(folder, error);
    if (error) {
      return Status(Code::kIoError, "cannot list " + options.path + ": " + error.message());
    }
    for (const fs::directory_entry& entry : at) {
      const std::string name = entry.path().filename().string();
      // Both are left behind when the making of an archive is interrupted.
      if (name == kDatabaseFolder || name == kLockFile) continue;
      return Status(Code::kInvalidArgument,
                    options.path + " is no archive: it holds other files, such as " + name,
                    "give the path of an archive, or of a folder that is empty or does not exist");
    }
  }
  if (!options.create || options.read_only) {
    return Status(Code::kNotFound, "there is no archive at " + options.path,
                  "check the path, or ingest a document to make one");
  }
  fs::create_directories(folder, error);
  if (error) {
    return Status(error == std::errc::no_space_on_device ? Code::kNoSpace : Code::kIoError,
                  "cannot make the folder " + options.path + ": " + error.message());
  }
  return {};
}

// As the database stands after its log was read in `mode`.
Result<Database> OpenDatabase(const RocksOptions& options, rocksdb::WALRecoveryMode mode) {
  auto cache = rocksdb::NewLRUCache(options.block_cache_bytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (Family family : kFamilies) {
    const std::string name =
        family == Family::kMeta ? rocksdb::kDefaultColumnFamilyName : FamilyName(family);
    descriptors.emplace_back(name, FamilyOptions(family, options, cache));
  }
  rocksdb::DBOptions wanted = DatabaseOptions(options);
  wanted.wal_recovery_mode = mode;
  const std::string folder = DatabaseFolder(options.path);
  Database database;
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status =
      options.read_only
          ? rocksdb::DB::OpenForReadOnly(wanted, folder, descriptors, &database.handles, &opened)
          : rocksdb::DB::Open(wanted, folder, descriptors, &database.handles, &opened);
  database.db.reset(opened);
  // RocksDB's own list, by path: our lock is on a folder that was exchanged since.
  if (status.ToString().find("lock hold by current process") != std::string::npos) {
    return Status(Code::kLocked,
                  "an archive that was at " + options.path +
                      " before is still open to be written in this process",
                  "free that archive and its sessions first");
  }
  EID_RETURN_IF_ERROR(FromRocks(status, "opening the database", options.path));
  return database;
}

// The damage in the logs that the database still needs: acknowledged batches are missing (rule 2).
Result<std::optional<WriteLogDamage>> LogDamageOf(const RocksOptions& options) {
  const std::string folder = DatabaseFolder(options.path);
  EID_ASSIGN_OR_RETURN(std::optional<WriteLogDamage> damage, FindWriteLogDamage(folder, 0));
  if (!damage) return damage;
  // A log that was read by an earlier opening, and is only still there, may be as it likes.
  RocksOptions probe = options;
  probe.read_only = true;
  const Result<Database> database =
      OpenDatabase(probe, rocksdb::WALRecoveryMode::kPointInTimeRecovery);
  if (!database.ok()) {
    if (database.status().code() == Code::kCorruption) return damage;
    return database.status();
  }
  uint64_t first_log = 0;
  if (!database->db->GetIntProperty(rocksdb::DB::Properties::kMinLogNumberToKeep, &first_log)) {
    return damage;
  }
  return FindWriteLogDamage(folder, first_log);
}

Result<Database> OpenWhatIsThere(const RocksOptions& options,
                                 const std::optional<WriteLogDamage>& damage) {
  // Up to the first record that is not whole: what a crash leaves, and a state that once was.
  Result<Database> earlier = OpenDatabase(options, rocksdb::WALRecoveryMode::kPointInTimeRecovery);
  if (!damage || !damage->skippable || earlier.status().code() != Code::kCorruption) return earlier;
  // Tables hold some of what was committed later, so that there is no earlier state to go to: what
  // can be read is, and verification names the documents that lack something.
  return OpenDatabase(options, rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords);
}

}  // namespace

Result<std::unique_ptr<RecordStore>> OpenRocksRecordStore(const RocksOptions& options) {
  if (options.path.empty()) {
    return Status(Code::kInvalidArgument, "the path of the archive is empty",
                  "give the path of an archive");
  }
  EID_RETURN_IF_ERROR(PrepareFolder(options));
  std::unique_ptr<WriterLock> lock;
  if (!options.read_only) {
    EID_ASSIGN_OR_RETURN(lock, WriterLock::Acquire((fs::path(options.path) / kLockFile).string()));
  }
  std::string told;
  std::optional<WriteLogDamage> damage;
  if (IsDatabase(options.path)) {
    EID_RETURN_IF_ERROR(CheckFamilies(options));
    EID_ASSIGN_OR_RETURN(damage, LogDamageOf(options));
  }
  if (damage) {
    told = "the log " + damage->file + " of " + options.path + " is damaged at byte " +
           std::to_string(damage->offset) + ": what was committed after that is lost";
    if (!options.read_only && !options.repair) {
      return Status(Code::kCorruption, told,
                    "restore the archive from a backup, or run `eidetic memory repair` to go on "
                    "with what was committed before; reading it is possible meanwhile");
    }
  }
  Result<Database> database = OpenWhatIsThere(options, damage);
  if (damage && !database.ok()) {
    return Status(database.status().code(), told + ", and " + database.status().message(),
                  "restore the archive from a backup");
  }
  EID_RETURN_IF_ERROR(database.status());
  // Repaired, the damage is gone, and with it what it cost.
  if (!options.read_only) told.clear();
  return std::unique_ptr<RecordStore>(std::make_unique<RocksRecordStore>(
      options, std::move(lock), std::move(database).value(), std::move(told)));
}

}  // namespace eidetic::memory
