// Training texts as token ids, tokenised once into a file that is mapped into memory.
//
// No LibTorch in here.
#ifndef EIDETIC_MODEL_TRAIN_TOKEN_CACHE_H_
#define EIDETIC_MODEL_TRAIN_TOKEN_CACHE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/mapped_file.h"
#include "model/tokenizer.h"
#include "model/train/train_sequence.h"

namespace eidetic::model {

// What a cache was made of.
struct TokenCacheReport {
  int64_t files = 0;
  int64_t documents = 0;
  int64_t tokens = 0;            // the end-of-text tokens among them
  int64_t predicted_tokens = 0;  // those that carry loss
  int64_t bytes = 0;             // of the files
  int64_t bad_lines = 0;         // of JSONL files, left out with skip_bad
  bool reused = false;           // the cache was there: nothing was tokenised
};

// A cache as docs/formats/token-cache.md has it. Documents stand one behind another, each ended by
// the end-of-text token. Immutable and thread-safe; keeps the file mapped.
class TokenCache {
 public:
  // Checks the header and the file's length. Throws Error: kNotFound, kIo, kCorruption,
  // kUnsupported for a version that this build does not read.
  explicit TokenCache(const std::string& path);
  ~TokenCache();
  TokenCache(const TokenCache&) = delete;
  TokenCache& operator=(const TokenCache&) = delete;

  int64_t tokens() const { return report_.tokens; }
  int64_t documents() const { return report_.documents; }
  int64_t predicted_tokens() const { return report_.predicted_tokens; }
  int32_t vocabulary() const { return vocabulary_; }  // every token is below it
  int32_t end_of_text() const { return end_of_text_; }
  const TokenCacheReport& report() const { return report_; }
  // 64 hexadecimal digits: SHA-256 of the tokenizer, the files' bytes in their order, and the
  // options. Not of the files' names.
  const std::string& digest() const { return digest_; }

  // Tokens first .. first + count - 1. The bytes are checked every time (rule 3): throws
  // kCorruption for damaged ones, kInvalidArgument for tokens that are not there.
  TrainSequence Sequence(int64_t first, int64_t count) const;
  // How many of these carry loss when they are a sequence: its first token never does.
  int64_t PredictedTokens(int64_t first, int64_t count) const;

  // Where the sequences of `length` tokens of an epoch (0, 1, ...) begin, in the order they are to
  // be read in; EpochWindows of all tokens, without those that have nothing to predict. Throws
  // kInvalidArgument when there is none left.
  std::vector<int64_t> Epoch(int64_t length, uint64_t seed, int64_t epoch) const;

  // Reads and checks all of it. Throws kCorruption.
  void Verify() const;

 private:
  // Calls `use(tokens, count)` with consecutive parts of tokens as they stand in the file.
  void Visit(int64_t first, int64_t count,
             const std::function<void(const uint8_t*, int64_t)>& use) const;
  void ReadHeader();
  [[noreturn]] void Damaged(const std::string& problem) const;

  std::string path_;
  MappedFile file_;
  TokenCacheReport report_;
  int32_t vocabulary_ = 0;
  int32_t end_of_text_ = 0;
  int64_t record_tokens_ = 0;
  std::string digest_;
};

// Non-overlapping windows of `length` out of `tokens` tokens, as many as there is room for: the
// first token of each, shuffled by seed and epoch, the same on every machine. What is left over
// (tokens % length) is left out of the epoch at its front and its end, split by chance, so that
// every token has its turn in some epoch. Throws kInvalidArgument when there is no window.
std::vector<int64_t> EpochWindows(int64_t tokens, int64_t length, uint64_t seed, int64_t epoch);

struct TokenCacheOptions {
  bool skip_bad = false;  // lines of JSONL files that cannot be used are counted and left out
  int threads = 0;        // that tokenise; 0: one per core (ComputeThreads). Tokens are the same.
};

// Bytes of the files that are tokenised, of all. Called on the calling thread; false: stop.
using TokenCacheProgress = std::function<bool(uint64_t done, uint64_t total)>;

// Tokenises `files` into `path`, unless a whole cache with the same digest is there. By the name's
// end, a file is:
//   .jsonl  a document a line, {"text": "..."} or {"messages": [{"role": ..., "content": ...}]};
//           a conversation is rendered as a session reads it (chat_template.h), and only the
//           assistant's answers and the tokens that end them carry loss. Empty lines are passed
//           over.
//   others  one document of UTF-8 text.
// The documents' end is <|endoftext|> where that is a control token of the tokenizer, else eos().
// The cache is put in place whole, or on any error not at all. Memory: a few MiB a thread, whatever
// the files' size. Throws Error:
//   kNotFound, kIo       a file that cannot be read, or that changed meanwhile
//   kUnsupported         an empty file, one that is binary or not UTF-8; a chat template that
//                        cannot be rendered
//   kCorruption          a line that cannot be used, with file and line; not with skip_bad
//   kInvalidArgument     no files; a file at `path` that is no token cache
//   kNoSpace, kCancelled
TokenCacheReport BuildTokenCache(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                                 const std::string& path, const TokenCacheOptions& options,
                                 const TokenCacheProgress& progress);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TOKEN_CACHE_H_
