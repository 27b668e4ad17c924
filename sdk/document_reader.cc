#include "sdk/document_reader.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "memory/hash.h"
#include "model/utf8.h"
#include "sdk/background_writer.h"
#include "sdk/clock.h"
#include "sdk/error_wall.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

// How the documents of a new collection are read.
constexpr int kWindow = 1024;
constexpr int kSinks = 32;
constexpr int kSegment = 512;

// What every document is read behind, so that it and not the document's first words becomes the
// attention sinks: exactly `sinks` tokens of a neutral sentence. Sinks draw attention from every
// query and would stand before the right passage in every span and every list of sources
// (docs/decisions/054).
Result<std::vector<int32_t>> SinkTokens(const model::Tokenizer& tokenizer, int sinks) {
  const std::vector<int32_t> sentence =
      tokenizer.Encode("The text of a document follows.\n", /*special=*/false);
  if (sentence.empty() && sinks > 0) {
    return Status(Code::kUnsupported, "the model's tokenizer has no tokens for plain English",
                  "ingest without sinks, or use another model");
  }
  std::vector<int32_t> tokens;
  for (int i = 0; i < sinks; ++i) tokens.push_back(sentence[i % sentence.size()]);
  return tokens;
}

Status CheckOptions(const IngestOptions& options) {
  if (options.commit_seconds >= 0) return Status();  // NaN is refused too
  return Status(Code::kInvalidArgument,
                "commit_seconds is " + std::to_string(options.commit_seconds) +
                    ", must be 0 (after every segment) or more",
                "correct it, or leave it 0 for the default");
}

// The collection to read into, made when it is not there. `engine` may be null: of a collection
// that is there.
Result<memory::CollectionRecord> CollectionFor(const Engine* engine, const IngestOptions& options,
                                               memory::Archive* archive) {
  memory::CollectionRecord wanted;
  wanted.name = options.collection;
  wanted.window = kWindow;
  wanted.sinks = kSinks;
  wanted.segment = kSegment;
  kernels::Codec codec = kernels::Codec::kInt8;
  const Result<memory::CollectionRecord> there = archive->Collection(options.collection);
  if (there.ok()) {
    wanted = *there;
    codec = there->layout.codec;
  } else if (there.status().code() != Code::kNotFound || engine == nullptr) {
    return there.status();
  }
  codec = options.codec.value_or(codec);
  if (engine != nullptr) {
    wanted.layout = engine->LayoutOf({}, codec);
  } else {
    wanted.layout.codec = codec;
  }
  wanted.window = options.window.value_or(wanted.window);
  wanted.sinks = options.sinks.value_or(wanted.sinks);
  wanted.segment = options.segment.value_or(wanted.segment);
  return archive->EnsureCollection(wanted);
}

// What is done about a document whose text is there as it is.
Result<IngestResult> TakeUnchanged(const memory::DocumentRecord& present,
                                   const IngestOptions& options, memory::Archive* archive) {
  // What an interrupted change left behind will not be gone on with.
  EID_RETURN_IF_ERROR(
      archive->RemoveUnfinished(options.collection, options.source, present.content_hash));
  EID_RETURN_IF_ERROR(archive->UpdateOrigin(present.id, options.origin));
  IngestResult result;
  result.outcome = IngestOutcome::kUnchanged;
  result.document = present.id;
  result.tokens = present.tokens;
  result.blocks = present.committed_blocks;
  // A word index that was lost or damaged is made again; it is a cache: its trouble is no error.
  static_cast<void>(archive->UpdateWords(options.collection).ok());
  return result;
}

// One document on its way through the model.
class DocumentRun {
 public:
  // `offsets` has one entry more than `tokens`: the end of the text.
  DocumentRun(const Engine& engine, const IngestOptions& options,
              const memory::CollectionRecord& collection, std::vector<int32_t> tokens,
              std::vector<uint64_t> offsets, memory::DocumentWriter* writer)
      : engine_(engine),
        options_(options),
        collection_(collection),
        writer_(writer),
        start_(Clock::now()),
        tokens_(std::move(tokens)),
        offsets_(std::move(offsets)) {}

