// A session: one stream of tokens with its window, its recurrent state and what it can recall.
// Start here to follow a token through the system: Append and Generate call the model, the model
// hands what leaves the window to the session's BlockWriter and asks its Recall for the span
// (sdk/memory_bridge.h).
#ifndef EIDETIC_SDK_SESSION_H_
#define EIDETIC_SDK_SESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/archive.h"
#include "model/sampler.h"
#include "sdk/engine.h"
#include "sdk/memory_bridge.h"
#include "sdk/own_words.h"
#include "sdk/passages.h"

namespace eidetic::sdk {

struct SessionRecord;

enum class SessionMode { kStream = 0, kWindow = 1, kFull = 2, kRandom = 3 };
const char* SessionModeName(SessionMode mode);

struct SessionOptions {
  SessionMode mode = SessionMode::kStream;
  int window = 1024;
  int sinks = 32;
  int segment = 512;
  int span_blocks = 16;
  int candidate_blocks = 128;  // 0: no rescoring
  int query_offset = 1024;
  kernels::Codec codec = kernels::Codec::kInt8;
  bool forget_own_past = false;
  std::vector<int> span_layers;  // empty: all attention layers
  memory::RecallPolicy policy = memory::RecallPolicy::kAttention;
  memory::WordShare words;  // when the policy gives words a say
  uint64_t seed = 0;
  std::string name;  // needed when there is an archive

  memory::Status Validate(const model::ModelConfig& config) const;
  // Whether this session recalls anything at all.
  bool HasSpan() const { return mode == SessionMode::kStream || mode == SessionMode::kRandom; }
};

struct AppendProgress {
  uint64_t tokens = 0;
  uint64_t total = 0;
  double seconds = 0;
};

struct GenerateOptions {
  int max_tokens = 256;
  model::SamplingOptions sampling;
  uint64_t seed = 0;
  std::string stop;
  bool memory_off = false;
  bool assistant_turn = false;
  std::function<bool(std::string_view text)> on_text;  // returns false to stop
};

enum class StopReason { kEnd = 0, kLimit = 1, kText = 2, kCaller = 3 };

struct GenerateResult {
  StopReason reason = StopReason::kLimit;
  size_t tokens = 0;
  double seconds = 0;
  double first_token_seconds = 0;
  std::string text;
};

struct SessionRecord;

// Belongs to one thread at a time. After an error in the middle of a forward pass the session
// refuses everything but being freed; what was saved is untouched.
class Session {
 public:
  // A fresh session. With an archive, `options.name` must be new there.
  static memory::Result<std::unique_ptr<Session>> Create(std::shared_ptr<const Engine> engine,
                                                         const SessionOptions& options,
                                                         std::shared_ptr<memory::Archive> archive);
  // A saved one, with its collections attached again. kFingerprintMismatch for another model's. Of
  // an archive that was opened read-only it goes on in RAM, and cannot be saved.
  static memory::Result<std::unique_ptr<Session>> Open(std::shared_ptr<const Engine> engine,
                                                       std::shared_ptr<memory::Archive> archive,
                                                       const std::string& name);
  ~Session();

  memory::Status Attach(std::shared_ptr<memory::Archive> archive, const std::string& collection);
  // Reads tokens in segments. With `use_span` they may recall; a new answer's record begins, and
  // where the policy asks for it, the places that speak of `words` (empty: of the tokens' text) are
  // pinned until the next such call. `losses` (may be null) gets one number for each token that was
  // read: its negative log-likelihood, in nats, given all before it; NaN for the first token of a
  // session.
  memory::Status Append(const std::vector<int32_t>& tokens, bool use_span,
                        const std::function<bool(const AppendProgress&)>& progress,
                        std::string_view words = {}, std::vector<float>* losses = nullptr);
  // `text` as one message of `role` by the chat template; follows on from what was said before.
  memory::Status AppendMessage(const std::string& role, const std::string& text, bool use_span,
                               const std::function<bool(const AppendProgress&)>& progress,
                               std::string_view words = {});
  memory::Result<GenerateResult> Generate(const GenerateOptions& options);
  memory::Status Save();

