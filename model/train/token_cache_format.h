// The bytes of a token cache (docs/formats/token-cache.md): a header, then records of tokens.
#ifndef EIDETIC_MODEL_TRAIN_TOKEN_CACHE_FORMAT_H_
#define EIDETIC_MODEL_TRAIN_TOKEN_CACHE_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace eidetic::model {

inline constexpr char kTokenCacheMagic[] = "EIDTOKEN";  // 8 bytes in the file
inline constexpr size_t kTokenCacheMagicBytes = 8;
inline constexpr uint32_t kTokenCacheVersion = 1;
// Tokens of each record but the last, which may have fewer.
inline constexpr uint32_t kTokenCacheRecordTokens = 1 << 16;
// In a token's 32 bits: nothing is to be learnt from predicting it.
inline constexpr uint32_t kTokenNotPredicted = 0x80000000;
inline constexpr uint64_t kMostCacheTokens = uint64_t{1} << 48;

// As it stands in the file, little-endian.
struct TokenCacheHeader {
  char magic[kTokenCacheMagicBytes];
  uint32_t version;
  uint32_t record_tokens;
  uint32_t vocabulary;
  uint32_t end_of_text;
  uint64_t tokens;
  uint64_t documents;
  uint64_t predicted;
  uint64_t files;
  uint64_t bytes;
  uint64_t bad_lines;
  uint8_t digest[32];
  uint64_t checksum;  // XXH3-64 of all before it
};
static_assert(sizeof(TokenCacheHeader) == 112);
static_assert(offsetof(TokenCacheHeader, checksum) == 104);

// Of a record's tokens; its number is the seed, so that no record stands in for another.
uint64_t TokenRecordChecksum(uint64_t record, const void* tokens, size_t bytes);
uint64_t TokenHeaderChecksum(const TokenCacheHeader& header);
// 64 hexadecimal digits.
std::string TokenCacheDigestText(const uint8_t* digest);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TOKEN_CACHE_FORMAT_H_
