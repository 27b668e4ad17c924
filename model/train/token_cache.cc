#include "model/train/token_cache.h"

#include <xxhash.h>

#include <algorithm>

#include "model/error.h"
#include "model/sequence_options.h"
#include "model/train/token_cache_format.h"

namespace eidetic::model {
namespace {

constexpr char kRemoveCache[] = "remove the file: it is made again from the texts";

uint32_t TokenAt(const uint8_t* tokens, int64_t i) {
  uint32_t bits;
  std::memcpy(&bits, tokens + sizeof(bits) * static_cast<size_t>(i), sizeof(bits));
  return bits;
}

}  // namespace

uint64_t TokenRecordChecksum(uint64_t record, const void* tokens, size_t bytes) {
  return XXH3_64bits_withSeed(tokens, bytes, record);
}

uint64_t TokenHeaderChecksum(const TokenCacheHeader& header) {
  return XXH3_64bits(&header, offsetof(TokenCacheHeader, checksum));
}

std::string TokenCacheDigestText(const uint8_t* digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < sizeof(TokenCacheHeader::digest); ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

TokenCache::TokenCache(const std::string& path) : path_(path), file_(MapFile(path)) {
  try {
    ReadHeader();
  } catch (...) {
    Unmap(file_);
    throw;
  }
}

TokenCache::~TokenCache() {
  Unmap(file_);
}

void TokenCache::Damaged(const std::string& problem) const {
  throw Error(ErrorCode::kCorruption, path_ + " is damaged: " + problem, kRemoveCache);
}

void TokenCache::ReadHeader() {
  TokenCacheHeader header;
  if (file_.size < sizeof(header)) {
    Damaged("it has " + std::to_string(file_.size) + " bytes, less than a header");
  }
  std::memcpy(&header, file_.data, sizeof(header));
  if (std::memcmp(header.magic, kTokenCacheMagic, sizeof(header.magic)) != 0) {
    Damaged("it does not begin with " + std::string(kTokenCacheMagic));
  }
  if (header.version != kTokenCacheVersion) {
    throw Error(ErrorCode::kUnsupported,
                path_ + " is a token cache of version " + std::to_string(header.version) +
                    "; this build reads version " + std::to_string(kTokenCacheVersion),
                kRemoveCache);
  }
  if (header.checksum != TokenHeaderChecksum(header)) {
    Damaged("the header does not fit its checksum");
  }
  const bool sound = header.record_tokens > 0 && header.vocabulary > 0 &&
                     header.vocabulary < kTokenNotPredicted &&
                     header.end_of_text < header.vocabulary && header.tokens > 0 &&
                     header.tokens <= kMostCacheTokens && header.documents > 0 &&
                     header.documents <= header.tokens && header.predicted <= header.tokens;
  if (!sound) Damaged("the header's counts contradict each other");
  const uint64_t records = (header.tokens + header.record_tokens - 1) / header.record_tokens;
  const uint64_t size =
      sizeof(header) + header.tokens * sizeof(uint32_t) + records * sizeof(uint64_t);
  if (file_.size != size) {
    Damaged("it has " + std::to_string(file_.size) + " bytes, and its header speaks of " +
            std::to_string(size));
  }
  report_.files = static_cast<int64_t>(header.files);
  report_.documents = static_cast<int64_t>(header.documents);
  report_.tokens = static_cast<int64_t>(header.tokens);
  report_.predicted_tokens = static_cast<int64_t>(header.predicted);
  report_.bytes = static_cast<int64_t>(header.bytes);
  report_.bad_lines = static_cast<int64_t>(header.bad_lines);
  vocabulary_ = static_cast<int32_t>(header.vocabulary);
  end_of_text_ = static_cast<int32_t>(header.end_of_text);
  record_tokens_ = header.record_tokens;
  digest_ = TokenCacheDigestText(header.digest);
}

void TokenCache::Visit(int64_t first, int64_t count,
                       const std::function<void(const uint8_t*, int64_t)>& use) const {
  if (first < 0 || count < 1 || count > tokens() || first > tokens() - count) {
    throw Error(ErrorCode::kInvalidArgument, path_ + " has " + std::to_string(tokens()) +
                                                 " tokens, not " + std::to_string(count) +
                                                 " from number " + std::to_string(first) + " on");
  }
  constexpr int64_t kTokenBytes = sizeof(uint32_t), kChecksumBytes = sizeof(uint64_t);
  const int64_t end = first + count;
  for (int64_t record = first / record_tokens_; record * record_tokens_ < end; ++record) {
    const int64_t begin = record * record_tokens_;
    const int64_t size = std::min(record_tokens_, tokens() - begin);
    const uint8_t* const data =
        file_.data + sizeof(TokenCacheHeader) + begin * kTokenBytes + record * kChecksumBytes;
    const auto bytes = static_cast<size_t>(size * kTokenBytes);
    uint64_t checksum;
    std::memcpy(&checksum, data + bytes, sizeof(checksum));
    if (checksum != TokenRecordChecksum(static_cast<uint64_t>(record), data, bytes)) {
      Damaged("tokens " + std::to_string(begin) + " to " + std::to_string(begin + size - 1) +
              " do not fit their checksum");
    }
    const int64_t from = std::max(first - begin, int64_t{0});
    use(data + from * kTokenBytes, std::min(end - begin, size) - from);
  }
}

TrainSequence TokenCache::Sequence(int64_t first, int64_t count) const {
  TrainSequence sequence;
  bool all = true;
  Visit(first, count, [&](const uint8_t* tokens, int64_t part) {
    for (int64_t i = 0; i < part; ++i) {
      const uint32_t bits = TokenAt(tokens, i);
      const auto token = static_cast<int32_t>(bits & ~kTokenNotPredicted);
      if (token >= vocabulary_) {
        Damaged("token " + std::to_string(token) + " is not within the vocabulary of " +
                std::to_string(vocabulary_));
      }
      sequence.tokens.push_back(token);
      sequence.predicted.push_back((bits & kTokenNotPredicted) == 0);
      all = all && sequence.predicted.back();
    }
  });
  if (all) sequence.predicted.clear();
  return sequence;
}

int64_t TokenCache::PredictedTokens(int64_t first, int64_t count) const {
  int64_t predicted = 0;
  bool at_first = true;
  Visit(first, count, [&](const uint8_t* tokens, int64_t part) {
    for (int64_t i = at_first ? 1 : 0; i < part; ++i) {
      predicted += (TokenAt(tokens, i) & kTokenNotPredicted) == 0 ? 1 : 0;
    }
    at_first = false;
  });
  return predicted;
}

std::vector<int64_t> TokenCache::Epoch(int64_t length, uint64_t seed, int64_t epoch) const {
  std::vector<int64_t> windows = EpochWindows(tokens(), length, seed, epoch);
  if (predicted_tokens() < tokens()) {
    std::erase_if(windows, [&](int64_t first) { return PredictedTokens(first, length) == 0; });
  }
  if (windows.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                path_ + ": no sequence of " + std::to_string(length) +
                    " tokens holds a token that carries loss",
                "give more text");
  }
  return windows;
}

void TokenCache::Verify() const {
  Visit(0, tokens(), [](const uint8_t*, int64_t) {});
}

std::vector<int64_t> EpochWindows(int64_t tokens, int64_t length, uint64_t seed, int64_t epoch) {
  if (length < 2) {
    throw Error(ErrorCode::kInvalidArgument,
                "sequences of " + std::to_string(length) + " tokens have nothing to predict",
                "use 2 tokens or more");
  }
  if (tokens < length) {
    throw Error(ErrorCode::kInvalidArgument,
                "the texts have " + std::to_string(tokens) + " tokens, less than one sequence of " +
                    std::to_string(length),
                "give more text, or train on shorter sequences");
  }
  uint64_t state = SeedOfLayer(seed, static_cast<int>(epoch));  // epochs draw apart as layers do
  const auto below = [&](int64_t bound) { return DrawSubset(bound, 1, &state).front(); };
  const int64_t count = tokens / length, left_out_in_front = below(tokens % length + 1);
  std::vector<int64_t> windows;
  for (int64_t i = 0; i < count; ++i) windows.push_back(left_out_in_front + i * length);
  // Durstenfeld, "Algorithm 235: random permutation", 1964.
  for (int64_t i = count - 1; i > 0; --i) {
    std::swap(windows[static_cast<size_t>(i)], windows[static_cast<size_t>(below(i + 1))]);
  }
  return windows;
}

}  // namespace eidetic::model
