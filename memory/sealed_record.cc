#include "memory/sealed_record.h"

#include <cstring>

#include "memory/byte_io.h"
#include "memory/format.h"
#include "memory/hash.h"

namespace eidetic::memory::format {

Status Refuse(std::string_view key, const std::string& what) {
  return Status(Code::kCorruption, "record " + Printable(key) + ": " + what,
                "the archive is damaged there: run `eidetic memory verify`, and ingest the named "
                "document again");
}

std::string Begin(size_t body_bytes, uint8_t version) {
  std::string value;
  value.reserve(1 + body_bytes + kChecksumBytes);
  value.push_back(static_cast<char>(version));
  return value;
}

std::string Seal(std::string_view key, std::string value) {
  ByteWriter(&value).Little(RecordChecksum(key, value));
  return value;
}

Result<std::string_view> Unseal(std::string_view key, std::string_view value) {
  if (value.size() < 1 + kChecksumBytes) {
    return Refuse(key, "its value has " + std::to_string(value.size()) + " bytes, too few");
  }
  const std::string_view sealed = value.substr(0, value.size() - kChecksumBytes);
  uint64_t stored = 0;
  std::memcpy(&stored, value.data() + sealed.size(), sizeof stored);
  if (stored != RecordChecksum(key, sealed)) {
    return Refuse(key, "the checksum over key and value does not match");
  }
  return sealed;
}

Result<std::string_view> Body(std::string_view key, std::string_view value, uint8_t newest,
                              uint8_t* found) {
  EID_ASSIGN_OR_RETURN(std::string_view sealed, Unseal(key, value));
  const auto version = static_cast<uint8_t>(sealed[0]);
  if (version < kRecordVersion || version > newest) {
    return Refuse(key, "record version " + std::to_string(version) + ", this build reads " +
                           std::to_string(newest));
  }
  if (found != nullptr) *found = version;
  return sealed.substr(1);
}

}  // namespace eidetic::memory::format
