// Ids that are never given twice, also across crashes.
#ifndef EIDETIC_MEMORY_ID_COUNTER_H_
#define EIDETIC_MEMORY_ID_COUNTER_H_

#include <cstdint>
#include <memory>
#include <mutex>

#include "memory/format.h"
#include "memory/record_store.h"

namespace eidetic::memory {

// Thread-safe. Ids are taken from a reservation: the store holds the first id that is not reserved,
// and that record is written before any record that uses an id below it, so that it is there
// whenever they are. Ids of a reservation that was not used up are skipped after reopening.
class IdCounter {
 public:
  // `reservation`: ids taken by one write.
  static Result<std::unique_ptr<IdCounter>> Open(RecordStore* records, format::Counter counter,
                                                 uint64_t reservation);
  Result<uint64_t> Next();

 private:
  IdCounter(RecordStore* records, format::Counter counter, uint64_t reservation, uint64_t next)
      : records_(records),
        counter_(counter),
        reservation_(reservation),
        next_(next),
        reserved_(next) {}

  RecordStore* records_;
  format::Counter counter_;
  uint64_t reservation_;
  std::mutex mutex_;
  uint64_t next_;
  uint64_t reserved_;  // the first id that is not reserved
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_ID_COUNTER_H_