  memory::Result<std::vector<Passage>> Sources(size_t limit, PassageOrder order) const;
  const std::vector<float>& logits() const { return logits_; }
  std::string InfoJson() const;
  const SessionOptions& options() const { return options_; }
  const Engine& engine() const { return *engine_; }

 private:
  // Blocks of this session, and the store they are in.
  struct OwnPast {
    std::unique_ptr<memory::RepresentativeIndex> index;
    const memory::BlockStore* store = nullptr;
    OwnWords words{};
  };
  // A collection that can be recalled from.
  struct Attachment {
    std::shared_ptr<memory::Archive> archive;
    std::string collection;
    std::shared_ptr<const memory::RepresentativeIndex> index;
  };

  Session(std::shared_ptr<const Engine> engine, SessionOptions options,
          std::shared_ptr<memory::Archive> archive);
  memory::Status Begin();
  memory::Status Restore(const std::string& bytes);
  memory::Status CheckRecord(const SessionRecord& record) const;
  std::string Serialize() const;
  memory::Status OpenOwnMemory(memory::LineageId saved_lineage);
  memory::Status OpenLineage(const memory::Layout& layout, memory::LineageId saved_lineage);
  memory::Status ReadSavedPast(memory::LineageId saved_lineage);
  void MakeSink();
  memory::Status RefreshSources();
  // Lets go of pinned blocks whose documents were removed or replaced (rule 4).
  memory::Status DropRemovedPins();
  memory::Status PinPlacesOf(std::string_view words);
  memory::Status RestorePins(const SessionRecord& record);
  memory::Status CheckTokens(const std::vector<int32_t>& tokens) const;
  // Append of checked tokens, without a search by words.
  memory::Status AppendTokens(const std::vector<int32_t>& tokens, bool use_span,
                              const std::function<bool(const AppendProgress&)>& progress,
                              std::vector<float>* losses = nullptr);
  // Attachments follow the own past among Recall's sources.
  int FirstAttachment() const { return static_cast<int>(past_.size()); }
  std::string TextOf(uint64_t token_begin, uint64_t token_end) const;
  void TakeLosses(const std::vector<int32_t>& segment, const std::vector<float>& logits,
                  std::vector<float>* losses);
  void Forward(const std::vector<int32_t>& segment, bool use_span, bool answering,
               std::vector<float>* losses = nullptr);
  memory::Status CheckUsable() const;
  std::vector<PassageSource> PassageSources() const;

  std::shared_ptr<const Engine> engine_;
  SessionOptions options_;
  std::shared_ptr<memory::Archive> archive_;  // null: in RAM
  std::vector<Attachment> attachments_;

  // The stream.
  std::unique_ptr<model::ModelState> state_;
  std::vector<int32_t> tokens_;      // everything read
  std::vector<uint64_t> text_ends_;  // [tokens]: bytes of text up to and with each token
  std::vector<float> logits_;        // after the last token
  model::Sampler sampler_;
  bool sampler_seeded_ = false;
  bool turn_open_ = false;  // an assistant's turn that no end token closed yet
  bool broken_ = false;

  // Its own past as memory.
  std::unique_ptr<memory::BlockStore> ram_store_;  // when there is no archive to write
  memory::BlockStore* store_ = nullptr;            // of new blocks: that one, or the archive's
  std::unique_ptr<memory::LineageWriter> lineage_;
  std::vector<OwnPast> past_;  // by position; the last one takes new blocks
  std::unique_ptr<BlockWriter> sink_;
  std::unique_ptr<Recall> recall_;
  bool record_open_ = false;  // the record of the answer under way
  double forward_seconds_ = 0;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_SESSION_H_
