// A session: one stream of tokens with its window, its recurrent state and what it can recall.
// Start here to follow a token through the system: Append and Generate call the model, the model
// hands what leaves the window to the session's BlockWriter and asks its Recall for the span
// (sdk/memory_bridge.h).
#ifndef EIDETIC_SDK_SESSION_H_
#define EIDETIC_SDK_SESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/archive.h"
#include "model/sampler.h"
#include "sdk/clock.h"
#include "sdk/engine.h"
#include "sdk/memory_bridge.h"
#include "sdk/own_words.h"
#include "sdk/passages.h"
#include "sdk/turn_log.h"

namespace eidetic::sdk {

// A block that words pinned (memory/span_choice.h), as it is kept.
struct SavedPin {
  std::string collection;  // empty: the session's own past
  memory::LineageId lineage = 0;
  uint64_t position = 0;
  double score = 0;
};

struct CommittedTurn {
  uint64_t turn = 0;    // its number, from 1
  uint64_t tokens = 0;  // read in this turn
  uint64_t bytes = 0;   // written for this turn, its new blocks included; 0: there was nothing new
  double seconds = 0;   // of the commit
};

struct SessionRecord;
struct TurnResume;

enum class SessionMode { kStream = 0, kWindow = 1, kFull = 2, kRandom = 3 };
const char* SessionModeName(SessionMode mode);

struct SessionOptions {
  SessionMode mode = SessionMode::kStream;
  int window = 1024;
  int sinks = 32;
  int segment = 512;
  int span_blocks = 16;
  int candidate_blocks = 128;  // 0: no rescoring
  int successor_blocks = 0;    // of a choice, that bring the block after them
  double linger = 0;           // part of the last token's choice that still counts
  int query_offset = 1024;
  // Span layers in a row that share one choice of blocks, the first one's, while no collection is
  // attached; 1: each its own.
  int layer_group = 1;
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

// Of a session that is being opened: who is told how much is read again.
struct OpeningProgress {
  std::function<bool(const AppendProgress&)> tell;
  AppendProgress progress{};
  Clock::time_point start = Clock::now();
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
  // an archive that was opened read-only it goes on in RAM, and cannot be saved. `progress` (may be
  // empty) is told of the tokens that are read again for it, after each pass, and stops that by
  // returning false: kCancelled.
  static memory::Result<std::unique_ptr<Session>> Open(
      std::shared_ptr<const Engine> engine, std::shared_ptr<memory::Archive> archive,
      const std::string& name, std::function<bool(const AppendProgress&)> progress = {});
  ~Session();

  memory::Status Attach(std::shared_ptr<memory::Archive> archive, const std::string& collection);
  // Reads tokens in segments. With `use_span` they may recall; a new answer's record begins, and
  // where the policy asks for it, the places that speak of `words` (empty: of the tokens' text) are
  // pinned until the next such call. `losses` (may be null) gets one number for each token that was
  // read: its negative log-likelihood, in nats, given all before it; NaN for the first token of a
  // session. `keep_beginning`: the state after these tokens is the engine's to keep, and taken from
  // there instead of reading them (KeptBeginnings), where they are the session's first, read with
  // the span off and without losses, and neither segment nor window is shorter; else it does
  // nothing.
  memory::Status Append(const std::vector<int32_t>& tokens, bool use_span,
                        const std::function<bool(const AppendProgress&)>& progress,
                        std::string_view words = {}, std::vector<float>* losses = nullptr,
                        bool keep_beginning = false);
  // `text` as one message of `role` by the chat template; follows on from what was said before.
  memory::Status AppendMessage(const std::string& role, const std::string& text, bool use_span,
                               const std::function<bool(const AppendProgress&)>& progress,
                               std::string_view words = {});
  memory::Result<GenerateResult> Generate(const GenerateOptions& options);
  // Everything since the last turn becomes one that a kill can no longer lose (rule 2), with the
  // state to go on from: one atomic batch. `name`: at most 255 bytes, may be empty. Without one,
  // and with nothing new, nothing is written.
  memory::Result<CommittedTurn> CommitTurn(const std::string& name);
  memory::Status Save() { return CommitTurn("").status(); }

