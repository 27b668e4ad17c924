// The database's write-ahead log, read past damage: what a crash leaves at its end is told from
// what decay does to its middle (docs/decisions/058). RocksDB itself stops at either in silence.
//
// After every durable batch the store appends an acknowledgement, a batch that holds a mark and
// changes nothing. It stands behind everything that the sync before it made durable. So whatever is
// unreadable or missing before an acknowledgement was acknowledged and is lost (rules 2 and 3), and
// what is unreadable behind the last one never was.
#ifndef EIDETIC_MEMORY_WRITE_LOG_H_
#define EIDETIC_MEMORY_WRITE_LOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "memory/status.h"

namespace eidetic::memory {

// The mark: log data of a batch without changes.
inline constexpr std::string_view kAcknowledgement = "eidetic-acknowledged";

struct WriteLogDamage {
  std::string file;     // its name within the database's folder, such as 000012.log
  uint64_t offset = 0;  // the first byte that cannot be read, or where something is missing
  // Whether RocksDB can be told to skip what it cannot read in these logs. It never comes to an end
  // where damage looks like a record of a log that is used a second time.
  bool skippable = true;
};

// The first damage before an acknowledgement in the logs of `database` with numbers from
// `first_log` on; nothing when there is none. A log that is being written may be read: a record
// that is not whole yet is as a torn one. kIoError when a log cannot be read.
Result<std::optional<WriteLogDamage>> FindWriteLogDamage(const std::string& database,
                                                         uint64_t first_log);

// CRC-32C of `bytes`, going on from the `crc` of the bytes before (0: none).
uint32_t Crc32c(std::string_view bytes, uint32_t crc = 0);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_WRITE_LOG_H_
