// A language model of Mamba-2 and attention layers in the order its file says, and the state it
// carries along a stream of tokens. A pure attention model is the case without Mamba layers.
//
// This header has no Torch in it: who uses the model need not compile against LibTorch.
#ifndef EIDETIC_MODEL_HYBRID_MODEL_H_
#define EIDETIC_MODEL_HYBRID_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/seams.h"
#include "model/sequence_options.h"

namespace eidetic::model {

class Checkpoint;

enum class AttentionMode : uint8_t {  // values stand in saved states
  kFull = 0,                          // everything since the stream began
  kWindow = 1,                        // [sinks | window | segment]
  kStream = 2,  // [sinks | span | window | segment], rotary positions compact in that order
};

struct AttentionOptions {
  AttentionMode mode = AttentionMode::kStream;
  int window = 1024;      // tokens kept; up to block_tokens - 1 more wait for a whole block
  int sinks = 32;         // first tokens of the stream, always attended; a multiple of block_tokens
  int block_tokens = 32;  // S
  int query_offset = 1024;       // rotary distance of scoring queries
  std::vector<int> span_layers;  // model layers that ask for a span; ascending

  bool operator==(const AttentionOptions&) const = default;
};

// The state of one stream: per attention layer keys and values, per Mamba layer the SSM state and
// the convolution's last inputs (fp32), and the position. Belongs to one thread at a time.
class ModelState {
 public:
  virtual ~ModelState() = default;
  virtual uint64_t position() const = 0;  // tokens read
  virtual const AttentionOptions& options() const = 0;
  // Tokens that are in sinks and window now, and their first positions.
  virtual uint64_t window_begin() const = 0;  // position of the window's first token
  virtual uint64_t sink_count() const = 0;    // sinks there are by now: positions 0 and on
  // Versioned; docs/formats/session.md. Throws kInvalidArgument after a Forward that threw.
  virtual std::string Serialize() const = 0;
  // The same in two parts, so that keys and values can be written once: everything but these, and
  // those of tokens begin..end, which are all sinks or all in the window: fp32 [attention layers,
  // 2, kv_heads, end - begin, head_dim], keys before rotation. Throws likewise, and for other
  // tokens.
  virtual std::string SerializeRecurrent() const = 0;
  virtual std::string SerializeRows(uint64_t begin, uint64_t end) const = 0;
  virtual uint64_t bytes() const = 0;
};

// Bytes of ModelState::SerializeRows.
struct StateRows {
  uint64_t begin = 0, end = 0;
  std::string bytes;
};

struct ForwardOptions {
  SpanSource* span = nullptr;  // asked by span layers in mode kStream; null: the span is off
  BlockSink* sink = nullptr;   // gets what leaves the window; null: it is dropped
  // Whole blocks go to the sink as soon as they are read (once the sinks are complete), and stay in
  // the window as long as ever: for a reader whose blocks nobody searches while it reads.
  bool hand_over_at_once = false;
  bool report_attention = false;  // call SpanSource::Attended
  int64_t logit_rows = 1;         // logits of the last so many tokens, 0 .. L
  // Becomes [L - 1]: -ln p(token i + 1 | all up to token i), in nats. Null: not wanted.
  std::vector<double>* losses = nullptr;
};

struct SequenceForwardOptions {
  SequenceAttentionOptions attention;  // scale 0: what the model's file says
  int64_t logit_rows = 1;              // logits of the last so many tokens, 0 .. L
  bool losses = false;
};

struct SequenceOutput {
  std::vector<float> logits;   // [logit_rows, vocabulary], oldest first
  std::vector<double> losses;  // [L - 1] if wanted: -ln p(token i + 1 | tokens 0 .. i)
};

struct LoadOptions {
  std::string device = "cpu";  // "cpu", "cuda", "cuda:N"
  int threads = 0;             // of LibTorch on the CPU; 0: one per core
  std::optional<RotaryScaling> rotary_scaling = std::nullopt;  // in place of the checkpoint's
};

// Immutable and thread-safe: any number of streams at once.
class HybridModel {
 public:
  // Throws Error: kUnsupported (architecture, device), kCorruption (tensors missing, of a wrong
  // shape or not finite).
  static std::shared_ptr<const HybridModel> Load(const Checkpoint& checkpoint,
                                                 const LoadOptions& options);
  static std::shared_ptr<const HybridModel> Load(std::shared_ptr<const GgufFile> file,
                                                 const LoadOptions& options);
  // `checkpoint` is the one this model was loaded from, with an adapter. What the adapter leaves
  // alone is this model's own memory, shared; device and threads are this model's. Computes, to the
  // bit, what the same checkpoint loaded on its own computes. Throws as Load does.
  virtual std::shared_ptr<const HybridModel> LoadAdapted(const Checkpoint& checkpoint) const = 0;
  virtual ~HybridModel() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const std::string& device() const = 0;
  virtual uint64_t weight_bytes() const = 0;         // of its own
  virtual uint64_t shared_weight_bytes() const = 0;  // of those that it shares with its base
  // Throws kInvalidArgument for options out of range.
  virtual std::unique_ptr<ModelState> NewState(const AttentionOptions& options) const = 0;
  // Throws kMismatch (another model's state) or kCorruption.
  virtual std::unique_ptr<ModelState> RestoreState(const std::string& bytes) const = 0;
  // Out of SerializeRecurrent's bytes, and those of SerializeRows for all sinks and the whole
  // window, ascending. Throws likewise.
  virtual std::unique_ptr<ModelState> RestoreState(const std::string& recurrent,
                                                   const std::vector<StateRows>& rows) const = 0;
  // The same stream once more, to the bit and logits included, with memory of its own: what one
  // reads later the other does not see. Throws as Forward for a state that cannot go on.
  virtual std::unique_ptr<ModelState> CopyState(const ModelState& state) const = 0;
  // The logits after the token that `state` read last, as Forward gives them where they are all it
  // is asked for, to the bit (among others' rows they may round otherwise); null: only tells
  // whether they are known. They are not when nothing was read, or the state was restored out of
  // Serialize's bytes and has read nothing since.
  virtual bool Logits(const ModelState& state, std::vector<float>* logits) const = 0;

