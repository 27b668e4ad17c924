// A record store that makes its own faults: it fails the write it is told to, forgets what was not
// durable, and damages what it holds.
#ifndef EIDETIC_TESTS_MEMORY_FAULT_RECORD_STORE_H_
#define EIDETIC_TESTS_MEMORY_FAULT_RECORD_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/record_store.h"

namespace eidetic::memory::testing {

class FaultRecordStore : public RecordStore {
 public:
  FaultRecordStore() : visible_(NewRamRecordStore()), durable_(NewRamRecordStore()) {}

  Status Write(const RecordBatch& batch, bool durable) override {
    ++writes_;
    if (refused_ || writes_ == failing_write_) {
      refused_ = stays_failed_;
      return failure_;
    }
    Status status = visible_->Write(batch, durable);
    pending_.push_back(batch);
    if (durable) {
      for (const RecordBatch& earlier : pending_) {
        status = durable_->Write(earlier, true);
      }
      pending_.clear();
    }
    return status;
  }
  Result<std::string> Get(Family family, std::string_view key) const override {
    return visible_->Get(family, key);
  }
  std::vector<Result<std::string>> MultiGet(Family family,
                                            const std::vector<std::string>& keys) const override {
    reads_ += keys.size();
    return visible_->MultiGet(family, keys);
  }
  Status Scan(
      Family family, std::string_view begin, std::string_view end,
      const std::function<Status(std::string_view, std::string_view)>& visit) const override {
    return visible_->Scan(family, begin, end, visit);
  }
  Result<uint64_t> SizeOnDisk() const override { return visible_->SizeOnDisk(); }
  Status Compact() override { return visible_->Compact(); }
  Status Reclaim(Family family, std::string_view begin, std::string_view end) override {
    return visible_->Reclaim(family, begin, end);
  }
  Status Purge(const std::vector<KeyRange>& ranges) override { return visible_->Purge(ranges); }
  Status SearchFiles(const ForgottenBytes& samples, FileScan* scan) const override {
    return visible_->SearchFiles(samples, scan);
  }

  // The write with that number from now on (1: the next one) fails and changes nothing; with
  // `stays_failed`, so do all after it.
  void FailWrite(uint64_t number, Status failure, bool stays_failed) {
    failing_write_ = writes_ + number;
    failure_ = std::move(failure);
    stays_failed_ = stays_failed;
    refused_ = false;
  }
  void Heal() {
    refused_ = false;
    failing_write_ = 0;
  }
  uint64_t writes() const { return writes_; }
  uint64_t reads() const { return reads_; }  // records by MultiGet

  // What a loss of power leaves: the durable batches, and the first `kept` of those after them.
  std::shared_ptr<FaultRecordStore> AfterPowerLoss(size_t kept = 0) const {
    auto store = std::make_shared<FaultRecordStore>();
    for (int family = 0; family < kFamilyCount; ++family) {
      Copy(*durable_, static_cast<Family>(family), store.get());
    }
    for (size_t i = 0; i < kept && i < pending_.size(); ++i) {
      static_cast<void>(store->Write(pending_[i], true).ok());
    }
    return store;
  }
  size_t unsynced() const { return pending_.size(); }
  std::shared_ptr<FaultRecordStore> Clone() const { return AfterPowerLoss(pending_.size()); }

  // Every key of a family.
  std::vector<std::string> Keys(Family family) const {
    std::vector<std::string> keys;
    static_cast<void>(visible_
                          ->Scan(family, "", "",
                                 [&](std::string_view key, std::string_view) {
                                   keys.emplace_back(key);
                                   return Status();
                                 })
                          .ok());
    return keys;
  }
  void Overwrite(Family family, const std::string& key, std::string value) {
    RecordBatch batch;
    batch.Put(family, key, std::move(value));
    static_cast<void>(visible_->Write(batch, true).ok());
  }
  void FlipBit(Family family, const std::string& key, size_t bit) {
    std::string value = std::move(visible_->Get(family, key)).value();
    value[bit / 8] = static_cast<char>(value[bit / 8] ^ (1 << (bit % 8)));
    Overwrite(family, key, std::move(value));
  }
  void Erase(Family family, const std::string& key) {
    RecordBatch batch;
    batch.Delete(family, key);
    static_cast<void>(visible_->Write(batch, true).ok());
  }

 private:
  static void Copy(const RecordStore& from, Family family, RecordStore* to) {
    RecordBatch batch;
    static_cast<void>(from.Scan(family, "", "",
                                [&](std::string_view key, std::string_view value) {
                                  batch.Put(family, std::string(key), std::string(value));
                                  return Status();
                                })
                          .ok());
    static_cast<void>(to->Write(batch, true).ok());
  }

  std::unique_ptr<RecordStore> visible_;
  std::unique_ptr<RecordStore> durable_;
  std::vector<RecordBatch> pending_;  // visible, not durable
  uint64_t writes_ = 0;
  mutable uint64_t reads_ = 0;
  uint64_t failing_write_ = 0;
  bool refused_ = false;
  bool stays_failed_ = false;
  Status failure_;
};

}  // namespace eidetic::memory::testing

#endif  // EIDETIC_TESTS_MEMORY_FAULT_RECORD_STORE_H_
