#include "memory/blob.h"

#include <algorithm>

#include "memory/format.h"
#include "memory/hash.h"

namespace eidetic::memory {

Status PutBlob(const RecordStore& records, Family family, std::string_view prefix,
               std::string_view bytes, RecordBatch* batch) {
  if (bytes.size() > format::kMaxBlobBytes) {
    return Status(Code::kInvalidArgument, "a value of " + std::to_string(bytes.size()) +
                                              " bytes is too long, at most " +
                                              std::to_string(format::kMaxBlobBytes));
  }
  const std::string head_key = format::BlobKey(prefix, 0);
  uint32_t old_chunks = 0;
  Result<std::string> old = records.Get(family, head_key);
  if (old.ok()) {
    EID_ASSIGN_OR_RETURN(format::BlobHead old_head, format::DecodeBlobHead(head_key, *old));
    old_chunks = old_head.chunks;
  } else if (old.status().code() != Code::kNotFound) {
    return old.status();
  }

  format::BlobHead head;
  head.bytes = bytes.size();
  head.checksum = RecordChecksum(prefix, bytes);
  for (uint64_t at = 0; at < bytes.size(); at += format::kBlobChunkBytes) {
    const std::string key = format::BlobKey(prefix, ++head.chunks);
    batch->Put(family, key, format::EncodeBytes(key, bytes.substr(at, format::kBlobChunkBytes)));
  }
  batch->Put(family, head_key, format::EncodeBlobHead(head_key, head));
  for (uint32_t chunk = head.chunks + 1; chunk <= old_chunks; ++chunk) {
    batch->Delete(family, format::BlobKey(prefix, chunk));
  }
  return {};
}

Result<std::string> ReadBlob(const RecordStore& records, Family family, std::string_view prefix) {
  format::BlobHead head;
  uint32_t next = 0;
  std::string bytes;
  EID_RETURN_IF_ERROR(records.Scan(
      family, prefix, format::PrefixEnd(std::string(prefix)),
      [&](std::string_view key, std::string_view value) -> Status {
        if (key != format::BlobKey(prefix, next)) {
          return Status(Code::kCorruption, "chunk " + std::to_string(next) + " of the value at " +
                                               format::Printable(prefix) + " is missing");
        }
        if (next++ == 0) {
          EID_ASSIGN_OR_RETURN(head, format::DecodeBlobHead(key, value));
          // Not reserved before a chunk is there: the head alone does not decide on memory.
          return {};
        }
        EID_ASSIGN_OR_RETURN(std::string_view chunk, format::DecodeBytes(key, value));
        if (next == 2) bytes.reserve(head.bytes);
        bytes.append(chunk);
        return {};
      }));
  if (next == 0) {
    return Status(Code::kNotFound, "there is no value at " + format::Printable(prefix));
  }
  if (next != head.chunks + 1 || bytes.size() != head.bytes ||
      RecordChecksum(prefix, bytes) != head.checksum) {
    return Status(Code::kCorruption,
                  "the value at " + format::Printable(prefix) + " has " + std::to_string(next - 1) +
                      " chunks and " + std::to_string(bytes.size()) + " bytes, not the " +
                      std::to_string(head.chunks) + " and " + std::to_string(head.bytes) +
                      " of its head, or fails its checksum");
  }
  return bytes;
}

}  // namespace eidetic::memory
