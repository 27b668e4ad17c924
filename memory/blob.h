// Long values: a head that says how long, then chunks of a bounded size. Changed as a whole in one
// batch.
#ifndef EIDETIC_MEMORY_BLOB_H_
#define EIDETIC_MEMORY_BLOB_H_

#include <string>
#include <string_view>

#include "memory/record_store.h"

namespace eidetic::memory {

// Adds to `batch` what makes `bytes` the blob of `prefix`, and the removal of what is left of a
// longer one before it.
Status PutBlob(const RecordStore& records, Family family, std::string_view prefix,
               std::string_view bytes, RecordBatch* batch);
// kNotFound when there is none, kCorruption when a chunk is missing or damaged.
Result<std::string> ReadBlob(const RecordStore& records, Family family, std::string_view prefix);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_BLOB_H_