  uint64_t tokens_read() const { return tokens_read_; }

  Status Read() {
    Status status = BehindWall([&] { return ReadAll(); });
    // What was committed before an error is told all the same.
    if (!status.ok() && store_) Report();
    return status;
  }

 private:
  Status ReadAll() {
    EID_RETURN_IF_ERROR(Begin());
    Clock::time_point last_commit = Clock::now();
    while (state_->position() < tokens_.size()) {
      const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(state_->position());
      const auto count = std::min<std::ptrdiff_t>(collection_.segment, tokens_.end() - begin);
      model::ForwardOptions forward;
      forward.sink = &*store_;
      // So that little is left to store when the last segment has been read.
      forward.hand_over_at_once = true;
      forward.logit_rows = 0;
      engine_.model().Forward(std::vector<int32_t>(begin, begin + count), state_.get(), forward,
                              nullptr);
      tokens_read_ += static_cast<uint64_t>(count);
      const bool go_on = Report();
      if (state_->position() == tokens_.size()) break;  // finishing commits, and comes next
      if (!go_on || SecondsSince(last_commit) >= options_.commit_seconds) {
        // The state as it is now: the model goes on while it is written.
        EID_RETURN_IF_ERROR(store_->Commit(state_->position(), state_->Serialize()));
        last_commit = Clock::now();
      }
      if (!go_on) {
        EID_RETURN_IF_ERROR(store_->Drain());
        return Cancelled();
      }
    }
    engine_.model().Flush(state_.get(), &*store_);
    EID_RETURN_IF_ERROR(store_->Finish());
    // An answer of "stop", also to the report before, comes too late: the document is complete.
    Report();
    return Status();
  }

  // A fresh state, or the one of the last commit.
  Status Begin() {
    EID_ASSIGN_OR_RETURN(std::string resume, writer_->ResumeState());
    if (!resume.empty()) {
      state_ = engine_.model().RestoreState(resume);
    } else {
      model::AttentionOptions attention;
      attention.mode = model::AttentionMode::kWindow;
      attention.window = collection_.window;
      attention.sinks = collection_.sinks;
      attention.block_tokens = collection_.layout.block_tokens;
      state_ = engine_.model().NewState(attention);
    }
    store_.emplace(
        collection_.layout, [this](uint64_t position) { return offsets_[position]; }, writer_,
        state_->position());
    return Status();
  }

  bool Report() {
    if (!options_.progress) return true;
    const StoredProgress stored = store_->stored();
    IngestProgress progress;
    progress.tokens = state_->position();
    progress.total = tokens_.size();
    progress.blocks = stored.blocks;
    progress.bytes = stored.bytes;
    progress.committed = stored.committed;
    progress.seconds = SecondsSince(start_);
    return options_.progress(progress);
  }

  Status Cancelled() const {
    return Status(Code::kCancelled,
                  "reading '" + options_.source + "' was stopped after " +
                      std::to_string(state_->position()) + " of " + std::to_string(tokens_.size()) +
                      " tokens; they are kept",
                  "run the same command again to go on from there");
  }

  const Engine& engine_;
  const IngestOptions& options_;
  const memory::CollectionRecord& collection_;
  memory::DocumentWriter* writer_;
  Clock::time_point start_;
  std::vector<int32_t> tokens_;
  std::vector<uint64_t> offsets_;  // [tokens + 1]
  std::unique_ptr<model::ModelState> state_;
  uint64_t tokens_read_ = 0;
  std::optional<BackgroundWriter> store_;  // the last member: its thread uses the others
};

}  // namespace

Status CheckText(std::string_view text, const std::string& source) {
  if (text.empty()) {
    return Status(Code::kInvalidArgument, "'" + source + "' is empty",
                  "ingest a document with text in it");
  }
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "'" + source + "' is not text: byte " + std::to_string(zero) + " is zero",
                  "convert the document to UTF-8 text first");
  }
  if (const size_t bad = model::FindInvalidUtf8(text); bad != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "'" + source + "' is not UTF-8: the sequence at byte " + std::to_string(bad) +
                      " is invalid",
                  "convert the document to UTF-8 text first, for instance with iconv");
  }
  return Status();
}

