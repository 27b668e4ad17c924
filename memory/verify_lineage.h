// The part of verification that reads blocks: every record of the families `blocks` and
// `embeddings`.
#ifndef EIDETIC_MEMORY_VERIFY_LINEAGE_H_
#define EIDETIC_MEMORY_VERIFY_LINEAGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memory/hash.h"
#include "memory/record_store.h"
#include "memory/verify_log.h"

namespace eidetic::memory {

// Who owns the lineage that is looked at.
struct LineageSubject {
  const LineageRecord* lineage = nullptr;
  std::string name;         // for messages: "collection C, document 1 (source)", or the session
  DocumentId document = 0;  // 0: a session's
  uint64_t text_bytes = 0;  // no block of the document ends past it
};

class LineageVerifier {
 public:
  LineageVerifier(const RecordStore& records, VerifyLog* log) : records_(records), log_(log) {}

  // Every block of a lineage; `digest` is of the blocks' contents, without ids.
  Status Read(const LineageSubject& subject, std::string* digest);
  // Records of lineages from `begin` to before `end` (none: to the last), which have no record.
  Status ReadStrays(LineageId begin, std::optional<LineageId> end);
  // Tells of records in a range where nothing should be. With `committed`, it is a range of blocks,
  // and those of a writer at work past so many tokens of their lineage are in order.
  Status CountStrays(Family family, const std::string& begin, const std::string& end,
                     std::optional<uint64_t> committed, const std::string& whose);
  BlockId largest_block() const { return largest_block_; }

 private:
  // Where a block must be.
  struct Place {
    uint64_t position = 0;
    int tokens = 0;  // 0: its header is damaged
    BlockId id = 0;
  };
  struct Walk;

  static std::string Name(const LineageSubject& subject, const Place& place);
  // Whether blocks past `committed` tokens may rightly be there: a writer is at work, or was when
  // its process ended.
  bool MayReachPast(LineageId lineage, uint64_t committed) const;
  Status ReadEmbeddings(const LineageSubject& subject, std::vector<Place>* places, Sha256* hash);
  Status ReadPayloads(const LineageSubject& subject, const std::vector<Place>& places,
                      Sha256* hash);

  const RecordStore& records_;
  VerifyLog* log_;
  BlockId largest_block_ = 0;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_VERIFY_LINEAGE_H_