  memory::Result<std::vector<Passage>> Sources(size_t limit, PassageOrder order) const;
  // After the last token; empty when nothing was read. Made when first asked for: what is only read
  // over, such as the text before a question, costs no pass over the vocabulary. Throws as the
  // model.
  const std::vector<float>& logits() const;
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
  // What a session that is opened sees of its past.
  struct SavedPast {
    std::vector<memory::PathEntry> path;
    memory::LineageId writes = 0;   // the lineage that it goes on; 0: a new one
    uint64_t indexed = UINT64_MAX;  // blocks from this position on are indexed when read again
  };

  Session(std::shared_ptr<const Engine> engine, SessionOptions options,
          std::shared_ptr<memory::Archive> archive);
  memory::Status Begin();
  std::unique_ptr<model::ModelState> NewState() const;
  // As a session was saved before there were turns.
  memory::Status Restore(const std::string& bytes);
  memory::Status CheckRecord(const SessionRecord& record) const;
  memory::Status CheckFingerprint(const std::string& fingerprint) const;
  // Options and tokens of what was saved: nothing of them is taken on trust (rule 6).
  memory::Status CheckSaved(const SessionOptions& options,
                            const std::vector<int32_t>& tokens) const;
  memory::Status DamagedRecord(const std::string& what) const;
  memory::Status OpenOwnMemory(const SavedPast& saved);
  memory::Status OpenLineage(const memory::Layout& layout, const SavedPast& saved);
  memory::Status ReadSavedPast(const SavedPast& saved);
  void MakeSink();
  memory::Status RefreshSources();
  void ShareChoices(bool own_past_alone);
  memory::Status DropForgottenCollections();
  // False when there is no such collection, or another model's: it was migrated since.
  memory::Result<bool> IsOfThisModel(const memory::Archive& archive,
                                     const std::string& collection) const;
  // Lets go of pinned blocks whose documents were removed or replaced (rule 4).
  memory::Status DropRemovedPins();
  memory::Status PinPlacesOf(std::string_view words);
  std::vector<SavedPin> SavedPins() const;
  memory::Status RestorePins(const std::vector<SavedPin>& pins);
  // `own`: how many of the sources are the own past, which stand before `collections`. Nothing of a
  // pin is taken on trust (rules 4 and 6): kCorruption for one of blocks that this session, or the
  // pin's collection, does not have. What was removed, or is not attached, is left out, or, when
  // all are needed, kNotFound that names the block.
  enum class Missing { kLeftOut, kRefused };
  memory::Result<std::vector<memory::PinnedBlock>> PinnedBlocksOf(
      const std::vector<SavedPin>& pins, int own, const std::vector<std::string>& collections,
      Missing missing) const;
  memory::Result<memory::BlockHeader> OwnPinnedBlock(const SavedPin& pin) const;
  // Empty when its document was removed.
  memory::Result<std::optional<memory::BlockHeader>> CollectionPinnedBlock(
      const SavedPin& pin) const;
  memory::Status CheckTokens(const std::vector<int32_t>& tokens) const;
  // Append, but for the turn's log.
  memory::Status Read(const std::vector<int32_t>& tokens, bool use_span,
                      const std::function<bool(const AppendProgress&)>& progress,
                      std::string_view words, std::vector<float>* losses,
                      bool keep_beginning = false);
  // Read of checked tokens, without a search by words.
  memory::Status AppendTokens(const std::vector<int32_t>& tokens, bool use_span,
                              const std::function<bool(const AppendProgress&)>& progress,
                              std::vector<float>* losses = nullptr, bool keep_beginning = false);
  // Attachments follow the own past among Recall's sources.
  int FirstAttachment() const { return static_cast<int>(past_.size()); }
  std::string TextOf(uint64_t token_begin, uint64_t token_end) const;
  // Of a segment that was read: its first token, which the logits before it tell the loss of; the
  // losses of the others; and the logits behind it.
  void TakeLosses(int32_t first, const std::vector<double>& inner, std::vector<float> last,
                  std::vector<float>* losses);
  void Forward(const std::vector<int32_t>& segment, bool use_span, bool answering,
               std::vector<float>* losses = nullptr, bool keep_beginning = false);
  // Whether the state after `tokens`, the session's first ones, was kept: it is the session's now.
  bool TakeKeptBeginning(const std::vector<int32_t>& tokens);
  void TakeTokens(const std::vector<int32_t>& tokens);

