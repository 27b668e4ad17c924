// How attention layers read a whole sequence at once (model/sequence_attention.h): the published
// method, its variants and the baselines it is compared with.
//
// No Torch in here: hybrid_model.h offers these options to programs without LibTorch.
#ifndef EIDETIC_MODEL_SEQUENCE_OPTIONS_H_
#define EIDETIC_MODEL_SEQUENCE_OPTIONS_H_

#include <cstdint>
#include <optional>
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
};

struct SequenceAttentionOptions {
  SequenceMode mode = SequenceMode::kPaper;

  // kPaper and its variants. M, tokens per chunk, counted from the first token of the sequence; the
  // last chunk may be shorter. With several sizes each call draws one by its seed, as the hybrids
  // of the paper were trained with {2048, 4096}; a comparison wants one size.
  std::vector<int> chunk_sizes = {4096};
  int block_tokens = 32;  // S
  int span_blocks = 8;    // k: at most so many blocks are chosen for a chunk
  // True: one choice of blocks for all heads. False: one for each key head.
  bool one_choice_for_all_heads = false;

  int groups = 4;     // kShiftedSparse: a group has L / groups tokens, rounded up
  int window = 4096;  // kWindow: W
  double scale = 0;  // of query times key; 0: 1 / sqrt(head_dim), or what a whole model's file says
  uint64_t seed = 0;  // of kPaperRandom and of several chunk sizes: the same seed, the same draws
};

// The name beside the mode above: for command lines and reports.
std::string_view SequenceModeName(SequenceMode mode);
std::optional<SequenceMode> FindSequenceMode(std::string_view name);

// Throws Error kInvalidArgument, which names the option and its value. Options that the mode does
// not read are not looked at.
void CheckSequenceOptions(const SequenceAttentionOptions& options);

// The M that a call with these options uses.
int64_t ChunkOfCall(const SequenceAttentionOptions& options);

// A seed for one layer out of a seed for the model, so that layers draw apart.
uint64_t SeedOfLayer(uint64_t seed, int layer);

// `count` different numbers out of 0 .. candidates - 1, ascending, every subset as likely as any
// other; all of them where there are no more. Takes its randomness from `state` and moves it on.
// The same on every machine and standard library (rule 9).
std::vector<int64_t> DrawSubset(int64_t candidates, int64_t count, uint64_t* state);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SEQUENCE_OPTIONS_H_
