// How attention layers read a whole sequence at once (model/sequence_attention.h): the published
// method, its variants and the baselines it is compared with.
//
// No Torch in here: hybrid_model.h offers these options to programs without LibTorch.
#ifndef EIDETIC_MODEL_SEQUENCE_OPTIONS_H_
#define EIDETIC_MODEL_SEQUENCE_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace eidetic::model {

enum class SequenceMode : uint8_t {
  kFull,           // "full": every token sees all tokens up to itself
  kWindow,         // "window": the last `window` tokens, itself among them; no sinks
  kShiftedSparse,  // "s2": groups of tokens, cut half a group later for half of the heads
  kPaper,          // "paper": the token's chunk up to itself, and the blocks its chunk chose
  kPaperRandom,    // "paper-random": as kPaper, but the blocks are drawn
  kPaperNoMemory,  // "paper-no-memory": the token's chunk alone
  kPaperLandmark,  // "paper-landmark": as kPaper, but a block's summary is its last token's key
  kStream,         // "se-stream": as a stream reads a text in segments, its span on
};

// Blocks of a span of so many that bring the one after them, where nothing else is said.
constexpr int DefaultSuccessors(int span_blocks) {
  return span_blocks / 4;
}

// kStream. The sequence is read in segments as HybridModel's AttentionMode::kStream reads a text
// whose evicted blocks are searched; the defaults are those of inference (AttentionOptions,
// memory/retriever.h). See model/stream_attention.h.
struct StreamReading {
  int segment = 512;              // tokens that choose a span and attend together
  int window = 1024;              // tokens kept; up to block_tokens - 1 more wait for a whole block
  int sinks = 32;                 // first tokens, always attended; a multiple of block_tokens
  int query_offset = 1024;        // rotary distance of scoring queries
  int representative_tokens = 8;  // keys in a mean; divides block_tokens
  int votes = 16;                 // representatives that a query token and head votes for
  int candidates = 128;           // blocks that are rescored on their keys; at least span_blocks
  int span_blocks = 16;           // k; 0: no span
  int successors = -1;            // blocks that bring the one after them; negative: the default
  std::vector<int> span_layers;   // of a whole model: the layers with a span; empty: all
};

struct SequenceAttentionOptions {
  SequenceMode mode = SequenceMode::kPaper;

  // kPaper and its variants (kPaperLandmark among them). M, tokens per chunk, counted from the
  // first token of the sequence; the last chunk may be shorter. With several sizes each call draws
  // one by its seed, as the hybrids of the paper were trained with {2048, 4096}; a comparison wants
  // one size.
  std::vector<int> chunk_sizes = {4096};
  int block_tokens = 32;  // S, of kStream too
  int span_blocks = 8;    // k: at most so many blocks are chosen for a chunk
  // True: one choice of blocks for all heads. False: one for each key head.
  bool one_choice_for_all_heads = false;

  int groups = 4;     // kShiftedSparse: a group has L / groups tokens, rounded up
  int window = 4096;  // kWindow: W
  double scale = 0;  // of query times key; 0: 1 / sqrt(head_dim), or what a whole model's file says
  StreamReading stream;  // kStream
  uint64_t seed = 0;  // of kPaperRandom and of several chunk sizes: the same seed, the same draws
};

// The name beside the mode above: for command lines and reports.
std::string_view SequenceModeName(SequenceMode mode);
// By that name, or by another in use for training: "se" is "paper", "se-random", "se-no-memory" and
// "se-landmark" are its variants.
std::optional<SequenceMode> FindSequenceMode(std::string_view name);

// The name of the mode in training: "se" of "paper".
std::string TrainingModeName(SequenceMode mode);

// Whether `mode` reads the option: "chunk", "block", "span-blocks", "one-choice", "groups",
// "window", "segment", "sinks", "candidates", "query-offset" or "span-layers". Every mode reads an
// option of another name.
bool ReadsOption(SequenceMode mode, std::string_view option);
// The modes that read it, by their names in training.
std::vector<std::string> ModesThatRead(std::string_view option);

// Throws Error kInvalidArgument, which names the option and its value. Options that the mode does
// not read are not looked at.
void CheckSequenceOptions(const SequenceAttentionOptions& options);

// The M that a call with these options uses.
int64_t ChunkOfCall(const SequenceAttentionOptions& options);

// What one attention layer of a model reads with: `scale` where the options say none, a seed of its
// own, and no span in a layer that kStream's span_layers leave out.
SequenceAttentionOptions OptionsOfLayer(const SequenceAttentionOptions& options, double scale,
                                        int layer);

// A seed for one layer out of a seed for the model, so that layers draw apart.
uint64_t SeedOfLayer(uint64_t seed, int layer);

// `count` different numbers out of 0 .. candidates - 1, ascending, every subset as likely as any
// other; all of them where there are no more. Takes its randomness from `state` and moves it on.
// The same on every machine and standard library (rule 9).
std::vector<int64_t> DrawSubset(int64_t candidates, int64_t count, uint64_t* state);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SEQUENCE_OPTIONS_H_
