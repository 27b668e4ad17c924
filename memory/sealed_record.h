// What all stored values have in common: a version byte before, and a checksum over key and value
// behind (rule 3).
#ifndef EIDETIC_MEMORY_SEALED_RECORD_H_
#define EIDETIC_MEMORY_SEALED_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "memory/format.h"

namespace eidetic::memory::format {

// kCorruption that names the record and says what is wrong with it.
Status Refuse(std::string_view key, const std::string& what);
// A value that begins with its version byte; `body_bytes` is a guess of what follows.
std::string Begin(size_t body_bytes, uint8_t version = kRecordVersion);
// Ends the value with its checksum.
std::string Seal(std::string_view key, std::string value);
// The value without its checksum, which has been verified.
Result<std::string_view> Unseal(std::string_view key, std::string_view value);
// The body: verified, without the version byte, which is at most `newest` and goes to `found`.
Result<std::string_view> Body(std::string_view key, std::string_view value,
                              uint8_t newest = kRecordVersion, uint8_t* found = nullptr);

}  // namespace eidetic::memory::format

#endif  // EIDETIC_MEMORY_SEALED_RECORD_H_
