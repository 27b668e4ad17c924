// Byte-level BPE from a GGUF's tables, its inverse, and a detokenizer for streams.
#ifndef EIDETIC_MODEL_TOKENIZER_H_
#define EIDETIC_MODEL_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf.h"

namespace eidetic::model {

// Immutable and thread-safe.
class Tokenizer {
 public:
  // Throws Error: kUnsupported for a tokenizer model or pre-tokenizer other than those listed in
  // docs/models.md, kCorruption when the tables contradict themselves.
  static std::shared_ptr<const Tokenizer> FromGguf(const GgufFile& file);
  virtual ~Tokenizer() = default;

  // Invalid UTF-8 is read as U+FFFD, one per maximal invalid part. With `special`, names of control
  // tokens in the text become these tokens; otherwise they are plain text. Adds no BOS.
  virtual std::vector<int32_t> Encode(std::string_view text, bool special) const = 0;
  // Also gives the byte offset in `text` at which each token begins (for provenance). Text must be
  // valid UTF-8: throws kInvalidArgument naming the offset otherwise.
  virtual std::vector<int32_t> EncodeWithOffsets(std::string_view text,
                                                 std::vector<uint64_t>* offsets) const = 0;
  // The bytes of one token; empty for control tokens. Throws kInvalidArgument for an unknown id.
  virtual std::string_view TokenBytes(int32_t token) const = 0;
  // Bytes that are no UTF-8 become U+FFFD.
  virtual std::string Decode(const std::vector<int32_t>& tokens) const = 0;

  virtual int vocabulary() const = 0;
  virtual int32_t bos() const = 0;  // -1: none
  virtual int32_t eos() const = 0;
  virtual bool IsControl(int32_t token) const = 0;
  // Every token that ends a generation (eos and end-of-turn).
  virtual bool IsEnd(int32_t token) const = 0;
  // The raw chat template (Jinja) of the file; may be empty.
  virtual const std::string& chat_template() const = 0;
  // A stable description of tables and rules, for the fingerprint.
  virtual std::string FingerprintBytes() const = 0;
};

// Turns tokens into text piece by piece and never emits half a UTF-8 character. Not thread-safe.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer);
  // The characters that became whole with this token; may be empty.
  std::string Push(int32_t token);
  // What is left: incomplete bytes become U+FFFD.
  std::string Finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string pending_;
};

// One message of a chat.
struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// Renders messages as the file's template would, to be encoded with `special`. Supports the ChatML
// family (docs/models.md); throws kUnsupported for another template. `first` says whether this is
// the start of the conversation (a default system message may then be added);
// `open_assistant_turn` appends the assistant's header.
std::string RenderChat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                       bool first, bool open_assistant_turn);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TOKENIZER_H_