  // Reads 1..N tokens as one segment: all of them see sinks, span and window, and each other
  // causally. Then what exceeds the window goes to the sink. `logits` becomes [logit_rows,
  // vocabulary], fp32, oldest first; with logit_rows 0 it stays as it is and may be null. Logits
  // and losses are made a few rows at a time, losses on the model's device. Throws kInvalidArgument
  // and leaves `state` as it was for zero tokens, an unknown id, logit_rows out of range, or no
  // place for logits. Any other throw leaves `state` unusable: restore or drop it.
  virtual void Forward(const std::vector<int32_t>& tokens, ModelState* state,
                       const ForwardOptions& options, std::vector<float>* logits) const = 0;

  // Reads a whole sequence from a fresh state and keeps nothing: the published method and its
  // baselines (model/sequence_attention.h), for perplexity and for retrieval at evaluation. Memory
  // beside the weights is linear in the sequence's length, in every mode; logits are made a few
  // rows at a time. Mode kFull computes what Forward in AttentionMode::kFull does. Throws
  // kInvalidArgument for zero tokens, an unknown id, or options out of range.
  virtual SequenceOutput ForwardSequence(const std::vector<int32_t>& tokens,
                                         const SequenceForwardOptions& options) const = 0;

  // Hands everything not yet handed over (window, unfinished block, sinks of a short stream) to the
  // sink, oldest first, as one or more runs. The state can then be saved but not forwarded.
  virtual void Flush(ModelState* state, BlockSink* sink) const = 0;

  // Rotary settings, layer order and the version of the compute graph, for the fingerprint.
  virtual std::string FingerprintBytes() const = 0;
};

// The same of a model that is not loaded.
std::string GraphFingerprint(const ModelConfig& config);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_HYBRID_MODEL_H_
