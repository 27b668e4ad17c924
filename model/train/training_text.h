// Files of training text, cut into pieces that can be tokenised apart, and their tokens.
#ifndef EIDETIC_MODEL_TRAIN_TRAINING_TEXT_H_
#define EIDETIC_MODEL_TRAIN_TRAINING_TEXT_H_

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/mapped_file.h"
#include "model/tokenizer.h"

namespace eidetic::model {

// A file, mapped. Immutable and thread-safe.
class TrainingFile {
 public:
  // Throws Error: kNotFound, kIo, kUnsupported for an empty file.
  explicit TrainingFile(const std::string& path);
  ~TrainingFile() { Unmap(file_); }
  TrainingFile(const TrainingFile&) = delete;
  TrainingFile& operator=(const TrainingFile&) = delete;

  const std::string& path() const { return path_; }
  bool is_jsonl() const { return is_jsonl_; }
  std::string_view bytes() const {
    return {reinterpret_cast<const char*>(file_.data), static_cast<size_t>(file_.size)};
  }
  // Throws kUnsupported when the file is not JSONL and is binary or not UTF-8.
  void CheckText() const;

 private:
  const std::string path_;
  const bool is_jsonl_;
  MappedFile file_;
};

struct TextPiece {
  std::shared_ptr<const TrainingFile> file;
  std::string_view text;  // in the file: a part of a document, or whole lines of JSONL
  int64_t first_line = 1;
  bool ends_file = false;
};

// Goes through files piece by piece. A document is cut only where the words of a tokenizer end
// anyway (Pretokenizer::NextCut), so that the pieces have the tokens of the whole. Not thread-safe.
class TextPieces {
 public:
  // Of files that CheckText let through.
  explicit TextPieces(const std::vector<std::string>& files) : files_(files) {}
  // A MiB, and what is left of a word or a line; nothing behind the last file.
  std::optional<TextPiece> Next();

 private:
  const std::vector<std::string> files_;
  size_t next_file_ = 0;
  std::shared_ptr<const TrainingFile> file_;
  std::string_view rest_;
  int64_t line_ = 1;
};

struct EncodedText {
  std::vector<uint32_t> tokens;  // as a cache holds them (token_cache_format.h)
  int64_t documents = 0;         // that end here
  int64_t predicted = 0;
  int64_t bad_lines = 0;
};

// Immutable and thread-safe; refers to the tokenizer.
class TextEncoder {
 public:
  // Throws kUnsupported for a tokenizer without a token that ends a text.
  TextEncoder(const Tokenizer& tokenizer, bool skip_bad);
  // Throws as BuildTokenCache (token_cache.h) does.
  EncodedText Encode(const TextPiece& piece) const;
  int32_t end_of_text() const { return end_of_text_; }

 private:
  struct Markers {
    std::vector<int32_t> before, after;
  };
  void PrepareChat();
  void EncodeLine(std::string_view line, EncodedText* out) const;
  void EncodeChat(const std::vector<ChatMessage>& messages, EncodedText* out) const;
  void Append(const std::vector<int32_t>& tokens, bool predicted, EncodedText* out) const;
  void EndDocument(bool predicted, EncodedText* out) const;

  const Tokenizer& tokenizer_;
  const bool skip_bad_;
  int32_t end_of_text_ = -1;
  std::map<std::pair<std::string, bool>, Markers> markers_;  // of role and whether it is the first
  std::exception_ptr no_chat_;  // why there are none; thrown for the first conversation
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TRAINING_TEXT_H_
