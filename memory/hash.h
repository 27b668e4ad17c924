// Hashes: SHA-256 names content, XXH3 guards records.
#ifndef EIDETIC_MEMORY_HASH_H_
#define EIDETIC_MEMORY_HASH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace eidetic::memory {

// Incremental SHA-256; Finish() gives 64 lower-case hex digits and ends its use.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(std::string_view bytes);
  std::string Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Hex(std::string_view bytes);

// XXH3-64 of the value, seeded with XXH3-64 of the key: the checksum at the end of every stored
// record (rule 3).
uint64_t RecordChecksum(std::string_view key, std::string_view value);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_HASH_H_