  // session_turns.cc
  memory::Status CheckCanCommit() const;
  // The tokens that no part of the turn has yet, as text.
  std::string UnloggedText() const;
  memory::RecallView CurrentView() const;
  // The keys and values that a turn writes, as they are stored.
  memory::RowsOf WindowRows() const;
  memory::TurnContent ContentSinceCommit(const std::string& recurrent) const;
  memory::Status RestoreTurns(const memory::SessionHead& head);
  memory::Status CheckPath(const memory::SessionHead& head, const SessionOptions& options) const;
  memory::Status ApplyResume(const TurnResume& resume);
  // Reads the tokens of a turn again, from the state before it to the state it left.
  memory::Status Replay(const memory::TurnHeader& turn, const memory::TurnContent& content);
  memory::Status ReplaySources(const memory::RecallView& view);
  memory::Result<std::shared_ptr<const memory::RepresentativeIndex>> IndexOfView(
      const memory::CollectionView& view) const;
  memory::Status ReplayBlock(const memory::Block& block);
  memory::Status ReadDifferently(uint64_t turn) const;
  // Progress of what is read again while the session is opened.
  void TellOpeningTo(std::function<bool(const AppendProgress&)> progress);
  memory::Status TellOpening(uint64_t tokens);
  memory::Status OpeningStopped() const;
  memory::Status CountOpening(const std::vector<memory::TurnContent>& to_read);
  std::function<bool(const AppendProgress&)> OpeningCallback();
  memory::Result<CommittedTurn> CommitLogged(const std::string& name, bool waiting);

  // session_again.cc: turns that wait to be read again, since something before them was forgotten
  memory::Status ReadWaitingTurns();
  memory::Status ReadAgain(const memory::TurnContent& content);
  memory::Status AttachThere(const std::vector<std::string>& collections);

  memory::Status CheckUsable() const;
  std::vector<PassageSource> PassageSources() const;

  std::shared_ptr<const Engine> engine_;
  SessionOptions options_;
  std::shared_ptr<memory::Archive> archive_;  // null: in RAM
  std::vector<Attachment> attachments_;

  // The stream.
  std::unique_ptr<model::ModelState> state_;
  std::vector<int32_t> tokens_;        // everything read
  std::vector<uint64_t> text_ends_;    // [tokens]: bytes of text up to and with each token
  mutable std::vector<float> logits_;  // after the last token, unless they are due
  mutable bool logits_due_ = false;    // `state_` tells them; logits() makes them
  model::Sampler sampler_;
  bool sampler_seeded_ = false;
  bool turn_open_ = false;  // an assistant's turn that no end token closed yet
  bool broken_ = false;

  // Its own past as memory.
  std::unique_ptr<memory::BlockStore> ram_store_;  // when there is no archive to write
  memory::BlockStore* store_ = nullptr;            // of new blocks: that one, or the archive's
  std::unique_ptr<memory::LineageWriter> lineage_;
  std::vector<OwnPast> past_;                 // by position; the last one takes new blocks
  std::vector<memory::PathEntry> past_path_;  // of what was there when it was opened
  std::unique_ptr<BlockWriter> sink_;
  std::unique_ptr<Recall> recall_;
  bool record_open_ = false;  // the record of the answer under way

  // Its turns.
  TurnLog log_;                          // since the last one
  bool dirty_ = false;                   // there is something to commit
  bool logits_apart_ = false;            // the last pass made logits that its state does not tell
  uint64_t committed_turns_ = 0;         // turns so far
  uint64_t committed_blocks_bytes_ = 0;  // of lineage_, written with them
  // While it is read again: its path, the turn (0: none), and the collections as they were.
  std::vector<memory::PathEntry> path_;
  uint64_t replayed_turn_ = 0;
  std::vector<std::pair<memory::CollectionView, std::shared_ptr<const memory::RepresentativeIndex>>>
      replay_indexes_;

  std::optional<OpeningProgress> opening_;  // empty: nobody wants to know

  double forward_seconds_ = 0;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_SESSION_H_
