#include "memory/id_counter.h"

namespace eidetic::memory {

Result<std::unique_ptr<IdCounter>> IdCounter::Open(RecordStore* records, format::Counter counter,
                                                   uint64_t reservation) {
  const std::string key = format::CounterKey(counter);
  uint64_t next = 1;
  Result<std::string> stored = records->Get(Family::kMeta, key);
  if (stored.ok()) {
    EID_ASSIGN_OR_RETURN(next, format::DecodeNumber(key, *stored));
    if (next == 0) {
      return Status(Code::kCorruption, "the counter " + format::Printable(key) + " stands at 0");
    }
  } else if (stored.status().code() != Code::kNotFound) {
    return stored.status();
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
