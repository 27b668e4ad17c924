// Reads a document through the model, from a fresh state, and keeps all of it as memory blocks.
#ifndef EIDETIC_SDK_DOCUMENT_READER_H_
#define EIDETIC_SDK_DOCUMENT_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "memory/archive.h"
#include "sdk/engine.h"

namespace eidetic::sdk {

struct IngestProgress {
  uint64_t tokens = 0;
  uint64_t total = 0;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  uint64_t committed = 0;
  double seconds = 0;
};

struct IngestOptions {
  std::string collection;
  std::string source;
  // Left open: the collection's own setting; in a new one int8, 1024, 32 and 512 tokens.
  std::optional<kernels::Codec> codec;
  std::optional<int> window, sinks, segment;
  double commit_seconds = 2;
  bool again = false;  // also when its content is the one that is there
  // What the text was extracted from. When only this changed, it is brought up to date and the
  // outcome is kUnchanged.
  memory::DocumentOrigin origin;
  // Called on the caller's thread after each segment, at the end, and before an error is returned.
  // Returns false to stop; what was read so far is then committed.
  std::function<bool(const IngestProgress&)> progress;
};

enum class IngestOutcome { kAdded = 0, kReplaced = 1, kUnchanged = 2, kResumed = 3 };

struct IngestResult {
  IngestOutcome outcome = IngestOutcome::kAdded;
  memory::DocumentId document = 0;
  uint64_t tokens = 0;
  uint64_t tokens_read = 0;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  double seconds = 0;
};

// kInvalidArgument: empty or binary text, or a setting that is not the collection's (says both);
// kFingerprintMismatch: the collection is another model's;
// kCancelled; errors of the archive. Stores on a thread of its own, which ends before this returns.
// Thread-safe.
memory::Result<IngestResult> IngestDocument(const Engine& engine, memory::Archive* archive,
                                            std::string_view text, const IngestOptions& options);

// Without a model: kUnchanged when the text is there as it is, with what else IngestDocument does
// then; kNotFound when it would have to be read. Whose the collection is, is not looked at.
memory::Result<IngestResult> IngestUnchanged(memory::Archive* archive, std::string_view text,
                                             const IngestOptions& options);

// As IngestDocument for a text that was checked and whose hex SHA-256 is `hash`, into a collection,
// or its next generation, that is there; whatever is there of that source. Outcome: kAdded or
// kResumed. Of the options the collection and how it is read have no part in it.
memory::Result<IngestResult> ReadDocument(const Engine& engine, memory::Archive* archive,
                                          const memory::CollectionRecord& collection,
                                          std::string_view text, const std::string& hash,
                                          const IngestOptions& options);

// OK when `text` is not empty and plain UTF-8 text; otherwise says at which byte it is not.
memory::Status CheckText(std::string_view text, const std::string& source);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_DOCUMENT_READER_H_