Result<IngestResult> ReadDocument(const Engine& engine, memory::Archive* archive,
                                  const memory::CollectionRecord& collection, std::string_view text,
                                  const std::string& hash, const IngestOptions& options) {
  return BehindWall([&]() -> Result<IngestResult> {
    const Clock::time_point start = Clock::now();
    IngestResult result;
    std::vector<uint64_t> offsets;
    const std::vector<int32_t> words = engine.tokenizer().EncodeWithOffsets(text, &offsets);
    if (words.empty()) {
      return Status(Code::kInvalidArgument,
                    "'" + options.source + "' has no text that the model has tokens for",
                    "ingest a document with text in it");
    }
    EID_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                         SinkTokens(engine.tokenizer(), collection.sinks));
    offsets.insert(offsets.begin(), tokens.size(), 0);
    offsets.push_back(text.size());
    tokens.insert(tokens.end(), words.begin(), words.end());
    result.tokens = tokens.size();
    EID_ASSIGN_OR_RETURN(std::unique_ptr<memory::DocumentWriter> writer,
                         archive->BeginDocument(collection.name, options.source, hash, text,
                                                tokens.size(), options.origin));
    EID_ASSIGN_OR_RETURN(const std::string reader_state, writer->ResumeState());
    result.outcome = reader_state.empty() ? IngestOutcome::kAdded : IngestOutcome::kResumed;
    DocumentRun run(engine, options, collection, std::move(tokens), std::move(offsets),
                    writer.get());
    EID_RETURN_IF_ERROR(run.Read());
    result.document = writer->document().id;
    result.tokens_read = run.tokens_read();
    result.blocks = writer->document().committed_blocks;
    result.bytes = writer->bytes_written();
    result.seconds = SecondsSince(start);
    return result;
  });
}

Result<IngestResult> IngestDocument(const Engine& engine, memory::Archive* archive,
                                    std::string_view text, const IngestOptions& options) {
  return BehindWall([&]() -> Result<IngestResult> {
    EID_RETURN_IF_ERROR(CheckOptions(options));
    EID_RETURN_IF_ERROR(CheckText(text, options.source));
    EID_ASSIGN_OR_RETURN(const memory::CollectionRecord collection,
                         CollectionFor(&engine, options, archive));
    const std::string hash = memory::Sha256Hex(text);
    EID_ASSIGN_OR_RETURN(const std::optional<memory::DocumentRecord> present,
                         archive->FindDocument(options.collection, options.source));
    if (present && present->content_hash == hash && !options.again) {
      return TakeUnchanged(*present, options, archive);
    }
    EID_ASSIGN_OR_RETURN(IngestResult result,
                         ReadDocument(engine, archive, collection, text, hash, options));
    if (result.outcome == IngestOutcome::kAdded && present) {
      result.outcome = IngestOutcome::kReplaced;
    }
    return result;
  });
}

Result<IngestResult> IngestUnchanged(memory::Archive* archive, std::string_view text,
                                     const IngestOptions& options) {
  return BehindWall([&]() -> Result<IngestResult> {
    EID_RETURN_IF_ERROR(CheckOptions(options));
    EID_RETURN_IF_ERROR(CheckText(text, options.source));
    EID_RETURN_IF_ERROR(CollectionFor(nullptr, options, archive).status());
    EID_ASSIGN_OR_RETURN(const std::optional<memory::DocumentRecord> present,
                         archive->FindDocument(options.collection, options.source));
    if (present && present->content_hash == memory::Sha256Hex(text) && !options.again) {
      return TakeUnchanged(*present, options, archive);
    }
    return Status(Code::kNotFound,
                  "'" + options.source + "' is not in collection '" + options.collection +
                      "' as it is: it must be read",
                  "ingest it with an engine");
  });
}

}  // namespace eidetic::sdk
