#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "memory/file_search.h"
#include "memory/format.h"
#include "memory/record_store.h"

namespace eidetic::memory {
namespace {

using Records = std::map<std::string, std::shared_ptr<const std::string>, std::less<>>;

class RamRecordStore : public RecordStore {
 public:
  Status Write(const RecordBatch& batch, bool) override {
    std::unique_lock lock(mutex_);
    for (const RecordBatch::Change& change : batch.changes()) {
      Records& records = families_[static_cast<size_t>(change.family)];
      switch (change.kind) {
        case RecordBatch::Kind::kPut:
          records.insert_or_assign(change.key, std::make_shared<const std::string>(change.value));
          break;
        case RecordBatch::Kind::kDelete:
          records.erase(change.key);
          break;
        case RecordBatch::Kind::kDeleteRange:
          if (change.key < change.value) {
            records.erase(records.lower_bound(change.key), records.lower_bound(change.value));
          }
          break;
      }
    }
    return {};
  }

  Result<std::string> Get(Family family, std::string_view key) const override {
    std::shared_lock lock(mutex_);
    return Find(family, key);
  }

  std::vector<Result<std::string>> MultiGet(Family family,
                                            const std::vector<std::string>& keys) const override {
    std::shared_lock lock(mutex_);
    std::vector<Result<std::string>> results;
    results.reserve(keys.size());
    for (const std::string& key : keys) results.push_back(Find(family, key));
    return results;
  }

  Status Scan(
      Family family, std::string_view begin, std::string_view end,
      const std::function<Status(std::string_view, std::string_view)>& visit) const override {
    // The visitor may read and write this store: it runs outside the lock, on the records as they
    // were (shared, not copied).
    std::vector<std::pair<std::string, std::shared_ptr<const std::string>>> snapshot;
    {
      std::shared_lock lock(mutex_);
      const Records& records = families_[static_cast<size_t>(family)];
      if (!end.empty() && end <= begin) return {};
      auto last = end.empty() ? records.end() : records.lower_bound(end);
      for (auto at = records.lower_bound(begin); at != last; ++at) {
        snapshot.emplace_back(at->first, at->second);
      }
    }
    for (const auto& [key, value] : snapshot) EID_RETURN_IF_ERROR(visit(key, *value));
    return {};
  }

  Result<uint64_t> SizeOnDisk() const override {
    std::shared_lock lock(mutex_);
    uint64_t bytes = 0;
    for (const Records& records : families_) {
      for (const auto& [key, value] : records) bytes += key.size() + value->size();
    }
    return bytes;
  }

  Status Compact() override { return {}; }
  Status Reclaim(Family, std::string_view, std::string_view) override { return {}; }
  Status Purge(const std::vector<KeyRange>&) override { return {}; }

  Status SearchFiles(const ForgottenBytes& samples, FileScan* scan) const override {
    std::shared_lock lock(mutex_);
    for (size_t family = 0; family < families_.size(); ++family) {
      const std::string name = FamilyName(static_cast<Family>(family));
      for (const auto& [key, value] : families_[family]) {
        SearchBytes(samples, name + " key " + format::Printable(key), key, scan);
        SearchBytes(samples, name + " record " + format::Printable(key), *value, scan);
      }
    }
    return {};
  }

 private:
  Result<std::string> Find(Family family, std::string_view key) const {
    const Records& records = families_[static_cast<size_t>(family)];
    auto found = records.find(key);
    if (found == records.end()) {
      return Status(Code::kNotFound,
                    std::string("there is no such record in ") + FamilyName(family));
    }
    return *found->second;
  }

  mutable std::shared_mutex mutex_;
  std::array<Records, kFamilyCount> families_;
};

}  // namespace

std::unique_ptr<RecordStore> NewRamRecordStore() {
  return std::make_unique<RamRecordStore>();
}

}  // namespace eidetic::memory
