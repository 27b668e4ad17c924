#include "memory/id_counter.h"

namespace eidetic::memory {
namespace {

const char* Counted(format::Counter counter) {
  switch (counter) {
    case format::Counter::kBlock:
      return "blocks";
    case format::Counter::kLineage:
      return "lineages";
    case format::Counter::kDocument:
      return "documents";
  }
  return "unknown things";
}

// Without the counter, an id might be given twice: nothing is written.
Status Unknown(format::Counter counter, const Status& status) {
  return Status(
      status.code(),
      std::string("the counter of ") + Counted(counter) + " cannot be read: " + status.message(),
      status.code() == Code::kCorruption
          ? "restore the archive from a backup; opened read-only, the rest can be read"
          : status.remedy());
}

}  // namespace

Result<std::unique_ptr<IdCounter>> IdCounter::Open(RecordStore* records, format::Counter counter,
                                                   uint64_t reservation) {
  const std::string key = format::CounterKey(counter);
  uint64_t next = 1;
  Result<std::string> stored = records->Get(Family::kMeta, key);
  if (stored.ok()) {
    const Result<uint64_t> number = format::DecodeNumber(key, *stored);
    if (!number.ok()) return Unknown(counter, number.status());
    next = *number;
    if (next == 0) return Unknown(counter, Status(Code::kCorruption, "it stands at 0"));
  } else if (stored.status().code() != Code::kNotFound) {
    return Unknown(counter, stored.status());
  }
  return std::unique_ptr<IdCounter>(new IdCounter(records, counter, reservation, next));
}

Result<uint64_t> IdCounter::Next() {
  std::lock_guard lock(mutex_);
  if (next_ == reserved_) {
    const std::string key = format::CounterKey(counter_);
    RecordBatch batch;
    batch.Put(Family::kMeta, key, format::EncodeNumber(key, reserved_ + reservation_));
    EID_RETURN_IF_ERROR(records_->Write(batch, false));
    reserved_ += reservation_;
  }
  return next_++;
}

}  // namespace eidetic::memory
