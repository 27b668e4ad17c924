#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <memory>
#include <thread>

#include "model/atomic_file.h"
#include "model/compute_threads.h"
#include "model/error.h"
#include "model/train/token_cache.h"
#include "model/train/token_cache_format.h"
#include "model/train/training_text.h"

namespace eidetic::model {
namespace {

using TokenCacheDigest = std::array<uint8_t, sizeof(TokenCacheHeader::digest)>;

// SHA-256, in parts.
class InputHash {
 public:
  InputHash() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
      throw std::bad_alloc();
    }
  }
  void Add(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  void AddNumber(uint64_t number) { Add({reinterpret_cast<const char*>(&number), sizeof(number)}); }
  // With its length before it, so that no byte can move from one text to the next.
  void AddText(std::string_view text) {
    AddNumber(text.size());
    Add(text);
  }
  TokenCacheDigest Finish() {
    TokenCacheDigest digest;
    EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr);
    return digest;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

class Builder {
 public:
  Builder(const std::vector<std::string>& files, const Tokenizer& tokenizer,
          const TokenCacheOptions& options, const TokenCacheProgress& progress)
      : files_(files),
        tokenizer_(tokenizer),
        options_(options),
        progress_(progress),
        encoder_(tokenizer, options.skip_bad),
        threads_(ComputeThreads(options.threads)) {}

  TokenCacheDigest Digest();
  TokenCacheReport Write(const std::string& path, const TokenCacheDigest& digest);

 private:
  void Report(uint64_t done) const {
    if (progress_ && !progress_(done, total_)) {
      throw Error(ErrorCode::kCancelled, "stopped while training texts were tokenised");
    }
  }
  std::vector<TextPiece> NextPieces(TextPieces* pieces) const;
  std::vector<EncodedText> Encode(const std::vector<TextPiece>& pieces) const;
  void Append(const TextPiece& piece, const EncodedText& text, AtomicFile* file);
  void WriteRecord(AtomicFile* file);
  TokenCacheHeader Header(const TokenCacheDigest& digest) const;

  const std::vector<std::string>& files_;
  const Tokenizer& tokenizer_;
  const TokenCacheOptions& options_;
  const TokenCacheProgress& progress_;
  const TextEncoder encoder_;
  const int threads_;
  uint64_t total_ = 0;             // bytes of all files
  TokenCacheReport report_;        // so far
  int64_t documents_in_file_ = 0;  // so far
  std::vector<uint32_t> record_;   // tokens that are not written yet
  uint64_t records_ = 0;           // written
};

// Also checks the files, so that what is wrong with the last one is told before the first one is
// tokenised.
TokenCacheDigest Builder::Digest() {
  InputHash hash;
  hash.AddNumber(kTokenCacheVersion);
  hash.AddText(tokenizer_.FingerprintBytes());
  hash.AddText(tokenizer_.chat_template());
  hash.AddNumber(static_cast<uint64_t>(encoder_.end_of_text()));
  hash.AddNumber(options_.skip_bad ? 1 : 0);
  total_ = 0;
  for (const std::string& path : files_) {
    const TrainingFile file(path);
    file.CheckText();
    hash.AddNumber(file.is_jsonl() ? 1 : 0);
    hash.AddNumber(file.bytes().size());
    constexpr size_t kAtOnce = size_t{1} << 24;
    for (size_t at = 0; at < file.bytes().size(); at += kAtOnce) {
      Report(0);
      hash.Add(file.bytes().substr(at, kAtOnce));
    }
    total_ += file.bytes().size();
  }
  return hash.Finish();
}

std::vector<TextPiece> Builder::NextPieces(TextPieces* pieces) const {
  std::vector<TextPiece> next;
  while (next.size() < 2 * static_cast<size_t>(threads_)) {
    std::optional<TextPiece> piece = pieces->Next();
    if (!piece) break;
    next.push_back(std::move(*piece));
  }
  return next;
}

// In the order of the pieces, whichever thread is done first; so is the error that is thrown.
std::vector<EncodedText> Builder::Encode(const std::vector<TextPiece>& pieces) const {
  std::vector<EncodedText> texts(pieces.size());
  std::vector<std::exception_ptr> errors(pieces.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      try {
        texts[i] = encoder_.Encode(pieces[i]);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  };
  std::vector<std::jthread> others;
  const size_t workers = std::min(static_cast<size_t>(threads_), pieces.size());
  for (size_t i = 1; i < workers; ++i) others.emplace_back(work);
  work();
  others.clear();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return texts;
}

void Builder::WriteRecord(AtomicFile* file) {
  const size_t bytes = record_.size() * sizeof(uint32_t);
  const uint64_t checksum = TokenRecordChecksum(records_++, record_.data(), bytes);
  file->Write(record_.data(), bytes);
  file->Write(&checksum, sizeof(checksum));
  record_.clear();
}

void Builder::Append(const TextPiece& piece, const EncodedText& text, AtomicFile* file) {
  for (const uint32_t token : text.tokens) {
    record_.push_back(token);
    if (record_.size() == kTokenCacheRecordTokens) WriteRecord(file);
  }
  report_.tokens += static_cast<int64_t>(text.tokens.size());
  report_.documents += text.documents;
  report_.predicted_tokens += text.predicted;
  report_.bad_lines += text.bad_lines;
  documents_in_file_ += text.documents;
  if (!piece.ends_file) return;
  if (documents_in_file_ == 0) {
    throw Error(ErrorCode::kUnsupported,
                piece.file->path() +
                    ": no line of the file can be used: there is nothing to train "
                    "on",
                "leave the file out");
  }
  documents_in_file_ = 0;
  ++report_.files;
}

TokenCacheHeader Builder::Header(const TokenCacheDigest& digest) const {
  TokenCacheHeader header{};
  std::memcpy(header.magic, kTokenCacheMagic, sizeof(header.magic));
  header.version = kTokenCacheVersion;
  header.record_tokens = kTokenCacheRecordTokens;
  header.vocabulary = static_cast<uint32_t>(tokenizer_.vocabulary());
  header.end_of_text = static_cast<uint32_t>(encoder_.end_of_text());
  header.tokens = static_cast<uint64_t>(report_.tokens);
  header.documents = static_cast<uint64_t>(report_.documents);
  header.predicted = static_cast<uint64_t>(report_.predicted_tokens);
  header.files = static_cast<uint64_t>(report_.files);
  header.bytes = static_cast<uint64_t>(report_.bytes);
  header.bad_lines = static_cast<uint64_t>(report_.bad_lines);
  std::memcpy(header.digest, digest.data(), digest.size());
  header.checksum = TokenHeaderChecksum(header);
  return header;
}

TokenCacheReport Builder::Write(const std::string& path, const TokenCacheDigest& digest) {
  AtomicFile file(path);
  const TokenCacheHeader room{};
  file.Write(&room, sizeof(room));
  TextPieces pieces(files_);
  report_.bytes = static_cast<int64_t>(total_);
  uint64_t done = 0;
  for (;;) {
    Report(done);
    const std::vector<TextPiece> next = NextPieces(&pieces);
    if (next.empty()) break;
    const std::vector<EncodedText> texts = Encode(next);
    for (size_t i = 0; i < next.size(); ++i) {
      Append(next[i], texts[i], &file);
      done += next[i].text.size();
    }
  }
  if (!record_.empty()) WriteRecord(&file);
  if (Digest() != digest) {
    throw Error(ErrorCode::kIo, "a training text changed while it was read",
                "wait until the files are whole, and start again");
  }
  const TokenCacheHeader header = Header(digest);
  file.WriteOver(0, &header, sizeof(header));
  file.Commit();
  return report_;
}

bool BeginsAsTokenCache(const std::string& path) {
  char magic[kTokenCacheMagicBytes] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  return std::memcmp(magic, kTokenCacheMagic, sizeof(magic)) == 0;
}

// What a whole cache of this digest says of itself. A damaged one and one of other texts are made
// again; a file that never was a cache is left alone.
std::optional<TokenCacheReport> ReusableCache(const std::string& path,
                                              const TokenCacheDigest& digest) {
  try {
    const TokenCache cache(path);
    if (cache.digest() != TokenCacheDigestText(digest.data())) return std::nullopt;
    cache.Verify();
    TokenCacheReport report = cache.report();
    report.reused = true;
    return report;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kNotFound || BeginsAsTokenCache(path)) return std::nullopt;
    throw Error(ErrorCode::kInvalidArgument,
                path + " is there and is no token cache: it is not overwritten",
                "choose another path for the cache, or remove the file");
  }
}

}  // namespace

TokenCacheReport BuildTokenCache(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                                 const std::string& path, const TokenCacheOptions& options,
                                 const TokenCacheProgress& progress) {
  if (files.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no training texts", "name one file or more");
  }
  Builder builder(files, tokenizer, options, progress);
  const TokenCacheDigest digest = builder.Digest();
  const std::optional<TokenCacheReport> reused = ReusableCache(path, digest);
  return reused ? *reused : builder.Write(path, digest);
}

}  // namespace eidetic::model
